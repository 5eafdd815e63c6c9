//! Two daemons on one store: one acts, both answer.

use serde_json::json;

use super::daemon::{BRISK, Daemon};
use crate::cli::program::until;
use crate::cli::scene::Scene;

const STATUS: &str = "/api/v1/monitoring/monitor/status";

#[test]
fn the_other_one_takes_over_when_the_acting_one_is_killed() {
    let scene = Scene::with_config(&format!(
        "{BRISK}  timeout_levels: {{warning: 1, soft_timeout: 7000, hard_timeout: 8000}}\n"
    ));
    let first = Daemon::start(&scene);
    first.until_it_acts();
    let second = Daemon::start(&scene);
    assert_eq!(second.api().get(STATUS).body["is_acting"], false);
    first.kill();
    second.until_it_acts();
    let _held = second.api().acquire("asr", 60.0);
    second.until_it_says("asr reaches its warning");
}

#[test]
fn both_give_the_same_figures_and_a_later_one_too() {
    let scene = Scene::with_config(BRISK);
    let first = Daemon::start(&scene);
    let second = Daemon::start(&scene);
    for _ in 0..3 {
        let lease = first.api().acquire("asr", 60.0);
        first.api().give_back(&lease).expect(204);
    }
    let figures = |daemon: &Daemon| {
        daemon.api().get("/api/v1/monitoring/statistics").body["gpu_lock"].clone()
    };
    let known = figures(&first);
    assert_eq!(known["total_attempts"], 3);
    until("the other one sees it too", || figures(&second) == known);
    first.stop();
    second.stop();
    let third = Daemon::start(&scene);
    assert_eq!(figures(&third), known);
    assert!(third.api().get(STATUS).body["healthy_checks"].as_u64().unwrap() > 0);
}

#[test]
fn a_stop_counts_for_all_and_so_does_a_start() {
    let scene = Scene::with_config(BRISK);
    let (first, second) = (Daemon::start(&scene), Daemon::start(&scene));
    let acts = |daemon: &Daemon| daemon.api().get(STATUS).body["is_acting"] == true;
    until("one acts", || acts(&first) || acts(&second));
    let because = json!({ "reason": "maintenance" });
    let stopped = first.api().post("/api/v1/monitoring/monitor/stop", because).expect(200).body;
    assert_eq!(stopped["status"], "stopped");
    assert!(stopped["stopped_because"].as_str().unwrap().contains("maintenance"));
    until("none acts", || !acts(&first) && !acts(&second));
    until("the other one says so", || second.api().get(STATUS).body["status"] == "stopped");
    second.api().post("/api/v1/monitoring/monitor/start", json!({})).expect(200);
    until("one acts again", || acts(&first) || acts(&second));
}

//! A lease that is held for long: warned of, asked to stop, seized.

use serde_json::Value;

use super::daemon::Daemon;
use crate::cli::program::until;
use crate::cli::scene::Scene;

/// Holds on although it is asked to stop.
const DEAF: &str = "trap '' TERM; echo $$ > hog.pid; while :; do sleep 0.05; done";

fn scene(levels: &str, more: &str) -> Scene {
    let mut scene = Scene::with_config(&format!(
        "gpus: [0]\ngpu_lock_monitor:\n  timeout_levels: {levels}\n  heartbeat: {{interval: 1, timeout: 20}}\n{more}"
    ));
    scene.set_lock("stop_grace", "200ms");
    scene
}

fn levels_in(history: &Value) -> Vec<&str> {
    let events = history["events"].as_array().unwrap().iter().rev();
    let of_hog = events.filter(|event| event["task"] == "hog");
    of_hog
        .filter_map(|event| match event["event"].as_str().unwrap() {
            "overdue" => event["level"].as_str(),
            other @ ("stop_requested" | "ended") => Some(other),
            _ => None,
        })
        .collect()
}

#[test]
fn a_holder_is_warned_of_then_asked_then_robbed_and_the_next_one_runs() {
    let scene = scene("{warning: 1, soft_timeout: 4, hard_timeout: 7}", "");
    let daemon = Daemon::start(&scene);
    let hog = scene.start_run("hog", &[], DEAF);
    scene.wait_for_pid("hog.pid");
    let next = scene.start_run("next", &[], "echo next > ran");
    next.ended().expect(0);
    assert_eq!(scene.read("ran"), "next\n");
    hog.until_it_says("asked to stop: soft timeout");
    hog.ended().expect(76);
    let api = daemon.api();
    let history = api.get("/api/v1/history?limit=100").expect(200).body;
    assert_eq!(levels_in(&history), ["warning", "soft", "stop_requested", "hard", "ended"]);
    let figures = || api.get("/api/v1/monitoring/statistics").expect(200).body;
    // What other processes change shows a moment later.
    until("the recovery is counted", || {
        figures()["monitor"]["monitor_stats"]["successful_recoveries"] == 1
    });
    let figures = figures();
    for (field, count) in [
        ("warning_count", 1),
        ("soft_timeout_count", 1),
        ("hard_timeout_count", 1),
        ("successful_recoveries", 1),
        ("failed_recoveries", 0),
    ] {
        assert_eq!(figures["monitor"]["monitor_stats"][field], count, "{field}");
    }
    for words in ["reaches its warning", "reaches its soft timeout", "reaches its hard timeout"] {
        daemon.until_it_says(words);
    }
    let metrics = api.get("/metrics").expect(200).body;
    let recovered =
        r#"gpu_lock_recoveries_total{pool="default",level="hard_timeout",result="success"} 1"#;
    assert!(metrics.as_str().unwrap().contains(recovered), "{metrics}");
}

#[test]
fn a_holder_with_fresh_heartbeats_is_not_robbed_before_the_hard_level() {
    let scene = scene("{warning: 1, soft_timeout: 2, hard_timeout: 7200}", "");
    let daemon = Daemon::start(&scene);
    let hog = scene.start_run("hog", &[], DEAF);
    hog.until_it_says("asked to stop");
    until("the monitor has looked again", || {
        daemon.api().post("/api/v1/monitoring/timeout/check", Value::Object(Default::default()));
        scene.lease()["age_seconds"].as_f64().unwrap() > 4.0
    });
    assert_eq!(scene.lease()["state"], "stopping");
    let overdue = daemon.api().get("/api/v1/monitoring/timeout/status").body;
    assert_eq!(overdue["overdue"][0]["level"], "soft");
}

#[test]
fn without_auto_recovery_levels_are_noted_and_nobody_is_asked() {
    let levels = "{warning: 1, soft_timeout: 4, hard_timeout: 7}";
    let scene = scene(levels, "  auto_recovery: false\n");
    let daemon = Daemon::start(&scene);
    let _hog = scene.start_run("hog", &[], DEAF);
    daemon.until_it_says("reaches its hard timeout");
    let history = daemon.api().get("/api/v1/history").expect(200).body;
    assert_eq!(levels_in(&history), ["warning", "soft", "hard"]);
    assert_eq!(scene.lease()["state"], "held");
}

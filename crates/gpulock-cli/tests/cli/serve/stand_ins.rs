//! Several daemons on one store: one acts, the others stand by, all answer.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::daemon::{BRISK, Daemon, story};
use crate::cli::program::{until, until_or};
use crate::cli::scene::Scene;

const START: &str = "/api/v1/monitoring/monitor/start";
const STOP: &str = "/api/v1/monitoring/monitor/stop";

/// Leases are warned of soon, and nothing else happens to them.
fn with_warnings() -> Scene {
    Scene::with_config(&format!(
        "{BRISK}  timeout_levels: {{warning: 300ms, soft_timeout: 7000, hard_timeout: 8000}}\n"
    ))
}

/// The two, the one that acts first.
fn two(scene: &Scene) -> (Daemon, Daemon) {
    let first = Daemon::start(scene);
    first.until_it_acts();
    let second = Daemon::start(scene);
    (first, second)
}

fn is_stopped(daemon: &Daemon) -> bool {
    let status = daemon.monitoring("monitor/status");
    status["status"] == "stopped" && status["is_acting"] == false
}

#[test]
fn the_other_one_takes_over_when_the_acting_one_is_killed() {
    let scene = with_warnings();
    let (first, second) = two(&scene);
    let early = first.api().acquire("early", 60.0);
    second.until("timeout/status", |status| status["warning_count"] == 1);
    assert!(first.acts() && !second.acts());
    first.kill();
    second.until_it_acts();
    second.until_it_says("this monitor acts from now on");
    second.api().give_back(&early).expect(204);
    let _late = second.api().acquire("late", 60.0);
    second.until_it_says("late reaches its warning");
    second.until("timeout/status", |status| status["warning_count"] == 2);
    let history = second.api().history();
    assert_eq!(story(&history, "late"), ["granted", "overdue warning"]);
    let known = story(&history, "early");
    assert_eq!(known, ["granted", "overdue warning", "ended released"], "noted once");
}

#[test]
fn one_that_ends_hands_its_place_over() {
    let scene = Scene::with_config(BRISK);
    let (first, second) = two(&scene);
    first.stop();
    second.until_it_acts();
    assert_eq!(second.monitoring("monitor/status")["status"], "running");
}

#[test]
fn one_that_hangs_loses_its_place_and_gets_in_line_again() {
    let scene = Scene::with_config(
        "gpus: [0]
gpu_lock_monitor:
  monitor_interval: 200ms
  heartbeat: {interval: 400ms, timeout: 2s}
",
    );
    let (first, second) = two(&scene);
    first.signal(Signal::STOP);
    second.until_it_acts();
    first.signal(Signal::CONT);
    until("the first has noticed", || !first.acts());
    assert!(second.acts());
    second.stop();
    first.until_it_acts();
}

#[test]
fn both_answer_the_same_and_a_later_one_too() {
    let scene = with_warnings();
    let (first, second) = two(&scene);
    let lease = second.api().acquire("ocr", 100.0);
    first.until("timeout/status", |status| status["warning_count"] == 1);
    let hasty = json!({ "task": "hasty", "gpus": [0], "max_wait_time": 0.1 });
    first.api().post("/api/v1/leases", hasty).expect(409).detail();
    let beat = "/api/v1/monitoring/heartbeat/task/beat";
    second.api().put(beat, json!({ "progress": 5 })).expect(200);
    first.api().post(STOP, json!({})).expect(200);
    until("both have stopped", || is_stopped(&first) && is_stopped(&second));
    let figures = until_they_agree(&first, &second);
    assert_eq!(figures["gpu_lock"]["total_attempts"], 2, "{figures}");
    assert_eq!(figures["heartbeat"]["active_tasks"], 2, "{figures}");
    assert_eq!(first.api().history(), second.api().history());
    first.api().give_back(&lease).expect(204);
    until("the other one sees it", || second.api().leases().is_empty());
    let known = until_they_agree(&first, &second)["gpu_lock"].clone();
    first.stop();
    second.stop();
    let third = Daemon::start(&scene);
    assert_eq!(third.monitoring("statistics")["gpu_lock"], known);
    assert!(third.monitoring("monitor/status")["healthy_checks"].as_u64().unwrap() > 0);
}

/// Waits until both have the same statistics, and returns them.
#[track_caller]
fn until_they_agree(first: &Daemon, second: &Daemon) -> Value {
    let mut answers = (Value::Null, Value::Null);
    let agree = || {
        answers = (lasting(first), lasting(second));
        answers.0 == answers.1
    };
    until_or(agree, || "both answer the same".to_owned());
    answers.0
}

/// The statistics without what has a clock in it.
fn lasting(daemon: &Daemon) -> Value {
    let mut figures = daemon.monitoring("statistics");
    figures.as_object_mut().unwrap().remove("timestamp");
    for lease in figures["timeout"]["overdue"].as_array_mut().unwrap() {
        lease.as_object_mut().unwrap().remove("age_seconds");
    }
    figures
}

#[test]
fn stopping_one_stops_both_until_one_is_started() {
    let scene = with_warnings();
    let (first, second) = two(&scene);
    let stopped = second.api().post(STOP, json!({ "reason": "maintenance" })).expect(200).body;
    assert_eq!(stopped["status"], "stopped");
    assert!(stopped["stopped_because"].as_str().unwrap().ends_with(": maintenance"), "{stopped}");
    until("both have stopped", || is_stopped(&first) && is_stopped(&second));
    let _held = first.api().acquire("asr", 60.0);
    first.until("timeout/status", |status| status["overdue"][0]["level"] == "warning");
    assert_eq!(first.monitoring("timeout/status")["warning_count"], 0, "nobody has noted it");
    assert_eq!(first.monitoring("monitor/health")["healthy"], true, "that is as it should be");
    // It outlives both.
    first.stop();
    second.stop();
    let (first, second) = (Daemon::start(&scene), Daemon::start(&scene));
    until("both have read it", || is_stopped(&first) && is_stopped(&second));
    assert_eq!(first.api().post(START, json!({})).expect(200).body["status"], "running");
    until("one acts", || first.acts() != second.acts());
    second.until("timeout/status", |status| status["warning_count"] == 1);
    second.until("monitor/status", |status| status["status"] == "running");
}

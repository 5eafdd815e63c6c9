//! Several daemons on one store: one acts, the others stand by, all answer.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::program::{until, until_or};
use super::super::scene::Scene;
use super::daemon::Daemon;
use super::{DEAF, FAR, set_monitor, story, with_levels};

const START: &str = "/api/v1/monitoring/monitor/start";
const STOP: &str = "/api/v1/monitoring/monitor/stop";

fn acts(daemon: &Daemon) -> bool {
    daemon.monitoring("monitor/status")["is_acting"] == true
}

/// The two, the one that acts first.
fn two(scene: &Scene) -> (Daemon, Daemon) {
    let first = Daemon::start(scene);
    until("the first acts", || acts(&first));
    let second = Daemon::start(scene);
    (first, second)
}

/// The monitor's rounds follow one another quickly.
fn quick(mut scene: Scene) -> Scene {
    set_monitor(&mut scene, "monitor_interval", "200ms");
    scene
}

fn is_stopped(daemon: &Daemon) -> bool {
    let status = daemon.monitoring("monitor/status");
    status["status"] == "stopped" && status["is_acting"] == false
}

#[test]
fn one_acts_and_when_it_is_killed_the_other_goes_on() {
    let scene = quick(with_levels("300ms", FAR, "2h"));
    let (first, second) = two(&scene);
    let holder = scene.start_run("early", &[], "until [ -e early.go ]; do sleep 0.01; done");
    second.until("timeout/status", |status| status["warning_count"] == 1);
    assert!(acts(&first) && !acts(&second));
    first.signal(Signal::KILL);
    assert_eq!(first.ended().code(), 137);
    until("the other acts", || acts(&second));
    second.until_it_logs("this monitor acts from now on");
    scene.let_go("early");
    holder.ended().expect(0);
    let _late = scene.start_run("late", &[], DEAF);
    second.until("timeout/status", |status| status["warning_count"] == 2);
    let known = story(&second.history(), "late");
    assert_eq!(known, ["granted", "claimed", "overdue warning"]);
    let known = story(&second.history(), "early");
    assert_eq!(known, ["granted", "claimed", "overdue warning", "ended released"], "noted once");
}

#[test]
fn one_that_ends_hands_its_place_over() {
    let scene = quick(Scene::new());
    let (first, second) = two(&scene);
    first.stop();
    until("the other acts", || acts(&second));
    assert_eq!(second.monitoring("monitor/status")["status"], "running");
}

#[test]
fn one_that_hangs_loses_its_place_and_gets_in_line_again() {
    let mut scene = quick(Scene::new());
    set_monitor(&mut scene, "heartbeat.interval", "400ms");
    set_monitor(&mut scene, "heartbeat.timeout", "2s");
    let (first, second) = two(&scene);
    first.signal(Signal::STOP);
    until("the other acts", || acts(&second));
    first.signal(Signal::CONT);
    until("the first has noticed", || !acts(&first));
    assert!(acts(&second));
    second.stop();
    until("the first acts again", || acts(&first));
}

#[test]
fn both_answer_the_same() {
    let scene = quick(with_levels("300ms", FAR, "2h"));
    let (first, second) = two(&scene);
    let lease = second.acquire(&json!({"task": "ocr", "heartbeat_timeout": 100}));
    first.until("timeout/status", |status| status["warning_count"] == 1);
    first.post("/api/v1/leases", &json!({"task": "x", "max_wait_time": 0.1})).problem(409);
    second.put("/api/v1/monitoring/heartbeat/task/beat", &json!({"progress": 5})).expect(200);
    first.post(STOP, &json!({})).expect(200);
    until("both have stopped", || is_stopped(&first) && is_stopped(&second));
    let mut answers = (Value::Null, Value::Null);
    let agree = || {
        answers = (lasting(&first), lasting(&second));
        answers.0 == answers.1
    };
    until_or(agree, || "both answer the same".to_owned());
    let (figures, _) = answers;
    assert_eq!(figures["gpu_lock"]["total_attempts"], 2, "{figures}");
    assert_eq!(figures["heartbeat"]["active_tasks"], 2, "{figures}");
    assert_eq!(first.history(), second.history());
    first.give_back(&lease);
    until("the other one sees it", || {
        second.get("/api/v1/leases").expect(200)["leases"] == json!([])
    });
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
    let scene = quick(with_levels("300ms", FAR, "2h"));
    let (first, second) = two(&scene);
    let stopped = second.post(STOP, &json!({"reason": "maintenance"})).expect(200);
    assert_eq!(stopped["status"], "stopped");
    assert!(stopped["stopped_because"].as_str().unwrap().ends_with(": maintenance"), "{stopped}");
    until("both have stopped", || is_stopped(&first) && is_stopped(&second));
    let _holder = scene.start_run("worker", &[], DEAF);
    first.until("timeout/status", |status| status["overdue"][0]["level"] == "warning");
    assert_eq!(first.monitoring("timeout/status")["warning_count"], 0, "nobody has noted it");
    assert_eq!(first.monitoring("monitor/health")["healthy"], true, "that is as it should be");
    // It outlives both.
    first.stop();
    second.stop();
    let (first, second) = (Daemon::start(&scene), Daemon::start(&scene));
    until("both have read it", || is_stopped(&first) && is_stopped(&second));
    assert_eq!(first.post(START, &json!({})).expect(200)["status"], "running");
    until("one acts", || acts(&first) != acts(&second));
    second.until("timeout/status", |status| status["warning_count"] == 1);
    second.until("monitor/status", |status| status["status"] == "running");
}

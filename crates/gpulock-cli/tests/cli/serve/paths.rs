//! Every path and field of the contract, on an empty pool and on one in use.

use std::thread;

use serde_json::{Value, json};

use super::daemon::{BRISK, Daemon};
use crate::cli::program::until;
use crate::cli::scene::Scene;

/// Paths that are read, and the fields that each answer has.
const READ: [(&str, &str); 16] = [
    (
        "/api/v1/monitoring/gpu-lock/health",
        "overall_status issues_count issues total_attempts success_rate timeout_rate \
         average_execution_time recent_success_rate lock_holder lock_age timestamp \
         store_connected zombie_locks long_held_locks",
    ),
    (
        "/api/v1/monitoring/gpu-lock/status?lock_key=gpu_lock:0",
        "lock_key is_locked lock_holder ttl_seconds lock_age lock_type health statistics \
         recent_history timestamp",
    ),
    (
        "/api/v1/monitoring/heartbeat/all",
        "active_tasks dead_tasks orphaned_tasks statistics.total_tasks statistics.active_tasks \
         statistics.dead_tasks statistics.heartbeat_failures",
    ),
    (
        "/api/v1/monitoring/statistics",
        "timestamp gpu_lock heartbeat timeout monitor.monitor_status.status \
         monitor.monitor_status.healthy_checks monitor.monitor_status.unhealthy_checks \
         monitor.monitor_status.last_error monitor.monitor_status.last_recovery_time \
         monitor.monitor_stats.total_checks monitor.monitor_stats.warning_count \
         monitor.monitor_stats.soft_timeout_count monitor.monitor_stats.hard_timeout_count \
         monitor.monitor_stats.successful_recoveries exceptions.normal_release_failures \
         exceptions.emergency_releases exceptions.ownership_violations \
         exceptions.release_script_errors",
    ),
    ("/api/v1/monitoring/monitor/status", "status healthy_checks unhealthy_checks"),
    ("/api/v1/monitoring/monitor/health", "healthy status"),
    ("/api/v1/monitoring/timeout/status", "config overdue"),
    ("/api/v1/monitoring/timeout/config", "warning soft_timeout hard_timeout"),
    ("/api/v1/pools", "pools"),
    ("/api/v1/leases", "leases"),
    ("/api/v1/queue", "queue"),
    ("/api/v1/history", "events"),
    ("/api/v1/alerts", "alerts"),
    ("/healthz", "status"),
    ("/readyz", "status"),
    ("/openapi.json", "openapi paths components"),
];

fn has(body: &Value, field: &str) -> bool {
    field.split('.').try_fold(body, |value, name| value.get(name)).is_some()
}

#[track_caller]
fn every_field_is_there(daemon: &Daemon) {
    for (path, fields) in READ {
        let body = daemon.api().get(path).expect(200).body;
        for field in fields.split_whitespace() {
            assert!(has(&body, field), "{field} of {path}: {body}");
        }
    }
}

#[test]
fn every_path_has_its_fields_in_a_pool_that_nobody_uses() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    every_field_is_there(&daemon);
    let health = daemon.api().get("/api/v1/monitoring/gpu-lock/health").body;
    assert_eq!(
        (&health["overall_status"], &health["lock_holder"]),
        (&json!("healthy"), &Value::Null)
    );
}

#[test]
fn every_path_has_its_fields_in_a_pool_in_use_and_shows_the_same() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let held = api.acquire("asr", 60.0);
    let waiter = thread::spawn({
        let api = api.clone();
        move || api.acquire("ocr", 60.0)
    });
    until("one waits", || api.get("/api/v1/queue").body["queue"][0]["task"] == "ocr");
    every_field_is_there(&daemon);
    let lock = api.get("/api/v1/monitoring/gpu-lock/status").body;
    assert_eq!((&lock["is_locked"], &lock["lock_type"]), (&json!(true), &json!("active")));
    assert_eq!(lock["lock_holder"], "asr");
    assert!(lock["ttl_seconds"].as_f64().unwrap() > 30.0);
    // But for the time that has passed, it is what the command line shows.
    let (shown, printed) = (api.get("/api/v1/pools").body["pools"][0].clone(), scene.pool());
    assert_eq!(shown["leases"][0]["lease_id"], printed["leases"][0]["lease_id"]);
    assert_eq!(shown["queue"][0]["lease_id"], printed["queue"][0]["lease_id"]);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown["leases"][0]), names(&printed["leases"][0]));
    assert_eq!(names(&shown["queue"][0]), names(&printed["queue"][0]));
    api.give_back(&held).expect(204);
    waiter.join().unwrap();
}

#[test]
fn what_does_not_exist_is_said_to_be_so() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    api.get("/api/v1/nothing").expect(404).detail();
    api.get("/api/v1/leases/0123456789abcdef0123456789abcdef").expect(404).detail();
    api.get("/api/v1/leases/xyz").expect(422).detail();
    api.get("/api/v1/monitoring/gpu-lock/status?lock_key=lock").expect(422).detail();
    let free = api.get("/api/v1/monitoring/gpu-lock/status?lock_key=gpu_lock:7").expect(200).body;
    assert_eq!(free["is_locked"], false);
    api.put("/api/v1/leases", json!({})).expect(405).detail();
}

#[test]
fn the_store_of_a_command_can_be_a_daemon() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let url = daemon.api().store_url();
    let run = ["--store", &url, "run", "--task", "remote", "--", "sh", "-c", "exit 3"];
    scene.gpulock(&run).expect(3);
    let history = daemon.api().get("/api/v1/history?task=remote").body;
    assert_eq!(history["events"][0]["event"], "ended");
    assert_eq!(scene.gpulock(&["--store", &url, "doctor"]).code(), 0);
}

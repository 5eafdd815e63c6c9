//! A server without persistence that came back: what it lent before, it may have forgotten.

use gpulock_testbed::RedisServer;

use super::{OnRedis, set_heartbeats};

/// A scene whose server has just started, and lends nothing for as long as a test lasts.
fn closed_for_long() -> OnRedis {
    let mut scene = OnRedis::at(RedisServer::start());
    set_heartbeats(&mut scene, "600", "2h");
    scene
}

#[test]
fn who_does_not_want_to_wait_is_told_why_and_for_how_long() {
    let mut scene = closed_for_long();
    insta::assert_snapshot!(scene.gpulock(&["run", "--no-wait", "--", "touch", "ran"]).told(), @"
    exit code 75
    --- stderr
    error: any GPU is not free; the store came back and may have forgotten leases, so nothing is lent for another SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    let short = ["run", "--wait", "300ms", "--", "touch", "ran"];
    insta::assert_snapshot!(scene.gpulock(&short).told(), @"
    exit code 75
    --- stderr
    gpulock: waiting, place 1 in the queue; the store came back and may have forgotten leases, so nothing is lent for another SPAN
    error: any GPU did not become free within SPAN; the store came back and may have forgotten leases, so nothing is lent for another SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stdout
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  free
    --- stderr
    gpulock: the store came back and may have forgotten leases, so nothing is lent for another SPAN
    ");
    let left = scene.pool()["closed_for_seconds"].as_f64().unwrap();
    assert!(left > 3_600.0, "{left}");
    let url = scene.server.url() + "?after_restart=refuse";
    scene.set("GPULOCK_STORE", &url);
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "touch", "ran"]).told(), @"
    exit code 75
    --- stderr
    error: the store was restarted or replaced and may have forgotten leases; nothing is lent for another SPAN

    hint: try again then; keep Redis's data over restarts (`appendonly yes`), or let requests wait with after_restart=wait in the store's URL
    ");
    assert!(!scene.exists("ran"));
    assert_eq!(scene.pool()["queue"], serde_json::json!([]));
}

#[test]
fn the_next_one_runs_after_the_holder_that_the_server_has_forgotten() {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "500ms", "3s");
    let script = "exec 2>/dev/null; echo $$ > worker.pid; while :; do sleep 0.02; done";
    let holder = scene.start_run("worker", &[], script);
    scene.wait_for_pid("worker.pid");
    scene.server.start_again();
    let url = scene.server.url();
    scene.set("GPULOCK_STORE", &url);
    let successor = scene.successor(&["worker.pid"]);
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 76
    --- stderr
    warning: the lease is lost: it expired or was taken away; stopping the command
    error: the lease was lost: it expired or was taken away; the command was stopped
    ");
    insta::assert_snapshot!(successor.ended().told(), @"
    exit code 0
    --- stderr
    gpulock: waiting, place 1 in the queue; the store came back and may have forgotten leases, so nothing is lent for another SPAN
    ");
    assert_eq!(scene.read("alive"), "");
}

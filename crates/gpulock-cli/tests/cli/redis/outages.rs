//! A server that is away, and a network that swallows everything.

use std::fs;

use gpulock_testbed::{FaultProxy, RedisServer};
use serde_json::Value;

use super::super::program::{lives, until};
use super::super::scene::CRITICAL_FAILURES;
use super::{KEEPS_ALL, NOTES, OnRedis, TRUST, deadline, last_note, set_heartbeats};

#[test]
fn a_server_that_is_away_is_said_once_and_borne_for_a_while() {
    let mut scene = OnRedis::new();
    scene.server.kill();
    let hasty = ["run", "--no-wait", "--", "touch", "ran"];
    insta::assert_snapshot!(scene.gpulock(&hasty).told(), @"
    exit code 69
    --- stderr
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust cannot be reached: nobody listens there

    hint: `gpulock doctor` looks at the store and says what is wrong
    ");
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 69
    --- stderr
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust cannot be reached: nobody listens there

    hint: `gpulock doctor` looks at the store and says what is wrong
    ");
    scene.set_lock("store_patience", "300ms");
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "touch", "ran"]).told(), @"
    exit code 69
    --- stderr
    gpulock: the store redis://127.0.0.1:PORT/0?after_restart=trust cannot be reached: nobody listens there; trying again
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust cannot be reached: nobody listens there

    hint: `gpulock doctor` looks at the store and says what is wrong
    ");
    assert!(!scene.exists("ran"));
}

#[test]
fn a_server_that_stays_away_ends_the_command_and_says_so() {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "200ms", "2s");
    scene.set_lock("stop_grace", "200ms");
    scene.set_lock("store_patience", "100ms");
    let holder = scene.start_run("worker", &[], NOTES);
    scene.wait_for_pid("worker.pid");
    scene.server.kill();
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 76
    --- stderr
    warning: the lease is lost: it could not be renewed in time; stopping the command
    error: the lease was lost: it could not be renewed in time; the command was stopped
    ");
}

#[test]
fn who_is_cut_off_from_the_server_stops_before_the_lease_ends_there() {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "300ms", "4s");
    scene.set_lock("stop_grace", "1s");
    scene.set_lock("store_patience", "100ms");
    let proxy = FaultProxy::to(("127.0.0.1", scene.server.port()));
    let holder = scene.start(&["--store", &(proxy.url() + TRUST), "run", "--", "sh", "-c", NOTES]);
    scene.wait_for_pid("worker.pid");
    proxy.block();
    let lease = scene.lease();
    // Nobody waits, so nobody else stops it.
    holder.ended().expect(76);
    let (last, end) = (last_note(&scene, "alive.notes"), deadline(&lease));
    assert!(last < end, "it worked until {last}, its lease ended at {end}");
    assert!(!lives(scene.wait_for_pid("worker.pid")));
}

#[test]
fn a_server_that_comes_back_finds_the_command_at_work_and_the_queue_in_order() {
    let mut scene = OnRedis::at(RedisServer::with(KEEPS_ALL));
    set_heartbeats(&mut scene, "300ms", "20s");
    let holder = scene.holder("ocr", &[]);
    let waiters = [scene.waiter("asr", &[]), scene.waiter("tts", &[])];
    let before = scene.lease();
    scene.server.start_again();
    let back = deadline(&scene.lease());
    until("the lease is renewed by the server that came back", || deadline(&scene.lease()) > back);
    let after = scene.lease();
    assert_eq!((&after["token"], &after["state"]), (&before["token"], &"held".into()));
    scene.let_go("ocr");
    assert_eq!(holder.ended().expect(0).stderr, "");
    waiters.into_iter().for_each(|waiter| drop(waiter.ended().expect(0)));
    assert_eq!(scene.read("order"), "asr\ntts\n");
}

/// The records of the critical failure log.
fn critical_failures(scene: &OnRedis) -> Vec<Value> {
    let log = fs::read_to_string(scene.folder().join(CRITICAL_FAILURES)).unwrap_or_default();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_release_that_the_server_does_not_hear_is_written_down() {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "10s", "60s");
    scene.set_lock("store_patience", "300ms");
    let script = "echo $$ > ocr.pid; until [ -e ocr.go ]; do sleep 0.01; done; exit 3";
    let holder = scene.start_run("ocr", &[], script);
    scene.wait_for_pid("ocr.pid");
    let lease = scene.lease();
    scene.server.kill();
    scene.let_go("ocr");
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 3
    --- stderr
    warning: the command ended, but its lease could not be given back: the store of this lease cannot be reached: it did not confirm the release
    ");
    let records = critical_failures(&scene);
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((&record["lock_key"], &record["task"]), (&"gpu_lock:0".into(), &"ocr".into()));
    assert_eq!((&record["lease_id"], &record["token"]), (&lease["lease_id"], &lease["token"]));
    assert!(record["error"].as_str().unwrap().contains("did not confirm the release"), "{record}");
    assert_eq!(record["traceback"], "");
}

#[test]
fn a_server_that_hears_again_is_told_of_the_release_that_it_missed() {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "10s", "60s");
    scene.set_lock("store_patience", "300ms");
    let proxy = FaultProxy::to(("127.0.0.1", scene.server.port()));
    let script = "echo $$ > ocr.pid; until [ -e ocr.go ]; do sleep 0.01; done";
    let arguments =
        ["--store", &(proxy.url() + TRUST), "run", "--task", "ocr", "--", "sh", "-c", script];
    let holder = scene.start(&arguments);
    scene.wait_for_pid("ocr.pid");
    proxy.refuse(true);
    proxy.cut();
    scene.let_go("ocr");
    until("the release is given up", || !critical_failures(&scene).is_empty());
    proxy.refuse(false);
    holder.ended().expect(0);
    let events = scene.events();
    assert!(events.iter().any(|event| event["incident"] == "critical_failure"), "{events:?}");
}

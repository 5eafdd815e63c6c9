//! A server that is away, and a network that swallows everything.

use gpulock_testbed::{FaultProxy, RedisServer};

use super::super::program::{lives, until};
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

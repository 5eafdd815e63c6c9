//! Leases that run out while their holder sleeps, and grants that nobody picks up.

use rustix::process::{Signal, kill_process};

use super::program::{lives, until};
use super::scene::Scene;

/// A command that notes that it was asked to stop. (Its shell would tell about the `sleep`
/// that dies with it.)
const OBEDIENT: &str = "exec 2>/dev/null; trap 'echo asked > asked; exit 9' TERM
    echo $$ > worker.pid; while :; do sleep 0.02; done";

/// A scene whose leases live for two seconds without a heartbeat.
fn short_leases() -> Scene {
    let mut scene = Scene::new();
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", "400ms");
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", "2s");
    scene.set_lock("stop_grace", "300ms");
    scene
}

#[test]
fn the_command_of_a_stopped_run_is_stopped_before_the_next_one_runs() {
    let scene = short_leases();
    let holder = scene.start_run("worker", &[], OBEDIENT);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::STOP);
    scene.successor(&["worker.pid"]).ended().expect(0);
    assert_eq!((scene.read("alive").as_str(), scene.read("asked").as_str()), ("", "asked\n"));
    holder.signal(Signal::CONT);
    let ended = holder.ended().expect(76);
    assert!(ended.stderr.contains("error: the lease "), "{ended:?}");
}

#[test]
fn a_deaf_command_of_a_stopped_run_is_killed_before_the_next_one_runs() {
    let scene = short_leases();
    let script = "trap '' TERM; echo $$ > worker.pid; while :; do sleep 0.02; done";
    let holder = scene.start_run("worker", &[], script);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::STOP);
    scene.successor(&["worker.pid"]).ended().expect(0);
    assert_eq!(scene.read("alive"), "");
    holder.signal(Signal::CONT);
    holder.ended().expect(76);
}

#[test]
fn a_deaf_command_whose_lease_is_taken_is_killed_by_its_own_run() {
    let mut scene = Scene::new();
    scene.set_lock("stop_grace", "500ms");
    let script =
        "trap 'echo asked > asked' TERM; echo $$ > worker.pid; while :; do sleep 0.02; done";
    let holder = scene.start_run("worker", &[], script);
    let worker = scene.wait_for_pid("worker.pid");
    scene.gpulock(&["release", "gpu_lock:0", "--force", "--reason", "stuck since noon"]).expect(0);
    holder.ended().expect(76);
    // Nobody waits, so nobody else stopped it.
    assert_eq!((scene.read("asked").as_str(), lives(worker)), ("asked\n", false));
}

#[test]
fn a_command_that_was_asked_to_stop_may_take_its_time() {
    let scene = short_leases();
    let script = "trap 'echo asked > asked' TERM; echo $$ > worker.pid
        until [ -e finish ]; do sleep 0.02; done; exit 4";
    let mut holder = scene.start_run("worker", &[], script);
    scene.wait_for_pid("worker.pid");
    scene.gpulock(&["release", "gpu_lock:0", "--ask", "--reason", "maintenance"]).expect(0);
    assert_eq!(scene.wait_for_line("asked"), "asked");
    // Longer than both the grace and a lease without heartbeats.
    until("it has been renewed since", || {
        let lease = scene.lease();
        assert_eq!(lease["state"], "stopping", "{lease}");
        lease["age_seconds"].as_f64().unwrap() > 3.0
    });
    assert!(!holder.has_ended());
    scene.write("finish", "");
    holder.ended().expect(4);
}

#[test]
fn a_run_that_wakes_up_too_late_stops_its_command_itself() {
    let scene = short_leases();
    let holder = scene.start_run("worker", &[], OBEDIENT);
    let worker = scene.wait_for_pid("worker.pid");
    holder.signal(Signal::STOP);
    // Nobody waits, so nobody else stops it.
    until("the lease is over", || {
        scene.lease()["deadline_in_seconds"].as_f64().is_none_or(|left| left <= 0.0)
    });
    assert!(lives(worker));
    holder.signal(Signal::CONT);
    let ended = holder.ended().expect(76);
    assert!(ended.stderr.contains("error: the lease was lost: "), "{ended:?}");
    assert_eq!(scene.read("asked"), "asked\n");
}

#[test]
fn a_stopped_command_keeps_its_gpu() {
    let scene = short_leases();
    let holder = scene.holder("ocr", &[]);
    let command = scene.wait_for_pid("ocr.pid");
    let token = scene.lease()["token"].clone();
    kill_process(command, Signal::STOP).unwrap();
    let waiter = scene.waiter("asr", &[]);
    until("its lease was extended several times", || {
        let lease = scene.lease();
        assert_eq!((&lease["token"], &lease["state"]), (&token, &"held".into()));
        lease["age_seconds"].as_f64().unwrap() > 5.0
    });
    kill_process(command, Signal::CONT).unwrap();
    scene.let_go("ocr");
    holder.ended().expect(0);
    waiter.ended().expect(0);
}

#[test]
fn a_granted_waiter_that_sleeps_does_not_block_the_others() {
    let mut scene = Scene::new();
    scene.set_lock("claim_time", "300ms");
    let holder = scene.holder("ocr", &[]);
    let sleeper = scene.waiter("sleeper", &[]);
    let next = scene.waiter("next", &[]);
    sleeper.signal(Signal::STOP);
    scene.let_go("ocr");
    holder.ended().expect(0);
    next.ended().expect(0);
    assert_eq!(scene.read("order"), "next\n");
    // It lost its grant, not its wish.
    sleeper.signal(Signal::CONT);
    sleeper.ended().expect(0);
    assert_eq!(scene.read("order"), "next\nsleeper\n");
    let unclaimed = |event: &&serde_json::Value| event["how"]["expired"] == "not_claimed";
    assert_eq!(scene.events().iter().filter(unclaimed).count(), 1);
}

#[test]
fn a_holder_whose_store_is_deleted_stops_its_command() {
    let scene = short_leases();
    let holder = scene.start_run("worker", &[], OBEDIENT);
    let worker = scene.wait_for_pid("worker.pid");
    for suffix in ["", "-wal", "-shm"] {
        let file = scene.folder().join(format!("store/gpulock.db{suffix}"));
        std::fs::remove_file(file).unwrap();
    }
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 76
    --- stderr
    warning: the lease is lost: the store's file was removed or replaced; stopping the command
    error: the lease was lost: the store's file was removed or replaced; the command was stopped
    ");
    assert_eq!((scene.read("asked").as_str(), lives(worker)), ("asked\n", false));
}

#[test]
fn a_waiter_whose_store_is_deleted_does_not_run() {
    let mut scene = short_leases();
    scene.set_lock("poll_interval", "200ms");
    let _holder = scene.holder("ocr", &[]);
    let waiter = scene.waiter("asr", &[]);
    std::fs::rename(scene.store_path(), scene.path("moved.db")).unwrap();
    insta::assert_snapshot!(waiter.ended().told(), @"
    exit code 69
    --- stderr
    gpulock: waiting, place 1 in the queue; GPU 0 held by ocr (pid PID on HOST) for SPAN
    error: the store FOLDER/store/gpulock.db was removed or replaced while it was in use

    hint: leases in the old file are lost to newcomers: let running work end, then start again
    ");
    assert!(!scene.exists("order"));
}

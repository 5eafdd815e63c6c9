//! Signals: a waiter leaves, a holder passes them on.

use rustix::process::{Signal, kill_process};

use super::program::{lives, until};
use super::scene::{BLOCKED, Scene};

#[test]
fn a_waiter_that_is_told_to_end_leaves_the_queue() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    for (signal, number) in
        [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1), (Signal::QUIT, 3)]
    {
        let waiter = scene.waiter("asr", &[]);
        waiter.signal(signal);
        let ended = waiter.ended();
        // Not killed: it said good-bye.
        assert_eq!(ended.status.code(), Some(128 + number), "{ended:?}");
        assert_eq!(scene.pool()["queue"], serde_json::json!([]));
    }
    assert!(!scene.exists("order"));
    let left = scene.events().iter().filter(|event| event["event"] == "cancelled").count();
    assert_eq!(left, 4);
}

#[test]
fn a_waiter_says_why_it_ended() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    let waiter = scene.waiter("asr", &[]);
    waiter.until_it_says("waiting");
    waiter.signal(Signal::INT);
    insta::assert_snapshot!(waiter.ended().told(), @"
    exit code 130
    --- stderr
    gpulock: waiting, place 1 in the queue; GPU 0 held by ocr (pid PID on HOST) for SPAN
    error: stopped while waiting
    ");
}

#[test]
fn signals_reach_the_command_and_its_exit_code_comes_back() {
    let scene = Scene::new();
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")]
    {
        let script = format!(
            "exec 2>/dev/null; trap 'echo {name} > heard; exit 7' {name}; echo $$ > {name}.pid; while :; do sleep 0.01; done"
        );
        let holder = scene.start_run("worker", &[], &script);
        scene.wait_for_pid(&format!("{name}.pid"));
        holder.signal(signal);
        let ended = holder.ended().expect(7);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        assert_eq!(scene.read("heard"), format!("{name}\n"));
    }
}

#[test]
fn a_signal_that_the_command_does_not_catch_ends_it() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    holder.signal(Signal::TERM);
    holder.ended().expect(128 + 15);
    assert_eq!(scene.pool()["gpus"][0]["state"], "free");
}

#[test]
fn a_command_that_ignores_sigterm_goes_on() {
    let scene = Scene::new();
    let script = "trap '' TERM; trap 'echo heard > heard' USR1; echo $$ > worker.pid
        until [ -e finish ]; do sleep 0.01; done; echo done";
    let holder = scene.start_run("worker", &[], script);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::TERM);
    holder.signal(Signal::USR1);
    // Signals are passed on in their order of arrival or not, but both have been.
    scene.wait_for_line("heard");
    scene.write("finish", "");
    assert_eq!(holder.ended().expect(0).stdout, "done\n");
}

#[test]
fn under_nohup_neither_gpulock_nor_the_command_hears_the_hang_up() {
    let scene = Scene::new();
    let script = "exec nohup gpulock run -- sh -c 'echo $$ > worker.pid; until [ -e finish ]; do sleep 0.01; done; echo done'";
    let holder = scene.start_shell(script);
    let worker = scene.wait_for_pid("worker.pid");
    for pid in [holder.pid(), worker] {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
        let mask = u64::from_str_radix(ignored, 16).unwrap();
        assert_eq!(mask & 1, 1, "SIGHUP is signal 1: {ignored}");
    }
    holder.signal(Signal::HUP);
    kill_process(worker, Signal::HUP).unwrap();
    scene.write("finish", "");
    assert_eq!(holder.ended().expect(0).stdout, "done\n");
}

#[test]
fn a_waiter_under_nohup_keeps_its_place() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let waiter =
        scene.start_shell("exec nohup gpulock run --task asr -- sh -c 'echo asr >> order'");
    scene.until_queued("asr");
    waiter.signal(Signal::HUP);
    scene.let_go("ocr");
    holder.ended().expect(0);
    waiter.ended().expect(0);
    assert_eq!(scene.read("order"), "asr\n");
}

#[test]
fn a_job_can_be_stopped_and_continued_by_signal() {
    let scene = Scene::new();
    let holder = scene.start_run("ocr", &[], BLOCKED);
    let command = scene.wait_for_pid("worker.pid");
    let stopped = |pid: rustix::process::Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    holder.signal(Signal::TSTP);
    until("both are stopped", || stopped(holder.pid()) && stopped(command));
    holder.signal(Signal::CONT);
    until("both go on", || !stopped(holder.pid()) && !stopped(command));
    assert!(lives(command));
    scene.write("gate", "\n");
    holder.ended().expect(0);
}

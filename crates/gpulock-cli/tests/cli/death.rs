//! Deaths: whoever dies, the next in line runs, and never beside what the dead one left.

use rustix::process::{Signal, kill_process};

use super::program::{Running, lives, until};
use super::scene::Scene;

/// A command that works until it is stopped.
const WORK: &str = "echo $$ > worker.pid; while :; do sleep 0.02; done";

/// A command whose child does the work and does not listen to SIGTERM.
const DEAF: &str = "echo $$ > leader.pid
    sh -c 'trap \"\" TERM; echo $$ > worker.pid; while :; do sleep 0.02; done' &
    wait";

/// A scene in which SIGKILL follows SIGTERM soon.
fn impatient() -> Scene {
    let mut scene = Scene::new();
    scene.set_lock("stop_grace", "200ms");
    scene
}

/// Starts a command under a lease, waits for its worker, and puts the next one in line.
fn worker_and_successor(scene: &Scene, script: &str, pid_files: &[&str]) -> (Running, Running) {
    let holder = scene.start_run("worker", &[], script);
    scene.wait_for_pid("worker.pid");
    let successor = scene.successor(pid_files);
    scene.until_queued("successor");
    (holder, successor)
}

#[test]
fn a_killed_run_takes_its_command_with_it_and_the_next_one_runs() {
    let scene = Scene::new();
    let (holder, successor) = worker_and_successor(&scene, WORK, &["worker.pid"]);
    holder.signal(Signal::KILL);
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
    assert_eq!(holder.ended().code(), 128 + 9);
}

#[test]
fn a_grandchild_that_ignores_sigterm_is_gone_before_the_next_one_runs() {
    let scene = impatient();
    let (holder, successor) = worker_and_successor(&scene, DEAF, &["leader.pid", "worker.pid"]);
    holder.signal(Signal::KILL);
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
}

#[test]
fn a_run_that_is_killed_while_nobody_waits_leaves_the_gpu_to_the_next_who_asks() {
    let scene = impatient();
    let holder = scene.start_run("worker", &[], DEAF);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::KILL);
    holder.ended();
    scene.successor(&["leader.pid", "worker.pid"]).ended().expect(0);
    assert_eq!(scene.read("alive"), "");
}

#[test]
fn no_wait_does_not_get_a_gpu_whose_last_user_still_runs() {
    let scene = Scene::new();
    let holder = scene.start_run("worker", &[], DEAF);
    let worker = scene.wait_for_pid("worker.pid");
    holder.signal(Signal::KILL);
    holder.ended();
    let ended = scene.gpulock(&["run", "--no-wait", "--", "touch", "ran"]).expect(75);
    assert!(lives(worker) && !scene.exists("ran"), "{ended:?}");
    insta::assert_snapshot!(ended.told(), @"
    exit code 75
    --- stderr
    error: any GPU is not free: held by worker (pid PID on HOST) for SPAN, whose lease is over but whose processes still run

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    assert_eq!(scene.pool()["gpus"][0]["state"], "draining");
}

#[test]
fn what_a_killed_shell_leaves_is_stopped_and_its_code_comes_back() {
    let scene = impatient();
    let (holder, successor) = worker_and_successor(&scene, DEAF, &["leader.pid", "worker.pid"]);
    kill_process(scene.wait_for_pid("leader.pid"), Signal::KILL).unwrap();
    let ended = holder.ended().expect(128 + 9);
    assert!(ended.stderr.contains("left processes behind"), "{ended:?}");
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
}

#[test]
fn a_background_process_is_stopped_before_the_next_one_runs() {
    let scene = Scene::new();
    let script = "{ echo $$ > start; while :; do sleep 0.02; done; } & echo $! > worker.pid
        until [ -e finish ]; do sleep 0.01; done";
    let (holder, successor) = worker_and_successor(&scene, script, &["worker.pid"]);
    scene.write("finish", "");
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 0
    --- stderr
    gpulock: the command left processes behind (PIDS); stopping them
    ");
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
}

#[test]
fn a_run_outlives_the_shell_that_started_it() {
    let scene = Scene::new();
    let script = "gpulock run --task ocr -- sh -c \
        'echo $$ > ocr.pid; until [ -e ocr.go ]; do sleep 0.01; done; echo done > result' & \
        echo $! > run.pid; wait";
    let shell = scene.start_shell(script);
    scene.wait_for_pid("ocr.pid");
    let run = scene.wait_for_pid("run.pid");
    shell.signal(Signal::KILL);
    shell.ended();
    let waiter = scene.waiter("asr", &[]);
    assert_eq!(scene.lease()["task"], "ocr");
    scene.let_go("ocr");
    assert_eq!(scene.wait_for_line("result"), "done");
    waiter.ended().expect(0);
    until("the run has ended", || !lives(run));
}

#[test]
fn a_killed_waiter_loses_its_place_and_nobody_waits_for_it() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let dead = scene.waiter("dead", &[]);
    let next = scene.waiter("next", &[]);
    dead.signal(Signal::KILL);
    dead.ended();
    scene.let_go("ocr");
    holder.ended().expect(0);
    next.ended().expect(0);
    assert_eq!(scene.read("order"), "next\n");
}

#[test]
fn a_run_that_is_killed_before_its_command_starts_never_starts_it() {
    let scene = Scene::new();
    // Killed at many moments between the first instruction and the end.
    for round in 0..40_u64 {
        let run = scene.start_run("short", &[], "echo $$ > short.pid; exec sleep 60");
        std::thread::sleep(std::time::Duration::from_millis(round));
        run.signal(Signal::KILL);
        run.ended();
        let successor =
            scene.start_run("successor", &[], "cat short.pid 2>/dev/null; rm -f short.pid");
        let ended = successor.ended().expect(0);
        if let Some(pid) = ended.stdout.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
        {
            assert!(!lives(pid), "round {round}");
        }
    }
}

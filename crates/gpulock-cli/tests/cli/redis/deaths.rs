//! A `gpulock run` that is killed on this host: the kernel tells, not the deadline.

use rustix::process::Signal;

use super::{OnRedis, set_heartbeats};

/// A command whose child does the work and does not listen to SIGTERM.
const DEAF: &str = "echo $$ > leader.pid
    sh -c 'trap \"\" TERM; echo $$ > worker.pid; while :; do sleep 0.02; done' &
    wait";

/// A scene in which nobody lives to see a lease run out.
fn scene() -> OnRedis {
    let mut scene = OnRedis::new();
    set_heartbeats(&mut scene, "1000", "5000");
    scene.set_lock("stop_grace", "200ms");
    scene
}

fn died(scene: &OnRedis) -> bool {
    scene.events().iter().any(|event| event["how"]["expired"] == "holder_died")
}

#[test]
fn a_grandchild_that_ignores_sigterm_is_gone_before_the_next_one_runs() {
    let scene = scene();
    let holder = scene.start_run("worker", &[], DEAF);
    scene.wait_for_pid("worker.pid");
    let successor = scene.successor(&["leader.pid", "worker.pid"]);
    scene.until_queued("successor");
    holder.signal(Signal::KILL);
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
    assert!(died(&scene), "{:?}", scene.events());
}

#[test]
fn a_run_that_is_killed_while_nobody_waits_leaves_the_gpu_to_the_next_who_asks() {
    let scene = scene();
    let holder = scene.start_run("worker", &[], DEAF);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::KILL);
    holder.ended();
    scene.successor(&["leader.pid", "worker.pid"]).ended().expect(0);
    assert_eq!(scene.read("alive"), "");
    assert!(died(&scene), "{:?}", scene.events());
}

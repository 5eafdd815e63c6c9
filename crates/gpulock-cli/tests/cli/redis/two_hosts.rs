//! Two hosts that do not see each other's processes: heartbeats decide. This process sees
//! both and the server, and the clocks of all of them are one.

use std::process::Stdio;

use gpulock_testbed::{Host, TwoHosts};
use rustix::process::Signal;

use super::super::program::{Running, until_or};
use super::super::scene::{GPULOCK, Scene};
use super::{NOTES, TRUST, deadline, last_note, set_heartbeats};

/// A command that notes when it begins, and holds its GPU until it is let go.
const NEXT: &str = "date +%s.%N > began.notes; until [ -e go ]; do sleep 0.01; done";

struct Hosts {
    scene: Scene,
    two: TwoHosts,
}

impl Hosts {
    fn start() -> Self {
        let two = TwoHosts::start();
        let mut scene = Scene::with_config("gpus: [0]\n");
        set_heartbeats(&mut scene, "300ms", "4s");
        scene.set_lock("stop_grace", "1s");
        let socket = two.server().socket();
        scene.set("GPULOCK_STORE", &format!("redis+unix://{}{TRUST}", socket.display()));
        Self { scene, two }
    }

    /// Starts `gpulock run` on a host.
    fn run(&self, host: Host, task: &str, script: &str) -> Running {
        let store = self.two.url() + TRUST;
        let here = self
            .scene
            .command(&["--store", &store, "run", "--task", task, "--", "sh", "-c", script]);
        // Who enters the mounts of another host begins at their root.
        let mut there = self.two.command(host, "env");
        there.arg("--chdir").arg(self.scene.path("")).arg(GPULOCK).args(here.get_args());
        there.env_clear().envs(here.get_envs().filter_map(|(name, value)| Some((name, value?))));
        there.stdin(Stdio::null());
        self.scene.launch(there)
    }

    /// A command at work on host A, and the next in line on host B.
    fn worker_and_next(&self) -> (Running, Running) {
        let worker = self.run(Host::A, "worker", NOTES);
        let works = || self.scene.exists("alive.notes");
        until_or(works, || format!("the worker is at work; it says {:?}", worker.stderr()));
        let next = self.run(Host::B, "next", NEXT);
        self.scene.until_queued("next");
        (worker, next)
    }

    /// The wall clock when the next one began.
    fn began(&self) -> f64 {
        self.scene.wait_for_line("began.notes").parse().unwrap()
    }
}

#[test]
fn who_dies_on_another_host_is_waited_for_until_its_lease_ends() {
    let hosts = Hosts::start();
    let (worker, next) = hosts.worker_and_next();
    assert_eq!(hosts.scene.lease()["host"], "gpulock-a");
    // Whatever enters another host's processes takes what it brought there with it.
    worker.signal(Signal::KILL);
    worker.ended();
    let end = deadline(&hosts.scene.lease());
    let began = hosts.began();
    assert!(began >= end, "the lease ended at {end}, the next one began at {began}");
    assert!(last_note(&hosts.scene, "alive.notes") < began);
    let events = hosts.scene.events();
    assert!(events.iter().any(|event| event["how"]["expired"] == "deadline"), "{events:?}");
    hosts.scene.write("go", "");
    next.ended().expect(0);
}

#[test]
fn who_is_cut_off_stops_in_time_and_disturbs_nobody_when_the_network_is_back() {
    let hosts = Hosts::start();
    let (worker, next) = hosts.worker_and_next();
    hosts.two.cut(Host::A);
    let end = deadline(&hosts.scene.lease());
    let began = hosts.began();
    let last = last_note(&hosts.scene, "alive.notes");
    assert!(last < end, "it worked until {last}, its lease ended at {end}");
    assert!(began >= end, "its lease ended at {end}, the next one began at {began}");
    let token = hosts.scene.lease()["token"].clone();
    hosts.two.heal(Host::A);
    let ended = worker.ended().expect(76);
    assert!(ended.stderr.contains("error: the lease was lost: "), "{ended:?}");
    let lease = hosts.scene.lease();
    assert_eq!((&lease["task"], &lease["token"]), (&"next".into(), &token));
    assert_eq!(last_note(&hosts.scene, "alive.notes"), last, "it worked no more");
    hosts.scene.write("go", "");
    next.ended().expect(0);
}

#[test]
fn a_host_that_loses_its_power_leaves_its_gpu_to_another_one() {
    let mut hosts = Hosts::start();
    let (worker, next) = hosts.worker_and_next();
    hosts.two.power_off(Host::A);
    let began = hosts.began();
    assert!(last_note(&hosts.scene, "alive.notes") < began);
    hosts.scene.write("go", "");
    next.ended().expect(0);
    drop(worker);
}

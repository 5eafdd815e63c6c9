//! A store on Redis: the same conversations, servers that go and come back, and two hosts.

use std::process::Command;

use gpulock_testbed::{Host, RedisServer, TwoHosts};
use rustix::process::Signal;

use super::program::{Running, until, until_or};
use super::scene::{GPULOCK, Scene};

/// A scene with a server that has forgotten nothing.
fn scene_with(server: &RedisServer) -> Scene {
    let mut scene = Scene::new();
    scene.set("GPULOCK_STORE", &format!("{}?after_restart=trust", server.url()));
    scene
}

/// Short heartbeats, so that what only they tell is told soon.
fn set_heartbeats(scene: &mut Scene, interval: &str, timeout: &str) {
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", interval);
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", timeout);
}

#[test]
fn commands_work_as_on_any_store() {
    let server = RedisServer::start();
    let scene = scene_with(&server);
    let holder = scene.holder("first", &[]);
    let waiter = scene.waiter("second", &["--priority", "high"]);
    let pool = scene.pool();
    assert_eq!(pool["leases"][0]["task"], "first");
    assert_eq!(pool["queue"][0]["task"], "second");
    scene.let_go("first");
    holder.ended().expect(0);
    waiter.ended().expect(0);
    assert_eq!(scene.read("order"), "second\n");
    let script = "gpulock verify && gpulock verify $GPULOCK_LEASE_ID 1; echo $?";
    let ended = scene.gpulock(&["run", "--", "sh", "-c", script]).expect(0);
    assert!(ended.stdout.ends_with("76\n"), "{ended:?}");
    let kinds: Vec<_> = scene.events().iter().map(|event| event["event"].clone()).collect();
    assert!(kinds.iter().any(|kind| kind == "granted"), "{kinds:?}");
}

#[test]
fn the_store_is_named_by_flag_file_or_the_section_of_the_older_application() {
    let server = RedisServer::with(&["--appendonly", "yes"]);
    let port = server.port();
    let mut scene = Scene::new();
    scene.unset("GPULOCK_STORE");
    let taken = |scene: &Scene, arguments: &[&str]| {
        let all = [arguments, &["run", "--", "true"]].concat();
        scene.gpulock(&all).expect(0);
    };
    taken(&scene, &["--store", &format!("redis://127.0.0.1:{port}/1")]);
    scene.write("config.yml", format!("store: redis://127.0.0.1:{port}/2\n"));
    taken(&scene, &[]);
    scene.write("config.yml", format!("redis: {{host: 127.0.0.1, port: {port}, db_locks: 3}}\n"));
    taken(&scene, &[]);
    scene.set("REDIS_LOCK_DB", "4");
    taken(&scene, &[]);
    for database in ["1", "2", "3", "4"] {
        let pools = server.cli(&["-n", database, "SMEMBERS", "gpulock:pools"]);
        assert_eq!(pools, "default", "database {database}");
    }
}

#[test]
fn a_run_that_is_killed_on_this_host_is_noticed_at_once() {
    let server = RedisServer::start();
    let mut scene = scene_with(&server);
    // Nobody lives to see these deadlines.
    set_heartbeats(&mut scene, "1000", "5000");
    let holder = scene.holder("worker", &[]);
    let successor = scene.successor(&["worker.pid"]);
    scene.until_queued("successor");
    holder.signal(Signal::KILL);
    successor.ended().expect(0);
    assert_eq!(scene.read("alive"), "");
}

#[test]
fn who_waits_is_told_that_the_server_may_have_forgotten_leases() {
    let server = RedisServer::start();
    let mut scene = Scene::new();
    scene.set("GPULOCK_STORE", &server.url());
    set_heartbeats(&mut scene, "1", "4");
    let waiter = scene.start(&["run", "--", "true"]);
    waiter.until_it_says("may have forgotten leases, so nothing is lent for another");
    let hasty = scene.gpulock(&["run", "--no-wait", "--", "touch", "ran"]).expect(75);
    assert!(hasty.stderr.contains("nothing is lent"), "{hasty:?}");
    scene.set("GPULOCK_STORE", &format!("{}?after_restart=refuse", server.url()));
    let refused = scene.gpulock(&["run", "--", "touch", "ran"]).expect(75);
    assert!(refused.stderr.contains("hint: "), "{refused:?}");
    assert!(!scene.exists("ran"));
    waiter.ended().expect(0);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_a_command_outlives_a_short_absence() {
    let server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut scene = scene_with(&server);
    let holder = scene.holder("worker", &[]);
    server.kill();
    let patient = scene.start(&["run", "--", "touch", "ran"]);
    patient.until_it_says("trying again");
    scene.set_lock("store_patience", "100ms");
    let ended = scene.gpulock(&["run", "--", "touch", "hasty"]).expect(69);
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    server.start_again();
    scene.let_go("worker");
    holder.ended().expect(0);
    patient.ended().expect(0);
    assert!(scene.exists("ran") && !scene.exists("hasty"));
}

#[test]
fn a_command_whose_server_stays_away_is_stopped_before_its_lease_ends() {
    let server = RedisServer::start();
    let mut scene = scene_with(&server);
    set_heartbeats(&mut scene, "0.2", "2");
    scene.set_lock("stop_grace", "100ms");
    scene.set_lock("store_patience", "100ms");
    let holder = scene.holder("worker", &[]);
    let worker = scene.wait_for_pid("worker.pid");
    server.kill();
    holder.ended().expect(76);
    assert!(!super::program::lives(worker));
}

#[test]
fn no_password_is_ever_shown() {
    let server = RedisServer::with(&["--requirepass", "canary"]);
    let mut scene = Scene::new();
    scene.set_lock("store_patience", "100ms");
    let good = format!("redis://:canary@127.0.0.1:{}/0?after_restart=trust", server.port());
    let commands: [&[&str]; 6] = [
        &["run", "--", "true"],
        &["status"],
        &["status", "--json"],
        &["history"],
        &["doctor"],
        &["config", "show"],
    ];
    let with_user = good.replace("redis://:", "redis://nobody:");
    let wrong = good.replace("canary@", "canary2@");
    let away = good.replace(&server.port().to_string(), "1");
    let odd = format!("{good}&odd=canary");
    let option =
        format!("redis://127.0.0.1:{}/0?password=canary&sentinel_password=canary", server.port());
    for url in [&good, &with_user, &wrong, &away, &odd, &option] {
        scene.set("GPULOCK_STORE", url);
        for command in commands {
            let ended = scene.gpulock(command);
            assert!(!ended.told().contains("canary"), "{command:?} with {url}: {}", ended.told());
        }
    }
    scene.set("GPULOCK_STORE", &good);
    assert!(!scene.events().is_empty());
    assert!(!format!("{:?}", scene.events()).contains("canary"));
}

/// `gpulock` on one of two hosts, in the same folder.
fn on(hosts: &TwoHosts, host: Host, scene: &Scene, arguments: &[&str]) -> Command {
    // Who enters the mounts of another host begins in their root.
    let mut command = hosts.command(host, "env");
    command.arg("-C").arg(scene.path("")).arg(GPULOCK).args(arguments).env_clear();
    let here = scene.command(arguments);
    command.envs(here.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn scene_of(hosts: &TwoHosts) -> Scene {
    let mut scene = Scene::new();
    scene.set("GPULOCK_STORE", &format!("{}?after_restart=trust", hosts.url()));
    set_heartbeats(&mut scene, "0.3", "3");
    scene.set_lock("stop_grace", "100ms");
    scene
}

/// Holds on host A until it is stopped, and notes when it last worked.
fn worker_on_a(hosts: &TwoHosts, scene: &Scene) -> Running {
    let work =
        "while :; do cut -d ' ' -f 1 /proc/uptime > a.new && mv a.new a.last; sleep 0.01; done";
    let worker = scene.launch(on(hosts, Host::A, scene, &["run", "--", "sh", "-c", work]));
    let works = || scene.exists("a.last");
    until_or(works, || format!("the worker on A works; it said {:?}", worker.stderr()));
    worker
}

/// Waits on host B, and notes when it begins.
fn next_on_b(hosts: &TwoHosts, scene: &Scene) -> Running {
    let work = "cut -d ' ' -f 1 /proc/uptime > b.first";
    let next = scene.launch(on(hosts, Host::B, scene, &["run", "--", "sh", "-c", work]));
    let keys = ["HLEN", "gpulock:{default}:waiters"];
    until("the next one waits on B", || hosts.server().cli(&keys) == "2");
    next
}

fn seconds(scene: &Scene, name: &str) -> f64 {
    scene.read(name).trim().parse().unwrap()
}

#[test]
fn a_host_that_is_cut_off_has_stopped_before_another_one_begins() {
    let hosts = TwoHosts::start();
    let scene = scene_of(&hosts);
    let worker = worker_on_a(&hosts, &scene);
    let next = next_on_b(&hosts, &scene);
    hosts.cut(Host::A);
    next.ended().expect(0);
    let (last, first) = (seconds(&scene, "a.last"), seconds(&scene, "b.first"));
    assert!(last < first, "A worked until {last}, B began at {first}");
    hosts.heal(Host::A);
    worker.ended().expect(76);
}

#[test]
fn a_host_that_dies_leaves_its_gpu_to_another_one() {
    let mut hosts = TwoHosts::start();
    let scene = scene_of(&hosts);
    let worker = worker_on_a(&hosts, &scene);
    let next = next_on_b(&hosts, &scene);
    hosts.power_off(Host::A);
    next.ended().expect(0);
    assert!(seconds(&scene, "a.last") < seconds(&scene, "b.first"));
    drop(worker);
}

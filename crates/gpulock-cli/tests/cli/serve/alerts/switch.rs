//! The dead man's switch: it is asked while the monitor acts, and no longer when it does not.

use gpulock_testbed::{FaultProxy, RedisServer};
use serde_json::json;

use super::config;
use super::receiver::Receiver;
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const STOP: &str = "/api/v1/monitoring/monitor/stop";
const START: &str = "/api/v1/monitoring/monitor/start";

fn scene(switch: &Receiver) -> Scene {
    let url = switch.url("/ping");
    let config = config(&["    log: {log: }\n".to_owned()], "0s", "");
    Scene::with_config(&format!(
        "{config}  dead_mans_switch: {{url: \"{url}\", interval: 200ms, allow_private: true}}\n"
    ))
}

#[test]
fn it_is_asked_while_the_monitor_acts_and_not_while_it_is_stopped() {
    let switch = Receiver::start();
    let scene = scene(&switch);
    let daemon = Daemon::start(&scene);
    switch.until_asked(3);
    let stopped = daemon.api().post(STOP, json!({ "reason": "maintenance" })).expect(200);
    assert_eq!(stopped.body["status"], "stopped");
    until("it no longer acts", || !daemon.acts());
    until_silent(&switch);
    daemon.api().post(START, json!({})).expect(200);
    switch.until_asked(switch.requests().len() + 2);
    daemon.stop();
}

#[test]
fn it_is_not_asked_while_the_monitor_waits_for_a_store_that_says_nothing() {
    let (switch, server) = (Receiver::start(), RedisServer::start());
    let proxy = FaultProxy::to(("127.0.0.1", server.port()));
    let mut scene = scene(&switch);
    scene.set("GPULOCK_STORE", &(proxy.url() + "?after_restart=trust"));
    let daemon = Daemon::start(&scene);
    switch.until_asked(3);
    proxy.block();
    until_silent(&switch);
    proxy.unblock();
    switch.until_asked(switch.requests().len() + 2);
    daemon.stop();
}

/// Waits until it is asked no more for many intervals.
#[track_caller]
fn until_silent(switch: &Receiver) {
    let mut before = 0;
    until("it is asked no more", || {
        let known = std::mem::replace(&mut before, switch.requests().len());
        std::thread::sleep(std::time::Duration::from_secs(2));
        known == before && switch.requests().len() == known
    });
}

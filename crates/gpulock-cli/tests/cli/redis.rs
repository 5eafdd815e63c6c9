//! `gpulock` on Redis, in detail: what is said word for word, and what must never happen,
//! whatever becomes of the server, the network and the hosts. Each test has a server of its
//! own.

mod closed;
mod deaths;
mod outages;
mod refusals;
mod secrets;
mod stores;
mod two_hosts;

use std::ops::{Deref, DerefMut};

use gpulock_testbed::RedisServer;
use insta::internals::SettingsBindDropGuard;
use serde_json::Value;

use super::scene::Scene;

/// Arguments of a server that comes back with everything it has confirmed.
const KEEPS_ALL: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A server without them closes its pools for a while after each start, unless nobody minds.
const TRUST: &str = "?after_restart=trust";

/// A command that notes again and again that it is alive, until it is told to stop.
const NOTES: &str = "exec 2>/dev/null; echo $$ > worker.pid
    while :; do date +%s.%N >> alive.notes; sleep 0.01; done";

/// A scene whose store is a Redis server.
struct OnRedis {
    // The settings of snapshots are left in the reverse order of entering them.
    _filters: SettingsBindDropGuard,
    scene: Scene,
    server: RedisServer,
}

impl OnRedis {
    /// With a server that keeps nothing, and that nobody suspects of that.
    fn new() -> Self {
        let mut scene = Self::at(RedisServer::start());
        let url = scene.server.url() + TRUST;
        scene.set("GPULOCK_STORE", &url);
        scene
    }

    /// With this server.
    fn at(server: RedisServer) -> Self {
        let mut scene = Scene::with_config("gpus: [0]\n");
        scene.set("GPULOCK_STORE", &server.url());
        Self { _filters: filters().bind_to_scope(), scene, server }
    }
}

fn filters() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(127\.0\.0\.1|localhost):[0-9]+", "$1:PORT");
    settings.add_filter(r"=/[^ ]*/gpulock-redis-[^/]+", "=SERVER");
    settings.add_filter(r"\btester@[^ ]+", "tester@HOST");
    // Since Redis 7.2 it calls the user by name.
    settings
        .add_filter(r"(this user|User [a-z]+) has no permissions", "this user has no permissions");
    settings.add_filter(r"for another [0-9][0-9a-z. ]*", "for another SPAN");
    settings
}

impl Deref for OnRedis {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl DerefMut for OnRedis {
    fn deref_mut(&mut self) -> &mut Scene {
        &mut self.scene
    }
}

/// Sets how long a lease lives without a heartbeat, and how often there is one.
fn set_heartbeats(scene: &mut Scene, interval: &str, timeout: &str) {
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", interval);
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", timeout);
}

/// When a lease ends unless it is renewed, in seconds on the store's clock, which is the wall
/// clock of this machine.
fn deadline(lease: &Value) -> f64 {
    let field = |name: &str| lease[name].as_f64().unwrap_or_else(|| panic!("{name} of {lease}"));
    field("acquired_at") + field("age_seconds") + field("deadline_in_seconds")
}

/// The last moment that a command has noted in whole, on the wall clock.
fn last_note(scene: &Scene, file: &str) -> f64 {
    let text = scene.read(file);
    let (whole, _) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{file} is {text:?}"));
    whole.lines().last().unwrap().parse().unwrap()
}

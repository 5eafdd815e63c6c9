//! The store goes away: the daemon that acted tells, alone and once, also when it is back.

use gpulock_testbed::{FaultProxy, RedisServer};

use super::book::Ledger;
use super::config;
use super::receiver::Receiver;
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const AWAY: &str = "GPU_LOCK_STORE_UNREACHABLE";
const KEEPS_ALL: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

struct OnRedis {
    scene: Scene,
    server: RedisServer,
    url: String,
    hook: Receiver,
}

fn on_redis() -> OnRedis {
    let (hook, server) = (Receiver::start(), RedisServer::with(KEEPS_ALL));
    let config = config(&[hook.webhook("hook")], "0s", "");
    let rules = format!("{config}  rules: {{{AWAY}: {{threshold: 1}}}}\n");
    let mut scene = Scene::with_config(&rules);
    let url = server.url() + "?after_restart=trust";
    scene.set("GPULOCK_STORE", &url);
    OnRedis { scene, server, url, hook }
}

#[test]
fn the_daemon_that_acted_tells_alone_that_the_store_is_away_and_that_it_is_back() {
    let OnRedis { scene, server, url, hook } = on_redis();
    let first = Daemon::start(&scene);
    first.until_it_acts();
    let second = Daemon::start(&scene);
    server.kill();
    let told = &hook.until_told(AWAY, 1)[0];
    assert!(told.is_firing());
    assert!(
        told.alerts()[0]["annotations"]["error"].as_str().unwrap().contains("reached"),
        "{told:?}"
    );
    server.start_again();
    let told = &hook.until_told(AWAY, 2)[1];
    assert!(!told.is_firing());
    let ledger = Ledger::of(&url);
    until("it stands in the book", || ledger.has(AWAY, "resolved"));
    ledger.raise("at_the_end", "last");
    hook.until_told("at_the_end", 1);
    assert_eq!(hook.about(AWAY).len(), 2, "{:?}", hook.headlines());
    let known = ledger.alert(AWAY);
    assert!(known.ended_at.unwrap() > known.began_at, "{known:?}");
    first.stop();
    second.stop();
}

#[test]
fn a_store_that_says_nothing_is_away_too() {
    let OnRedis { mut scene, server, hook, .. } = on_redis();
    let proxy = FaultProxy::to(("127.0.0.1", server.port()));
    scene.set("GPULOCK_STORE", &(proxy.url() + "?after_restart=trust"));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    proxy.block();
    assert!(hook.until_told(AWAY, 1)[0].is_firing());
    proxy.unblock();
    assert!(!hook.until_told(AWAY, 2)[1].is_firing());
    daemon.stop();
}

#[test]
fn a_daemon_that_starts_while_the_store_is_away_tells_too() {
    let OnRedis { scene, server, url, hook } = on_redis();
    server.kill();
    let daemon = scene.start(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(hook.until_told(AWAY, 1)[0].is_firing());
    server.start_again();
    assert!(!hook.until_told(AWAY, 2)[1].is_firing());
    let ledger = Ledger::of(&url);
    until("it stands in the book", || ledger.has(AWAY, "resolved"));
    daemon.signal(rustix::process::Signal::TERM);
    daemon.ended().expect(0);
}

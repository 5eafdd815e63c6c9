//! Daemons that die at any moment of a message's way, and others that go on.
//!
//! A message is sent at least once. It is sent twice if the daemon dies (or the store is lost)
//! after the other side has read it and before the book knows: the second one has the same id.

use gpulock_testbed::RedisServer;

use super::book::Ledger;
use super::config;
use super::receiver::{Manner, Receiver};
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const MONITOR_DOWN: &str = "MONITOR_SERVICE_DOWN";

/// Until somebody else sends what a dead daemon was sending, its channel's `timeout` and ten
/// seconds have to pass.
fn impatient(receiver: &Receiver, name: &str) -> String {
    receiver.webhook(name).replace("allow_private", "timeout: 1s, allow_private")
}

#[test]
fn what_was_being_sent_by_a_daemon_that_died_comes_again_with_the_same_id_and_nothing_else_does() {
    let (slow, quick) = (Receiver::with(Manner::Hangs), Receiver::start());
    let channels = [impatient(&slow, "slow"), impatient(&quick, "quick")];
    let scene = Scene::with_config(&config(&channels, "0s", ""));
    let ledger = Ledger::of(&scene.store_url());
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    ledger.raise("cuda_oom", "the card is full");
    slow.until_asked(1);
    quick.until_told("cuda_oom", 1);
    until("the book knows that the quick one has it", || ledger.letters().len() == 1);
    daemon.kill();
    slow.behave(Manner::Takes);
    let daemon = Daemon::start(&scene);
    slow.until_told("cuda_oom", 1);
    until("nothing is on its way", || ledger.letters().is_empty());
    let asked = slow.requests();
    assert!(!asked[0].id.is_empty());
    let again = asked.iter().filter(|got| got.rules() == ["cuda_oom"]);
    assert!(again.clone().all(|got| got.id == asked[0].id), "{asked:#?}");
    assert_eq!(again.filter(|got| got.is_taken).count(), 1);
    ledger.raise("at_the_end", "last");
    quick.until_told("at_the_end", 1);
    quick.until_told(MONITOR_DOWN, 1);
    assert_eq!(quick.about("cuda_oom").len(), 1, "{:?}", quick.headlines());
    daemon.stop();
}

#[test]
fn a_daemon_that_dies_before_it_sends_loses_nothing_and_after_it_repeats_nothing() {
    let hook = Receiver::start();
    let scene = Scene::with_config(&config(&[hook.webhook("hook")], "3s", ""));
    let ledger = Ledger::of(&scene.store_url());
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    ledger.raise("early", "before it is sent");
    until("it stands in the book", || ledger.has("early", "firing"));
    daemon.kill();
    assert_eq!(hook.headlines(), [""; 0], "the group still waits");
    let daemon = Daemon::start(&scene);
    hook.until_told("early", 1);
    until("the book knows", || ledger.letters().is_empty());
    daemon.kill();
    let daemon = Daemon::start(&scene);
    ledger.raise("late", "after it was sent");
    hook.until_told("late", 1);
    assert_eq!(hook.about("early").len(), 1, "{:?}", hook.headlines());
    daemon.stop();
}

/// Two daemons on one store: each message once, also when the one that acts is killed.
fn two_daemons(scene: &Scene, url: &str) {
    let hook = Receiver::start();
    scene.write("config.yml", config(&[hook.webhook("hook")], "2s", ""));
    let ledger = Ledger::of(url);
    let first = Daemon::start(scene);
    first.until_it_acts();
    let second = Daemon::start(scene);
    for name in ["one", "two", "three"] {
        ledger.raise(name, "something");
    }
    for name in ["one", "two", "three"] {
        hook.until_told(name, 1);
    }
    ledger.raise("pending", "not yet sent");
    until("it stands in the book", || ledger.has("pending", "firing"));
    first.kill();
    second.until_it_acts();
    hook.until_told("pending", 1);
    hook.until_told(MONITOR_DOWN, 1);
    ledger.raise("at_the_end", "last");
    hook.until_told("at_the_end", 1);
    until("nothing is on its way", || ledger.letters().is_empty());
    for name in ["one", "two", "three", "pending", MONITOR_DOWN, "at_the_end"] {
        assert_eq!(hook.about(name).len(), 1, "{name} in {:?}", hook.headlines());
    }
    let requests = ledger.sums().channels["hook"].requests;
    assert_eq!(requests, hook.requests().len() as u64, "nobody sent beside the book");
    second.stop();
}

#[test]
fn two_daemons_on_a_file_send_each_message_once_and_one_goes_on_for_the_other() {
    let scene = Scene::new();
    two_daemons(&scene, &scene.store_url());
}

#[test]
fn two_daemons_on_redis_send_each_message_once_and_one_goes_on_for_the_other() {
    let server = RedisServer::start();
    let url = server.url() + "?after_restart=trust";
    let mut scene = Scene::new();
    scene.set("GPULOCK_STORE", &url);
    two_daemons(&scene, &url);
}

//! What nobody can be sure of: whether a step was made whose answer was lost, and what others did
//! while a daemon hung. Nothing is counted or told twice for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gpulock_testbed::{FaultProxy, RedisServer};
use rustix::process::Signal;

use super::book::Ledger;
use super::receiver::Receiver;
use super::{config, rounds};
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const TRUST: &str = "?after_restart=trust";

#[test]
fn what_another_one_heard_while_a_daemon_hung_is_counted_and_told_once() {
    let hook = Receiver::start();
    let scene = Scene::with_config(&config(&[hook.webhook("hook")], "0s", ""));
    let ledger = Ledger::of(&scene.store_url());
    let first = Daemon::start(&scene);
    first.until_it_acts();
    ledger.raise("known_to_both", "first");
    hook.until_told("known_to_both", 1);
    let second = Daemon::start(&scene);
    first.signal(Signal::STOP);
    second.until_it_acts();
    ledger.raise("while_it_hung", "second");
    hook.until_told("while_it_hung", 1);
    until("the book knows", || ledger.letters().is_empty());
    first.signal(Signal::CONT);
    first.until_it_says("has lost its lease");
    ledger.raise("at_the_end", "last");
    hook.until_told("at_the_end", 1);
    for name in ["known_to_both", "while_it_hung", "at_the_end"] {
        assert_eq!(ledger.alert(name).count, 1, "{name}");
        assert_eq!(hook.about(name).len(), 1, "{name} in {:?}", hook.headlines());
    }
    first.stop();
    second.stop();
}

#[test]
fn nothing_is_counted_twice_when_answers_of_the_store_are_lost() {
    let (hook, server) = (Receiver::start(), RedisServer::start());
    let proxy = FaultProxy::to(("127.0.0.1", server.port()));
    let mut scene =
        Scene::with_config(&config(&[hook.webhook("hook")], "0s", ", group_by: [pool]"));
    scene.set("GPULOCK_STORE", &(proxy.url() + TRUST));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&(server.url() + TRUST));
    let is_over = AtomicBool::new(false);
    let raised = 300;
    thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(15));
                proxy.swallow_replies(true);
                thread::sleep(Duration::from_millis(5));
                proxy.cut();
                proxy.swallow_replies(false);
            }
        });
        for number in 0..raised {
            ledger.raise("cuda_oom", &format!("number {number}"));
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    ledger.raise("at_the_end", "last");
    until("it has read to the end", || ledger.has("at_the_end", "firing"));
    assert!(proxy.bytes_swallowed() > 0);
    daemon.stop();
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    ledger.raise("to_the_next", "news");
    until("the next one has read to the end", || ledger.has("to_the_next", "firing"));
    for (name, count) in [("cuda_oom", raised), ("at_the_end", 1), ("to_the_next", 1)] {
        assert_eq!(ledger.alert(name).count, count, "{name}");
    }
    daemon.stop();
}

#[test]
fn a_pool_that_cannot_be_read_keeps_nobody_from_hearing_of_the_others() {
    let (hook, server) = (Receiver::start(), RedisServer::start());
    let url = server.url() + TRUST;
    let mut scene = Scene::with_config(&config(&[hook.webhook("hook")], "0s", ""));
    scene.set("GPULOCK_STORE", &url);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&url);
    ledger.storm(&["odd".to_owned()], &["before"], 1);
    hook.until_told("before", 1);
    let keys = server.cli(&["keys", "*{odd}:journal"]);
    let key =
        keys.lines().next().unwrap_or_else(|| panic!("no journal: {}", server.cli(&["keys", "*"])));
    server.cli(&["xadd", key.trim(), "*", "e", "{\"event\": 7}"]);
    ledger.raise("after", "in another pool");
    hook.until_told("after", 1);
    daemon.stop();
}

#[test]
fn a_store_that_does_not_list_its_pools_for_a_while_makes_nobody_forget_what_was_heard() {
    let (hook, server) = (Receiver::start(), RedisServer::start());
    let url = server.url() + TRUST;
    let mut scene = Scene::with_config(&config(&[hook.webhook("hook")], "0s", ""));
    scene.set("GPULOCK_STORE", &url);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&url);
    ledger.raise("cuda_oom", "the card is full");
    hook.until_told("cuda_oom", 1);
    server.cli(&["acl", "setuser", "default", "-smembers"]);
    let first = rounds(&daemon);
    until("rounds were made", || rounds(&daemon) >= first + 3);
    server.cli(&["acl", "setuser", "default", "+smembers"]);
    daemon.stop();
    let daemon = Daemon::start(&scene);
    ledger.raise("to_the_next", "news");
    hook.until_told("to_the_next", 1);
    assert_eq!(ledger.alert("cuda_oom").count, 1);
    daemon.stop();
}

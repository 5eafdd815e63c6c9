//! Channels that do not work: they hold up nobody, neither the monitor nor other channels.

use std::thread;
use std::time::Duration;

use gpulock_testbed::RedisServer;

use super::book::Ledger;
use super::receiver::{Manner, Receiver};
use super::{config, rounds};
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

#[test]
fn a_channel_that_never_answers_delays_neither_the_monitor_nor_another_channel() {
    let (dead, good) = (Receiver::with(Manner::Hangs), Receiver::start());
    // Longer than the test: whatever happens in it happens while the dead one has the message.
    let dead_hook = dead.webhook("dead").replace("allow_private", "timeout: 1h, allow_private");
    let nameless = "    nameless: {webhook: {url: \"http://nobody.invalid/hook\"}}\n".to_owned();
    let channels = [dead_hook, nameless, good.webhook("good")];
    let levels =
        "gpu_lock_monitor:\n  timeout_levels: {warning: 1, soft_timeout: 2, hard_timeout: 3}";
    let config = config(&channels, "0s", ", group_by: [\"...\"]");
    let config =
        config.replace("gpu_lock_monitor:", levels).replace("stop_grace: 1h", "stop_grace: 200ms");
    let scene = Scene::with_config(&config);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    for name in ["one", "two", "three"] {
        ledger.raise(name, "something");
    }
    dead.until_asked(1);
    let hog = scene.start_run("hog", &[], "trap '' TERM; while :; do sleep 0.05; done");
    hog.ended().expect(76);
    let hard = good.until_told("GPU_LOCK_HARD_TIMEOUT", 1);
    assert_eq!(hard[0].labels("task"), ["hog"]);
    let first = rounds(&daemon);
    until("the monitor goes on", || rounds(&daemon) >= first + 4);
    let requests = ledger.sums().channels["nameless"].requests;
    assert!(requests > 0);
    until("the nameless one has failed", || {
        ledger.sums().channels["nameless"].failed.values().sum::<u64>() > 0
    });
    assert_eq!(dead.requests().len(), 1, "one at a time");
    for name in ["one", "two", "three"] {
        assert_eq!(good.about(name).len(), 1, "{:?}", good.headlines());
    }
    daemon.stop();
}

#[test]
fn a_message_that_is_refused_comes_again_until_it_is_taken() {
    let manners = [
        Manner::Refuses(500),
        Manner::Throttles,
        Manner::HangsUp,
        Manner::Complains,
        Manner::Hangs,
    ];
    let receivers: Vec<_> = manners.into_iter().map(Receiver::with).collect();
    let channel = |(at, receiver): (usize, &Receiver)| {
        let url = receiver.url("/robot/send?access_token=abc");
        format!(
            "    robot{at}: {{dingtalk: {{url: \"{url}\"}}, allow_private: true, timeout: 1s, \
             rate_limit: {{messages: 100, per: 10s}}}}\n"
        )
    };
    let channels: Vec<_> = receivers.iter().enumerate().map(channel).collect();
    let scene = Scene::with_config(&config(&channels, "0s", ""));
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    ledger.raise("cuda_oom", "the card is full");
    for receiver in &receivers {
        receiver.until_asked(1);
    }
    until("all have failed", || {
        let failed =
            |sums: &gpulock_alerts::book::ChannelSums| sums.failed.values().sum::<u64>() > 0;
        ledger.sums().channels.values().filter(|sums| failed(sums)).count() == receivers.len()
    });
    let reasons: Vec<_> =
        ledger.sums().channels.into_values().flat_map(|sums| sums.failed.into_keys()).collect();
    assert_eq!(
        reasons,
        ["serverError", "rateLimited", "unreachable", "serverError", "contextDeadlineExceeded"]
    );
    receivers.iter().for_each(|receiver| receiver.behave(Manner::Takes));
    until("all have it", || receivers.iter().all(|receiver| receiver.taken().len() == 1));
    until("nothing is on its way", || ledger.letters().is_empty());
    daemon.stop();
}

/// The daemon does not ask the store all the time while one message is on its way and others wait.
#[test]
fn what_waits_behind_a_message_is_waited_for_in_peace() {
    let dead = Receiver::with(Manner::Hangs);
    let server = RedisServer::start();
    let hook = dead.webhook("dead").replace("allow_private", "timeout: 1h, allow_private");
    let mut scene = Scene::with_config(&config(&[hook], "0s", ", group_by: [\"...\"]"));
    let url = server.url() + "?after_restart=trust";
    scene.set("GPULOCK_STORE", &url);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&url);
    ledger.raise("one", "is on its way");
    dead.until_asked(1);
    let alone = per_round(&daemon, &server);
    ledger.raise("two", "waits");
    until("it waits", || ledger.letters().len() == 2);
    let both = per_round(&daemon, &server);
    assert!(both < 2 * alone, "the store is asked {both} times in a round, and {alone} without");
    daemon.stop();
}

/// How often the server is asked in a round of the monitor.
fn per_round(daemon: &Daemon, server: &RedisServer) -> u64 {
    let commands = || {
        let stats = server.cli(&["info", "stats"]);
        let mut lines = stats.lines();
        let line = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let (first, before) = (rounds(daemon), commands());
    until("rounds were made", || {
        // The question itself asks the server too.
        thread::sleep(Duration::from_millis(200));
        rounds(daemon) >= first + 5
    });
    (commands() - before) / (rounds(daemon) - first)
}

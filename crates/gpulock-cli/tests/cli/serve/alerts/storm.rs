//! Thousands of things go wrong within seconds: few messages, and nothing is left uncounted.

use gpulock_testbed::RedisServer;

use super::book::Ledger;
use super::config;
use super::receiver::{Got, Receiver};
use crate::cli::program::until_or;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const KINDS: [&str; 4] = ["cuda_oom", "ecc_error", "nvlink_down", "xid_79"];

/// Fewer messages than this for all that happens.
const FEW: usize = 100;

/// Lets programs raise alerts in these pools as fast as they can, each kind so often.
fn storm(scene: &Scene, url: &str, pools: usize, each: usize) {
    let hook = Receiver::start();
    let config = config(&[hook.webhook("hook")], "1s", ", group_by: [alertname]");
    scene.write("config.yml", format!("{config}  resolve_timeout: 3s\n"));
    let daemon = Daemon::start(scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(url);
    let names: Vec<_> = (0..pools).map(|pool| format!("pool{pool}")).collect();
    ledger.storm(&names, &KINDS, each);
    let all = (pools * KINDS.len() * each) as u64;
    let counted = || hook.taken().iter().map(over).sum::<u64>();
    until_or(|| counted() >= all, || format!("{all} are told, not {}", counted()));
    assert_eq!(counted(), all);
    let told = hook.headlines();
    assert!(told.len() < FEW, "{told:#?}");
    for kind in KINDS {
        assert!(hook.about(kind).len() >= 2, "{kind} in {told:#?}");
    }
    daemon.stop();
}

/// How often had happened what a message says is over.
fn over(got: &Got) -> u64 {
    let over = got.alerts().iter().filter(|alert| alert["status"] == "resolved");
    over.map(|alert| alert["count"].as_u64().unwrap_or_else(|| panic!("{alert}"))).sum()
}

#[test]
fn ten_thousand_alerts_in_many_pools_make_few_messages_and_all_are_counted() {
    let server = RedisServer::start();
    let url = server.url() + "?after_restart=trust";
    let mut scene = Scene::new();
    scene.set("GPULOCK_STORE", &url);
    storm(&scene, &url, 10, 250);
}

#[test]
fn ten_thousand_alerts_in_one_pool_make_few_messages_and_all_are_counted() {
    let scene = Scene::new();
    storm(&scene, &scene.store_url(), 1, 2_500);
}

#[test]
fn ten_thousand_kinds_of_alerts_are_counted_too() {
    let hook = Receiver::start();
    let config = config(&[hook.webhook("hook")], "1s", ", group_by: [pool]");
    let server = RedisServer::start();
    let url = server.url() + "?after_restart=trust";
    let mut scene = Scene::with_config(&config);
    scene.set("GPULOCK_STORE", &url);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&url);
    let kinds: Vec<_> = (0..1_000).map(|kind| format!("kind{kind}")).collect();
    let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
    let pools: Vec<_> = (0..10).map(|pool| format!("pool{pool}")).collect();
    ledger.storm(&pools, &kinds, 1);
    let count = || ledger.alerts().iter().map(|alert| alert.count).sum::<u64>();
    until_or(|| count() >= 10_000, || format!("10,000 are counted, not {}", count()));
    assert_eq!(count(), 10_000);
    until_or(|| hook.taken().len() >= pools.len(), || format!("{:?}", hook.headlines().len()));
    assert!(hook.taken().len() < FEW);
    daemon.stop();
}

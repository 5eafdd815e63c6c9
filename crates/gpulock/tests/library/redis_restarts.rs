//! Servers that come back, with or without what they knew, and servers that are full.

use std::time::Duration;

use gpulock::core::{Refusal, Token, What};
use gpulock::store::StoreError;
use gpulock::{Client, Error, Health, Lease, Loss, Options, connect};
use gpulock_testbed::{RedisServer, Sentinels};

use super::support::{World, block_on, patient, task, trusted, until};

/// How long a lease lives here without a heartbeat, and so how long a pool is closed.
const TIMEOUT: Duration = Duration::from_secs(3);

const KEEPS_ALL: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn client(url: &str) -> Client {
    client_with(url, |_| {})
}

fn client_with(url: &str, change: impl FnOnce(&mut Options)) -> Client {
    let mut options =
        Options { heartbeat_interval: TIMEOUT / 15, heartbeat_timeout: TIMEOUT, ..patient() };
    change(&mut options);
    Client::builder(connect(url).unwrap()).options(options).build().unwrap()
}

fn take(client: &Client, name: &str) -> Lease {
    client.request(task(name)).acquire().unwrap()
}

#[test]
fn a_server_that_keeps_its_data_comes_back_with_leases_and_queue() {
    let server = RedisServer::with(KEEPS_ALL);
    let world = World::at(server.url());
    let (holding, waiting) = (client(&server.url()), client(&server.url()));
    let holder = take(&holding, "holder");
    let next = waiting.request(task("waiter")).start().unwrap();
    world.until_queued(1);
    server.kill();
    server.start_again();
    let (token, id) = (holder.token(), holder.id());
    assert_eq!(world.view().pool.lease(id).map(|lease| lease.token), Some(token));
    assert_eq!(world.view().pool.closed_for(world.view().now), None);
    block_on(holder.release()).unwrap();
    let next = block_on(next).unwrap();
    assert!(next.token() > token);
    block_on(next.release()).unwrap();
}

#[test]
fn a_server_that_forgot_everything_lends_nothing_until_old_leases_are_over() {
    let server = RedisServer::start();
    let world = World::at(server.url());
    let (first, second) = (client(&server.url()), client(&server.url()));
    let forgotten = take(&first, "forgotten");
    server.kill();
    server.start_again();

    let asking = second.request(task("next")).start().unwrap();
    let progress = asking.progress();
    let next = block_on(asking).unwrap();
    assert!(progress.borrow().closed_for.is_some(), "it was told why it had to wait");
    // Its holder has been told, or has stopped by its own clock.
    assert!(forgotten.is_lost());
    assert!(next.token() > forgotten.token(), "tokens grow although the last one is forgotten");
    let view = world.view();
    let closed_until = view.pool.ledger.closed_until.unwrap();
    assert!(view.pool.lease(next.id()).unwrap().acquired_at >= closed_until);
    let told = world
        .history()
        .into_iter()
        .any(|event| event.what == What::Resumed { closed_until: Some(closed_until) });
    assert!(told, "the journal tells of it");
}

#[test]
fn a_holder_hears_at_its_next_heartbeat_that_its_lease_is_forgotten() {
    let server = RedisServer::start();
    let url = trusted(&server);
    let client = client_with(&url, |options| options.heartbeat_timeout = TIMEOUT * 100);
    let lease = take(&client, "forgotten");
    server.start_again();
    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::Refused));
}

#[test]
fn whoever_does_not_want_to_wait_for_forgotten_leases_is_refused() {
    let server = RedisServer::start();
    let url = format!("{}?after_restart=refuse", server.url());
    let refused = client(&url).request(task("hasty")).acquire().unwrap_err();
    assert!(matches!(&refused, Error::Refused(Refusal::Closed { left }) if *left <= TIMEOUT));
    let queue = World::at(server.url()).queue();
    assert_eq!(queue, [], "and leaves nothing behind");
}

#[test]
fn whoever_trusts_the_server_is_served_at_once_and_tokens_still_grow() {
    let server = RedisServer::start();
    let url = trusted(&server);
    let mut last = Token::default();
    for _ in 0..3 {
        let lease = take(&client(&url), "trusting");
        assert!(lease.token() > last);
        last = lease.token();
        server.start_again();
    }
}

/// A picture that this client has in memory says nothing about a server that came back.
#[test]
fn nothing_is_written_that_was_decided_before_the_server_came_back() {
    let server = RedisServer::with(&["--save", "3600", "1"]);
    let (one, other) = (client(&server.url()), client(&server.url()));
    drop(take(&one, "first"));
    World::at(server.url()).until_free();
    server.cli(&["SAVE"]);
    // The last that the saved file knows is what `one` remembers.
    let forgotten = take(&other, "forgotten");
    server.start_again();
    let next = take(&one, "next");
    assert!(forgotten.is_lost());
    assert!(next.token() > forgotten.token());
}

#[test]
fn a_full_server_takes_nothing_new_and_everything_back() {
    let server = RedisServer::start();
    let url = trusted(&server);
    let world = World::at(url.clone());
    let client = client(&url);
    let holder = take(&client, "holder");
    let next = client.request(task("waiter")).start().unwrap();
    world.until_queued(1);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);

    let refused = client.request(task("late")).acquire().unwrap_err();
    assert!(matches!(&refused, Error::Store(StoreError::OutOfMemory(_))), "{refused}");
    let seen = world.view().pool.lease(holder.id()).unwrap().renewed_at();
    until("heartbeats go on", || world.view().pool.lease(holder.id()).unwrap().renewed_at() > seen);
    holder.progress(50.0, "half way");
    until("so does progress", || world.view().pool.lease(holder.id()).unwrap().progress.is_some());
    block_on(holder.release()).unwrap();
    let next = block_on(next).expect("who was in the queue is served");
    block_on(next.release()).unwrap();

    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    drop(take(&client, "late"));
}

/// A master with a replica that has everything so far.
fn master_and_replica() -> Sentinels {
    let sentinels = Sentinels::start(1);
    until("the replica follows", || {
        sentinels.master().cli(&["INFO", "replication"]).contains("state=online")
    });
    sentinels
}

/// Cuts the replica off, so that the master's next writes never reach it.
fn let_replica_lag(sentinels: &Sentinels) {
    sentinels.replicas()[0].pause();
    sentinels.master().cli(&["CLIENT", "KILL", "TYPE", "replica"]);
}

/// Lets the master die and the replica take its place.
fn lose_master(sentinels: &Sentinels) {
    let (master, replica) = (sentinels.master(), sentinels.replicas()[0]);
    master.kill();
    replica.resume();
    sentinels.wait_for_another_master(0);
}

#[test]
fn a_fail_over_to_a_lagging_replica_lends_nothing_until_lost_leases_are_over() {
    let sentinels = master_and_replica();
    let url = sentinels.url(Sentinels::SERVICE);
    let world = World::at(url.clone());
    drop(take(&client(&url), "before"));
    world.until_free();
    let_replica_lag(&sentinels);
    let lost = take(&client(&url), "lost");
    lose_master(&sentinels);
    let next = take(&client(&url), "next");
    assert!(lost.is_lost(), "the first had stopped believing before the second was granted");
    assert!(next.token() > lost.token());
}

/// The price of trust: for a while two believe. The token tells them apart.
#[test]
fn a_trusted_fail_over_to_a_lagging_replica_overlaps_until_the_next_heartbeat() {
    let sentinels = master_and_replica();
    let url = format!("{}?after_restart=trust", sentinels.url(Sentinels::SERVICE));
    let world = World::at(url.clone());
    let slow = client_with(&url, |options| options.heartbeat_interval = Duration::from_secs(2));
    drop(take(&slow, "before"));
    world.until_free();
    let_replica_lag(&sentinels);
    let lost = take(&slow, "lost");
    lose_master(&sentinels);
    let next = take(&client(&url), "next");
    assert!(next.token() > lost.token());
    block_on(lost.lost());
    next.check().unwrap();
}

#[test]
fn a_grant_that_reached_too_few_replicas_is_refused() {
    let sentinels = master_and_replica();
    let url = format!("{}?min_replicas=1&replica_timeout=200ms", sentinels.url(Sentinels::SERVICE));
    let world = World::at(url.clone());
    let client = client(&url);
    until("the replica confirms", || client.request(task("replicated")).acquire().is_ok());
    world.until_free();
    let_replica_lag(&sentinels);
    let refused = client.request(task("lonely")).acquire().unwrap_err();
    assert!(
        matches!(&refused, Error::Store(StoreError::NotReplicated { wanted: 1, reached: 0, .. })),
        "{refused}"
    );
    world.until_free();
}

#[test]
fn leases_survive_a_fail_over_to_a_replica_that_has_them() {
    let sentinels = master_and_replica();
    let url = format!("{}?min_replicas=1&after_restart=trust", sentinels.url(Sentinels::SERVICE));
    let client = client_with(&url, |options| options.heartbeat_timeout = TIMEOUT * 10);
    until("the replica confirms", || client.request(task("first")).acquire().is_ok());
    let lease = take(&client, "holder");
    let next = client.request(task("waiter")).start().unwrap();
    World::at(url.clone()).until_queued(1);
    sentinels.fail_over();
    // From now on there is no replica that could confirm anything.
    let world = World::at(sentinels.url(Sentinels::SERVICE) + "?after_restart=trust");
    assert_eq!(world.view().pool.lease(lease.id()).map(|lease| lease.token), Some(lease.token()));
    assert_eq!(world.queue(), [next.lease_id()]);
}

#[test]
fn what_a_newer_gpulock_or_another_program_wrote_is_left_alone() {
    let server = RedisServer::start();
    let url = trusted(&server);
    let client = client(&url);
    drop(take(&client, "first"));
    World::at(url).until_free();
    let key = "gpulock:{default}:head";
    server.cli(&["HSET", key, "format", "99"]);
    let refused = client.request(task("older")).acquire().unwrap_err();
    assert!(matches!(&refused, Error::Store(StoreError::Newer { found: 99, .. })), "{refused}");
    server.cli(&["HSET", key, "format", "1", "odd", "{"]);
    let refused = client.request(task("puzzled")).acquire().unwrap_err();
    assert!(matches!(&refused, Error::Store(StoreError::Unreadable { .. })), "{refused}");
    server.cli(&["DEL", key]);
    server.cli(&["SET", key, "somebody else's"]);
    let refused = client.request(task("refused")).acquire().unwrap_err();
    assert!(matches!(&refused, Error::Store(error) if !error.is_transient()), "{refused}");
    assert_eq!(server.cli(&["GET", key]), "somebody else's");
}

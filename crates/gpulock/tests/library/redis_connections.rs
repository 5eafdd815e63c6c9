//! A real Redis server behind a bad network: nothing is granted twice, nobody waits in vain,
//! nobody believes in a lease for too long.

use std::thread;
use std::time::Duration;

use gpulock::core::{Event, What};
use gpulock::{Client, Error, Health, Loss, Options, connect};
use gpulock_testbed::{FaultProxy, RedisServer};

use super::support::{World, block_on, patient, task, trusted, until};

/// A server, a world that looks at it directly, and a bad way to it.
struct Trouble {
    world: World,
    proxy: FaultProxy,
    server: RedisServer,
}

impl Trouble {
    fn new() -> Self {
        let server = RedisServer::start();
        let proxy = FaultProxy::to(("127.0.0.1", server.port()));
        Self { world: World::at(trusted(&server)), proxy, server }
    }

    /// A client that takes the bad way.
    fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = patient();
        change(&mut options);
        let store = connect(&format!("{}?after_restart=trust", self.proxy.url())).unwrap();
        Client::builder(store).options(options).build().unwrap()
    }

    fn count(&self, fits: impl Fn(&What) -> bool) -> usize {
        self.world.history().iter().filter(|event: &&Event| fits(&event.what)).count()
    }

    fn listeners(&self) -> usize {
        self.server.cli(&["PUBSUB", "CHANNELS"]).lines().filter(|line| !line.is_empty()).count()
    }
}

#[test]
fn a_grant_whose_reply_is_lost_is_the_same_lease_when_asked_for_again() {
    let trouble = Trouble::new();
    // It has nothing to ask the server before it writes the grant.
    let client = trouble.client_with(|options| options.gpus = None);
    let before = client.request(task("before")).acquire().unwrap();
    block_on(before.release()).unwrap();

    trouble.proxy.swallow_replies(true);
    let asking = client.request(task("unlucky")).start().unwrap();
    let id = asking.lease_id();
    until("the server has granted it", || trouble.world.view().pool.lease(id).is_some());
    trouble.proxy.swallow_replies(false);
    trouble.proxy.cut();
    let lease = block_on(asking).unwrap();
    assert_eq!(lease.id(), id);
    assert_eq!(trouble.count(|what| matches!(what, What::Granted { .. })), 2);
    block_on(lease.release()).unwrap();
    assert_eq!(trouble.world.counters().ownership_violations, 0);
}

#[test]
fn a_release_whose_reply_is_lost_is_a_release() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let lease = client.request(task("unlucky")).acquire().unwrap();
    let id = lease.id();
    trouble.proxy.swallow_replies(true);
    let releasing = thread::spawn(move || block_on(lease.release()));
    until("the server has freed it", || trouble.world.view().pool.lease(id).is_none());
    trouble.proxy.swallow_replies(false);
    trouble.proxy.cut();
    releasing.join().unwrap().expect("it was released, whatever became of the first answer");
    assert_eq!(trouble.count(|what| matches!(what, What::Ended { .. })), 1);
}

#[test]
fn cut_connections_harm_neither_waiter_nor_holder_nor_release() {
    let trouble = Trouble::new();
    let (holding, waiting) = (trouble.client(), trouble.client());
    let holder = holding.request(task("holder")).acquire().unwrap();
    let next = waiting.request(task("waiter")).start().unwrap();
    trouble.world.until_queued(1);
    trouble.proxy.cut();
    until("both listen again", || trouble.listeners() == 2);
    trouble.proxy.cut();
    block_on(holder.release()).unwrap();
    let next = block_on(next).unwrap();
    trouble.proxy.cut();
    next.progress(50.0, "half way");
    until("the heartbeat has arrived", || {
        trouble.world.view().pool.lease(next.id()).is_some_and(|lease| lease.progress.is_some())
    });
    next.check().unwrap();
    block_on(next.release()).unwrap();
    trouble.world.until_free();
}

#[test]
fn a_server_that_forgets_its_scripts_is_told_them_again() {
    let trouble = Trouble::new();
    let client = trouble.client();
    for round in 0..3 {
        trouble.server.cli(&["SCRIPT", "FLUSH"]);
        let lease = client.request(task("reader")).acquire().unwrap();
        trouble.server.cli(&["SCRIPT", "FLUSH"]);
        block_on(lease.release()).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

/// The waiter would not look by itself while the test runs.
#[test]
fn a_wake_up_that_nobody_heard_is_made_good_when_the_connection_is_back() {
    let trouble = Trouble::new();
    let holder = trouble.world.client().request(task("holder")).acquire().unwrap();
    let client = trouble.client();
    let waiting = client.request(task("deaf")).start().unwrap();
    trouble.world.until_queued(1);
    trouble.proxy.refuse(true);
    trouble.server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("only the holder listens", || trouble.listeners() == 1);
    block_on(holder.release()).unwrap();
    trouble.proxy.refuse(false);
    block_on(waiting).unwrap().check().unwrap();
}

#[test]
fn a_slow_network_in_small_pieces_only_takes_longer() {
    let trouble = Trouble::new();
    let client = trouble.client();
    trouble.proxy.delay(Duration::from_millis(30));
    trouble.proxy.chunk(7);
    let holder = client.request(task("slow")).acquire().unwrap();
    let next = client.request(task("next")).start().unwrap();
    trouble.world.until_queued(1);
    block_on(holder.release()).unwrap();
    block_on(block_on(next).unwrap().release()).unwrap();
    assert_eq!(trouble.count(|what| matches!(what, What::Granted { .. })), 2);
}

/// It measures its time on its own clock, from before the last heartbeat that was answered.
#[test]
fn a_holder_that_is_cut_off_stops_believing_before_the_store_does() {
    let trouble = Trouble::new();
    let timeout = Duration::from_millis(1_500);
    let request = trouble.client().request(task("cut off")).heartbeats(timeout / 10, timeout);
    let lease = request.acquire().unwrap();
    trouble.proxy.block();
    block_on(lease.lost());
    let heard = lease.state().deadline.elapsed();
    let view = trouble.world.view();
    let since = lease.state().deadline.elapsed();
    let record = view.pool.lease(lease.id()).unwrap();
    // However busy the machine is: when its own deadline came, that of the store was yet to come.
    let ran_out = record.deadline().map(|deadline| view.now.since(deadline));
    assert!(ran_out.is_some_and(|ran_out| ran_out < since), "{heard:?} {since:?} {ran_out:?}");
    assert_eq!(lease.state().health, Health::Lost(Loss::Unreachable));

    // Nor does it believe again.
    trouble.proxy.unblock();
    trouble.proxy.cut();
    until("the store has ended it too", || {
        // Somebody has to come by.
        let other = trouble.world.client().request(task("other")).no_wait().acquire();
        assert!(other.is_err(), "its process lives, so its GPU is in use");
        trouble.world.view().pool.lease(lease.id()).is_some_and(|record| record.is_over())
    });
    assert!(lease.check().is_err());
}

#[test]
fn a_server_that_sleeps_longer_than_a_lease_ends_the_belief_in_it() {
    let trouble = Trouble::new();
    let timeout = Duration::from_millis(600);
    let client = trouble.client_with(|options| options.store_patience = Duration::from_millis(50));
    let request = client.request(task("holder")).heartbeats(timeout / 6, timeout);
    let lease = request.acquire().unwrap();
    trouble.server.pause();
    block_on(lease.lost());
    let other = trouble.client_with(|options| options.store_patience = Duration::from_millis(50));
    let refused = other.request(task("other")).no_wait().acquire();
    assert!(matches!(refused, Err(Error::Store(error)) if error.is_transient()));
    trouble.server.resume();
    assert_eq!(lease.state().health, Health::Lost(Loss::Unreachable));
    drop(lease);
    trouble.world.until_free();
}

#[test]
fn one_process_has_two_connections_however_many_leases_and_waiters_it_has() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let holder = client.request(task("holder")).acquire().unwrap();
    let waiting: Vec<_> =
        (0..50).map(|_| client.request(task("waiter")).start().unwrap()).collect();
    trouble.world.until_queued(50);
    assert_eq!(trouble.proxy.connections(), 2);
    drop(holder);
    for waiter in waiting {
        block_on(block_on(waiter).unwrap().release()).unwrap();
    }
    assert_eq!(trouble.proxy.connections(), 2);
}

//! Real processes that die, stop and go on. Each is this test binary, run once more.

use std::path::Path;
use std::thread;
use std::time::Duration;

use gpulock::core::{Cause, Ending, LeaseId, Time, What};
use gpulock::store::sqlite::SqliteStore;
use gpulock::{Client, Health};
use rustix::process::Signal;
use tempfile::TempDir;

use super::support::{AGES, Actor, World, block_on, full_name, part, patient, task, until};

/// A SQLite store that processes share.
struct Shared {
    folder: TempDir,
    world: World,
}

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpulock.db");
        let world = World::of(move || std::sync::Arc::new(SqliteStore::open(&path).unwrap()));
        Self { folder, world }
    }

    /// Starts a process in which the test `name` plays `what`.
    fn actor(&self, name: &str, what: &str) -> Actor {
        Actor::start(&full_name!(name), what, &self.folder.path().join("gpulock.db"))
    }

    /// The lease of a process, once it has one.
    fn lease_of(&self, actor: &Actor) -> gpulock::core::Lease {
        let mut found = None;
        until("the process holds", || {
            found = self.world.view().pool.leases.into_iter().find(|lease| {
                lease.owner.process.as_ref().is_some_and(|own| own.process.pid == actor.pid())
            });
            found.is_some()
        });
        found.unwrap()
    }

    fn until_drains(&self, lease_id: LeaseId) {
        until("the lease is over", || {
            self.world.view().pool.lease(lease_id).is_some_and(|lease| lease.is_over())
        });
    }

    /// What happened, the oldest first.
    fn events(&self) -> Vec<What> {
        self.world.history().into_iter().rev().map(|event| event.what).collect()
    }
}

fn client(store: &Path) -> Client {
    gpulock::Client::builder(std::sync::Arc::new(SqliteStore::open(store).unwrap()))
        .options(patient())
        .build()
        .unwrap()
}

/// Holds GPU 0 until the process is killed.
fn hold_until_killed(store: &Path) -> ! {
    let _lease = client(store).request(task("holder")).acquire().unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn the_gpu_of_a_killed_holder_goes_to_the_next_at_once() {
    if let Some((_, store)) = part() {
        hold_until_killed(&store);
    }
    let shared = Shared::new();
    let holder = shared.actor("the_gpu_of_a_killed_holder_goes_to_the_next_at_once", "holder");
    let lost = shared.lease_of(&holder);
    let next = shared.world.client().request(task("next")).start().unwrap();
    shared.world.until_queued(1);
    holder.signal(Signal::KILL);

    // Its deadline and every poll are hours away.
    let lease = block_on(next).unwrap();
    assert!(lease.token() > lost.token);
    let ended = shared.events().into_iter().find_map(|what| match what {
        What::Ended { token, how, draining, .. } => Some((token, how, draining)),
        _ => None,
    });
    assert_eq!(ended, Some((lost.token, Ending::Expired(Cause::HolderDied), false)));
    assert_eq!(shared.world.counters().died, 1);
}

#[test]
fn a_dead_waiter_loses_its_place() {
    if let Some((_, store)) = part() {
        hold_until_killed(&store);
    }
    let shared = Shared::new();
    let holder = shared.world.client().request(task("holder")).acquire().unwrap();
    let waiter = shared.actor("a_dead_waiter_loses_its_place", "waiter");
    shared.world.until_queued(1);
    let next = shared.world.client().request(task("next")).start().unwrap();
    shared.world.until_queued(2);
    waiter.signal(Signal::KILL);
    until("the dead one is out", || shared.world.queue() == [next.lease_id()]);
    assert_eq!(shared.world.counters().dropped, 1);
    holder.check().unwrap();
    drop(holder);
    block_on(next).unwrap();
}

/// Its processes live, so the GPU is in use, whatever the clock says.
#[test]
fn the_gpu_of_a_stopped_holder_drains_until_it_says_that_it_is_done() {
    if let Some((_, store)) = part() {
        let short = Duration::from_millis(300);
        let request = client(&store).request(task("stopped"));
        let lease = request.heartbeats(short / 10, short).acquire().unwrap();
        block_on(lease.lost());
        assert!(matches!(lease.state().health, Health::Lost(_)));
        lease.check().unwrap_err();
        return drop(lease);
    }
    let shared = Shared::new();
    let name = "the_gpu_of_a_stopped_holder_drains_until_it_says_that_it_is_done";
    let holder = shared.actor(name, "holder");
    let lease = shared.lease_of(&holder);
    holder.signal(Signal::STOP);
    let next = shared.world.client().request(task("next")).start().unwrap();
    shared.until_drains(lease.lease_id);
    until_looked_at(&shared, lease.lease_id, 3);
    assert_eq!(shared.world.queue(), [next.lease_id()], "it was not granted meanwhile");

    holder.signal(Signal::CONT);
    let next = block_on(next).unwrap();
    next.check().unwrap();
    holder.end();
    assert_ends_before_the_next(&shared.events());
}

#[test]
fn the_gpu_of_a_stopped_holder_is_free_when_it_is_killed() {
    if let Some((_, store)) = part() {
        let short = Duration::from_millis(300);
        let request = client(&store).request(task("stopped"));
        let _lease = request.heartbeats(short / 10, short).acquire().unwrap();
        loop {
            thread::park();
        }
    }
    let shared = Shared::new();
    let holder = shared.actor("the_gpu_of_a_stopped_holder_is_free_when_it_is_killed", "holder");
    let lease = shared.lease_of(&holder);
    holder.signal(Signal::STOP);
    let next = shared.world.client().request(task("next")).start().unwrap();
    shared.until_drains(lease.lease_id);
    until_looked_at(&shared, lease.lease_id, 2);
    holder.signal(Signal::KILL);
    block_on(next).unwrap();
    assert_ends_before_the_next(&shared.events());
}

/// Waits until a waiter has looked so often at the processes of a lease that is over, and has
/// found them alive.
fn until_looked_at(shared: &Shared, lease_id: LeaseId, times: usize) {
    let mut seen: Vec<Time> = Vec::new();
    until("the waiter has looked again and again", || {
        let view = shared.world.view();
        let lease = view.pool.lease(lease_id).expect("it drains while its process lives");
        let gpulock::core::Phase::Draining { seen_alive_at, .. } = lease.phase else {
            panic!("a lease that was over has come back: {lease:?}")
        };
        if !seen.contains(&seen_alive_at) {
            seen.push(seen_alive_at);
        }
        seen.len() > times
    });
}

/// The first lease ran out, then its processes were gone, and only then was the next granted.
fn assert_ends_before_the_next(events: &[What]) {
    let place = |fits: fn(&What) -> bool| events.iter().rposition(fits).unwrap();
    let granted = place(|what| matches!(what, What::Granted { .. }));
    let drained = place(|what| matches!(what, What::Drained { .. }));
    let ended = place(|what| matches!(what, What::Ended { draining: true, .. }));
    assert!(ended < drained && drained < granted, "{events:?}");
}

#[test]
fn a_stopped_waiter_loses_a_grant_that_it_does_not_pick_up() {
    if let Some((_, store)) = part() {
        hold_until_killed(&store);
    }
    let shared = Shared::new();
    let claim_time = Duration::from_millis(300);
    let client = shared.world.client_with(|options| options.claim_time = claim_time);
    let holder = client.request(task("holder")).acquire().unwrap();
    let waiter = shared.actor("a_stopped_waiter_loses_a_grant_that_it_does_not_pick_up", "waiter");
    shared.world.until_queued(1);
    waiter.signal(Signal::STOP);
    let next = client.request(task("next")).heartbeats(AGES, AGES * 3).start().unwrap();
    shared.world.until_queued(2);
    drop(holder);
    block_on(next).unwrap().check().unwrap();
    let not_claimed = |what: &What| {
        matches!(what, What::Ended { how: Ending::Expired(Cause::NotClaimed), draining: false, .. })
    };
    assert!(shared.events().iter().any(not_claimed));
}

#[test]
fn processes_that_create_a_store_at_the_same_moment_share_one() {
    const PROCESSES: usize = 16;
    if let Some((_, store)) = part() {
        // The moment is when the folder is there.
        until("the folder is there", || store.parent().is_some_and(Path::exists));
        drop(client(&store).request(task("newcomer")).acquire().unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("later");
    let store = place.join("gpulock.db");
    let name = full_name!("processes_that_create_a_store_at_the_same_moment_share_one");
    let actors: Vec<_> = (0..PROCESSES).map(|_| Actor::start(&name, "newcomer", &store)).collect();
    std::fs::create_dir(&place).unwrap();
    actors.into_iter().for_each(Actor::end);

    let world = World::of(move || std::sync::Arc::new(SqliteStore::open(&store).unwrap()));
    let counters = world.counters();
    assert_eq!((counters.granted, counters.released), (PROCESSES as u64, PROCESSES as u64));
    let left: Vec<_> = std::fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new")), "{left:?}");
}

/// Two processes contend, and each counts in a file that only the holder may touch.
#[test]
fn processes_never_overlap() {
    const ROUNDS: u64 = 100;
    const PROCESSES: u64 = 3;
    if let Some((_, store)) = part() {
        let counter = store.with_extension("count");
        let client = client(&store);
        for _ in 0..ROUNDS {
            let lease = client.request(task("counts")).acquire().unwrap();
            let count: u64 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
            std::fs::write(&counter, (count + 1).to_string()).unwrap();
            drop(lease);
        }
        return;
    }
    let shared = Shared::new();
    let counter = shared.folder.path().join("gpulock.count");
    std::fs::write(&counter, "0").unwrap();
    let actors: Vec<_> =
        (0..PROCESSES).map(|_| shared.actor("processes_never_overlap", "counts")).collect();
    actors.into_iter().for_each(Actor::end);
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), (PROCESSES * ROUNDS).to_string());
    assert_eq!(shared.world.counters().ownership_violations, 0);
}

/// Wherever in a write a process is killed, the store is whole and goes on.
#[test]
fn a_process_that_is_killed_while_it_writes_harms_nothing() {
    if let Some((_, store)) = part() {
        let client = client(&store);
        loop {
            drop(client.request(task("busy")).acquire().unwrap());
        }
    }
    let shared = Shared::new();
    let mut last = 0;
    for _ in 0..10 {
        let name = "a_process_that_is_killed_while_it_writes_harms_nothing";
        let actor = shared.actor(name, "writer");
        let soon = last + 3 + fastrand::u64(..20);
        until("it has written something", || shared.world.counters().granted > soon);
        drop(actor);

        let store = SqliteStore::open(&shared.folder.path().join("gpulock.db")).unwrap();
        store.check_integrity().unwrap();
        drop(shared.world.client().request(task("next")).acquire().unwrap());
        let counters = shared.world.counters();
        assert_eq!(counters.granted, counters.released + counters.expired, "{counters:?}");
        last = counters.granted;
    }
    assert!(shared.world.view().pool.leases.is_empty());
}

//! Stores that fail: nothing is granted twice, nothing is kept by mistake, nobody believes in
//! a lease for too long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use gpulock::core::{Event, Step, What};
use gpulock::store::faulty::{Call, Fault, FaultyStore, Odds};
use gpulock::store::memory::MemoryStore;
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Store, StoreError};
use gpulock::{Client, Error, Health, Loss, Options};

use super::support::{AGES, LONG, World, block_on, patient, task, until};

/// A world to look at from outside, and a client in it for whom the store fails.
struct Trouble {
    world: World,
    store: FaultyStore,
}

impl Trouble {
    fn new() -> Self {
        let memory = MemoryStore::new();
        let store = FaultyStore::new(Arc::new(memory.clone()));
        Self { world: World::of(move || Arc::new(memory.clone())), store }
    }

    fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = patient();
        change(&mut options);
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        Client::builder(store).options(options).build().unwrap()
    }

    /// Lets the first call that fits meet this fault, and no other.
    fn once(&self, fault: Fault, fits: impl Fn(Call<'_>) -> bool + Send + 'static) {
        let mut left = Some(fault);
        self.store.plan(move |call| if fits(call) { left.take() } else { None });
    }

    fn granted(&self) -> usize {
        let grants = |event: &Event| matches!(event.what, What::Granted { .. });
        self.world.history().iter().filter(|event| grants(event)).count()
    }
}

fn tells(step: &Step, fits: impl Fn(&What) -> bool) -> bool {
    step.events.iter().any(|event| fits(&event.what))
}

fn grants(call: Call<'_>) -> bool {
    matches!(call, Call::Write(step) if tells(step, |what| matches!(what, What::Granted { .. })))
}

fn ends(call: Call<'_>) -> bool {
    matches!(call, Call::Write(step) if tells(step, |what| matches!(what, What::Ended { .. })))
}

#[test]
fn a_lost_reply_to_a_grant_gives_the_same_lease_once() {
    let trouble = Trouble::new();
    let client = trouble.client();
    block_on(client.refresh_gpus()).unwrap();
    trouble.once(Fault::LostReply, grants);
    let asking = client.request(task("unlucky")).start().unwrap();
    let id = asking.lease_id();
    let lease = block_on(asking).unwrap();
    assert_eq!(trouble.store.faults_met(), 1);
    assert_eq!((lease.id(), trouble.granted()), (id, 1));
    let view = trouble.world.view();
    assert_eq!(view.pool.leases[0].reference(), lease.reference());
    block_on(lease.release()).unwrap();
    trouble.world.until_free();
}

/// The lease has lived for a while when the holder hears of it.
#[test]
fn a_late_reply_to_a_grant_does_not_lengthen_the_lease() {
    let memory = MemoryStore::new();
    let store = FaultyStore::new(Arc::new(memory.clone()));
    let client = Client::builder(Arc::new(store.clone())).options(patient()).build().unwrap();
    block_on(client.refresh_gpus()).unwrap();
    let mut left = Some(Fault::LostReply);
    let clock = memory.clone();
    store.plan(move |call| match call {
        // Between the grant and the second question time passes.
        Call::Read(Some(_)) if left.is_none() => {
            clock.advance(AGES);
            None
        }
        call => {
            if grants(call) {
                left.take()
            } else {
                None
            }
        }
    });
    let request = client.request(task("late")).heartbeats(AGES, AGES * 3);
    let lease = request.acquire().unwrap();
    let here = gpulock::BootTime::now();
    let view = block_on(memory.read(&Default::default(), None)).unwrap();
    let left = view.pool.leases[0].deadline().unwrap().since(view.now);
    assert!(lease.state().deadline < here + left);
}

#[test]
fn a_lost_reply_to_a_release_is_still_a_release() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let lease = client.request(task("unlucky")).acquire().unwrap();
    let next = trouble.world.client().request(task("next")).start().unwrap();
    trouble.world.until_queued(1);
    trouble.once(Fault::LostReply, ends);
    block_on(lease.release()).expect("it was released, whatever the first answer was");
    assert_eq!(trouble.store.faults_met(), 1);
    let next = block_on(next).unwrap();
    next.check().unwrap();
    let counters = trouble.world.counters();
    assert_eq!((counters.released, counters.ownership_violations), (1, 0));
}

#[test]
fn a_lease_that_was_seized_during_a_failing_release_is_lost() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let lease = client.request(task("unlucky")).acquire().unwrap();
    let (id, reference) = (lease.id(), lease.reference());
    let met = trouble.store.faults_met();
    trouble.store.go_away();
    let releasing = thread::spawn(move || block_on(lease.release()));
    until("the release has failed once", || trouble.store.faults_met() > met);
    let mode = gpulock::core::SeizeMode::IgnoreProcesses;
    assert!(block_on(trouble.world.client().seize(reference, "now", mode)).unwrap());
    assert!(trouble.world.view().pool.lease(id).is_none());
    trouble.store.heal();
    assert!(matches!(releasing.join().unwrap(), Err(Error::Lost(_))));
}

#[test]
fn without_any_wake_up_the_poll_finds_the_grant() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let holder = client.request(task("holder")).acquire().unwrap();
    trouble.store.plan(|call| matches!(call, Call::Write(_)).then_some(Fault::LostWakeUps));
    let polling = trouble.client_with(|options| options.polling.first = Duration::from_millis(20));
    let waiting = polling.request(task("waiting")).start().unwrap();
    trouble.world.until_queued(1);
    drop(holder);
    block_on(waiting).unwrap().check().unwrap();
    assert!(trouble.store.faults_met() > 0);
}

#[test]
fn a_holder_whose_store_is_away_is_warned_and_then_stops_believing() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let timeout = Duration::from_millis(600);
    let request = client.request(task("cut off")).heartbeats(timeout / 6, timeout);
    let lease = request.acquire().unwrap();
    let (tell, told) = mpsc::channel();
    lease.on_change(move |state| tell.send(state.health).unwrap());
    trouble.store.go_away();
    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::Unreachable));
    until("it was told", || told.try_recv().is_ok_and(|health| health == Health::Danger));
    assert_eq!(told.recv_timeout(LONG).unwrap(), Health::Lost(Loss::Unreachable));

    // The store is back, and so are its answers; the lease is not.
    trouble.store.heal();
    let other = client.request(task("other")).no_wait().acquire();
    assert!(matches!(other, Err(Error::NotAcquired(_))), "its process lives, so its GPU is in use");
    assert!(lease.check().is_err());
    drop(lease);
    trouble.world.until_free();
}

/// Also when the store takes the heartbeats and never answers.
#[test]
fn a_holder_whose_store_never_answers_stops_believing() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let timeout = Duration::from_millis(600);
    let request = client.request(task("cut off")).heartbeats(timeout / 6, timeout);
    let lease = request.acquire().unwrap();
    trouble.store.plan(|_| Some(Fault::Delay(AGES)));
    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::Unreachable));
    trouble.store.heal();
    drop(lease);
    trouble.world.until_free();
}

#[test]
fn heartbeats_go_on_when_some_fail() {
    let trouble = Trouble::new();
    let client = trouble.client();
    let timeout = Duration::from_secs(3);
    let request = client.request(task("unlucky")).heartbeats(timeout / 30, timeout);
    let lease = request.acquire().unwrap();
    lease.progress(10.0, "before");
    // Two calls fail, two do not.
    let mut calls = 0;
    trouble.store.plan(move |_| {
        calls += 1;
        match calls % 4 {
            0 => Some(Fault::LostReply),
            1 => Some(Fault::Unavailable),
            _ => None,
        }
    });
    lease.progress(20.0, "after");
    until("the lease has outlived its timeout", || {
        let view = trouble.world.view();
        let record = view.pool.lease(lease.id()).expect("it is held all the while");
        record.renewed_at().since(record.acquired_at) > timeout
    });
    lease.check().unwrap();
    let view = trouble.world.view();
    let progress = view.pool.leases[0].progress.as_ref();
    assert_eq!(progress.map(|progress| progress.basis_points), Some(2_000));
}

#[test]
fn patience_ends_in_an_error_and_nothing_granted() {
    let trouble = Trouble::new();
    let client = trouble.client();
    trouble.store.go_away();
    let soon = Duration::from_millis(100);
    let asking = client.request(task("patient")).store_patience(soon).start().unwrap();
    let mut progress = asking.progress();
    block_on(progress.wait_for(|state| state.store_trouble.is_some())).unwrap();
    let error = block_on(asking).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error}");
    assert!(error.hint().is_some());
    assert!(trouble.store.faults_met() > 1, "it did not try again");
    trouble.store.heal();
    assert!(block_on(client.settle(LONG)));
    assert_eq!((trouble.granted(), trouble.world.queue().len()), (0, 0));

    trouble.store.go_away();
    let asking = client.request(task("impatient")).no_wait().start().unwrap();
    let progress = asking.progress();
    let error = block_on(asking).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error}");
    let trouble_told = progress.borrow().store_trouble.clone();
    assert_eq!(trouble_told, None, "without waiting nothing is tried again");
}

#[test]
fn trouble_that_passes_in_time_is_borne_with() {
    let trouble = Trouble::new();
    let client = trouble.client();
    trouble.store.go_away();
    let asking = client.request(task("patient")).store_patience(AGES).start().unwrap();
    let mut progress = asking.progress();
    block_on(progress.wait_for(|state| state.store_trouble.is_some())).unwrap();
    trouble.store.heal();
    block_on(progress.wait_for(|state| state.store_trouble.is_none())).unwrap();
    block_on(asking).unwrap().check().unwrap();
}

/// Whichever call of a request fails, once, the request goes on.
#[test]
fn one_fault_anywhere_in_a_request_is_borne_with() {
    for fault in [Fault::Unavailable, Fault::LostReply, Fault::Conflict, Fault::LostWakeUps] {
        for unlucky in 0.. {
            let trouble = Trouble::new();
            let holder = trouble.world.client().request(task("holder")).acquire().unwrap();
            let soon = Duration::from_millis(20);
            let client = trouble.client_with(|options| options.polling.first = soon);
            let mut calls = 0;
            trouble.store.plan(move |_| {
                calls += 1;
                (calls == unlucky + 1).then_some(fault)
            });
            let waiting = client.request(task("waiting")).start().unwrap();
            trouble.world.until_queued(1);
            drop(holder);
            let lease =
                block_on(waiting).unwrap_or_else(|e| panic!("{fault:?} of call {unlucky}: {e}"));
            block_on(lease.release())
                .unwrap_or_else(|e| panic!("{fault:?} of call {unlucky}: {e}"));
            trouble.world.until_free();
            let counters = trouble.world.counters();
            assert_eq!((counters.granted, counters.released), (2, 2));
            assert_eq!(counters.ownership_violations, 0, "{fault:?} of call {unlucky}");
            // One of the last calls a request can make was unlucky, or none was left.
            if unlucky > 12 {
                break;
            }
        }
    }
}

/// The request has failed for its caller, so the lease that it was given must not stay.
#[test]
fn a_grant_whose_reply_never_came_is_given_back() {
    for waits in [false, true] {
        let trouble = Trouble::new();
        let client = trouble.client();
        block_on(client.refresh_gpus()).unwrap();
        let mut is_gone = false;
        trouble.store.plan(move |call| {
            let is_now = !is_gone && grants(call);
            is_gone |= is_now;
            match (is_now, is_gone) {
                (true, _) => Some(Fault::LostReply),
                (_, true) => Some(Fault::Unavailable),
                _ => None,
            }
        });
        let request = client.request(task("unlucky")).store_patience(Duration::from_millis(50));
        let request = if waits { request } else { request.no_wait() };
        let error = request.acquire().unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{error}");
        assert_eq!(trouble.world.view().pool.leases.len(), 1, "the store has granted it");
        trouble.store.heal();
        trouble.world.until_free();
        assert!(block_on(client.settle(LONG)));
        assert_eq!(trouble.world.counters().ownership_violations, 0);
    }
}

#[test]
fn a_grant_that_crosses_with_calling_off_is_given_back() {
    let trouble = Trouble::new();
    let client = trouble.client();
    block_on(client.refresh_gpus()).unwrap();
    // The grant is written, its answer is under way when the request is called off.
    let (tell, told) = mpsc::channel();
    let mut is_granted = false;
    trouble.store.plan(move |call| {
        if is_granted {
            return Some(Fault::Delay(Duration::from_millis(20)));
        }
        is_granted = grants(call);
        is_granted.then(|| {
            tell.send(()).unwrap();
            Fault::LostReply
        })
    });
    let asking = client.request(task("called off")).start().unwrap();
    told.recv_timeout(LONG).unwrap();
    drop(asking);
    until("it was granted", || trouble.granted() == 1);
    trouble.world.until_free();
}

/// Every call may fail in any way; the same seed fails in the same way.
#[test]
fn under_faults_by_chance_nobody_overlaps_and_nothing_is_left() {
    for seed in 0..6 {
        let memory = MemoryStore::new();
        chaos(seed, World::of(move || Arc::new(memory.clone())));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    chaos(6, World::of(move || Arc::new(SqliteStore::open(&path).unwrap())));
}

fn chaos(seed: u64, world: World) {
    let odds = Odds {
        unavailable: 0.05,
        lost_reply: 0.05,
        conflict: 0.05,
        lost_wake_ups: 0.05,
        delay: 0.05,
        longest_delay: Duration::from_millis(2),
    };
    let store = FaultyStore::new(Arc::clone(&world.store));
    store.leave_to_chance(seed, odds);
    let inside = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut options = patient();
            options.polling.first = Duration::from_millis(20);
            options.store_patience = LONG;
            let builder = Client::builder(Arc::new(store.clone())).options(options);
            let (client, inside) = (builder.build().unwrap(), Arc::clone(&inside));
            thread::spawn(move || {
                for _ in 0..10 {
                    let lease = client.request(task("contender")).acquire().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "overlap, seed {seed}");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    block_on(lease.release()).unwrap_or_else(|e| panic!("{e}, seed {seed}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(store.faults_met() > 10);
    store.heal();
    world.until_free();
    let counters = world.counters();
    assert_eq!((counters.granted, counters.released, world.queue().len()), (40, 40, 0));
    assert_eq!(counters.ownership_violations, 0, "seed {seed}");
}

//! Taking, keeping, losing and giving back.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use gpulock::core::{Cause, Ending, GpuIndex, GpuRef, Refusal, SeizeMode, What};
use gpulock::{BootTime, Error, Health, LeaseStateName, Loss};

use super::support::{AGES, World, block_on, on_every_store, patient, task, until};

on_every_store!(
    a_release_gives_the_gpu_to_the_next_in_line,
    heartbeats_keep_a_short_lease_while_the_caller_is_blocked,
    a_request_to_stop_arrives_at_once,
    a_seized_lease_is_lost_for_good,
    a_lease_that_ran_out_is_lost_for_good,
    the_holder_stops_before_the_store_does,
    a_late_pick_up_does_not_lengthen_a_fixed_lease,
    progress_is_seen_by_everybody,
    an_abandoned_lease_keeps_its_gpu,
    a_client_works_on_the_callers_runtime,
    two_clients_never_overlap,
);

fn a_release_gives_the_gpu_to_the_next_in_line(world: World) {
    let clients = [world.client(), world.client(), world.client()];
    let first = clients[0].request(task("first")).acquire().unwrap();
    let second = clients[1].request(task("second")).start().unwrap();
    world.until_queued(1);
    let third = clients[2].request(task("third")).start().unwrap();
    world.until_queued(2);
    assert_eq!(world.queue(), [second.lease_id(), third.lease_id()]);
    let id = second.lease_id();
    let tokens = [first.token()];

    block_on(first.release()).unwrap();
    let second = block_on(second).unwrap();
    assert_eq!((second.id(), second.gpu_indices()), (id, &[GpuIndex(0)][..]));
    second.check().unwrap();
    let tokens = [tokens[0], second.token()];

    drop(second);
    let third = block_on(third).unwrap();
    assert!(tokens[0] < tokens[1] && tokens[1] < third.token());
    drop(third);
    world.until_free();
    assert_eq!(world.counters().released, 3);
}

fn heartbeats_keep_a_short_lease_while_the_caller_is_blocked(world: World) {
    let timeout = Duration::from_millis(1_500);
    let client = world.client();
    let request = client.request(task("busy")).heartbeats(timeout / 10, timeout);
    // On a runtime that this thread blocks: the heartbeats must not need it.
    let lease = request.acquire().unwrap();
    until("three timeouts have passed under heartbeats", || {
        let view = world.view();
        let record = view.pool.lease(lease.id()).expect("it is held all the while");
        assert!(!record.is_over(), "heartbeats were missing");
        record.renewed_at().since(record.acquired_at) > timeout * 3
    });
    lease.check().unwrap();
    block_on(lease.release()).unwrap();
}

fn a_request_to_stop_arrives_at_once(world: World) {
    let client = world.client();
    let lease = client.request(task("polite")).acquire().unwrap();
    let (tell, told) = mpsc::channel();
    lease.on_change(move |state| tell.send(state.stop.clone()).unwrap());
    assert_eq!(lease.stop_requested(), None);

    let operator = world.client();
    assert!(block_on(operator.ask_to_stop(lease.reference(), "lunch")).unwrap());
    block_on(lease.asked_to_stop());
    let reason = |stop: gpulock::core::StopRequest| stop.reason;
    assert_eq!(lease.stop_requested().map(reason).as_deref(), Some("lunch"));
    let heard = told.recv_timeout(super::support::LONG).unwrap();
    assert_eq!(heard.map(reason).as_deref(), Some("lunch"));
    lease.check().expect("it is still held");
    let status = block_on(operator.status()).unwrap();
    assert_eq!(status.leases[0].state, LeaseStateName::Stopping);
}

fn a_seized_lease_is_lost_for_good(world: World) {
    let beat = Duration::from_millis(20);
    let holder = world.client();
    let lease = holder.request(task("robbed")).heartbeats(beat, AGES).acquire().unwrap();
    let operator = world.client();
    let next = operator.request(task("next")).start().unwrap();
    world.until_queued(1);
    let seized = operator.seize(lease.reference(), "it hangs", SeizeMode::IgnoreProcesses);
    assert!(block_on(seized).unwrap());

    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::Refused));
    assert!(matches!(lease.check(), Err(Error::Lost(_))));
    let next = block_on(next).unwrap();
    assert!(next.token() > lease.token());

    // What the former holder says now changes nothing.
    let again = operator.seize(lease.reference(), "again", SeizeMode::IgnoreProcesses);
    assert!(!block_on(again).unwrap());
    assert!(matches!(block_on(lease.release()), Err(Error::Lost(_))));
    next.check().unwrap();
    assert_eq!(world.view().pool.leases[0].lease_id, next.id());
}

/// Its own process lives, so its GPU drains until it says that it is done.
fn a_lease_that_ran_out_is_lost_for_good(world: World) {
    let client = world.client();
    let short = Duration::from_millis(50);
    let lease = client.request(task("short")).fixed_term(short).acquire().unwrap();
    block_on(lease.lost());
    let next = world.client().request(task("next")).start().unwrap();
    until("it drains", || world.view().pool.lease(lease.id()).is_some_and(|lease| lease.is_over()));
    assert!(lease.is_lost());
    assert!(matches!(block_on(lease.release()), Err(Error::Lost(_))));
    let next = block_on(next).unwrap();
    next.check().unwrap();
    let how = world.history().into_iter().find_map(|event| match event.what {
        What::Ended { how, .. } => Some(how),
        _ => None,
    });
    assert_eq!(how, Some(Ending::Expired(Cause::Deadline)));
}

fn the_holder_stops_before_the_store_does(world: World) {
    let client = world.client();
    for request in [
        client.request(task("beating")).heartbeats(AGES / 10, AGES),
        client.request(task("fixed")).fixed_term(AGES),
    ] {
        let lease = request.acquire().unwrap();
        assert!(lease.state().deadline < stores_deadline(&world, &lease));
        lease.progress(50.0, "half of it");
        until("a heartbeat has told of it", || {
            world.view().pool.lease(lease.id()).is_some_and(|record| record.progress.is_some())
        });
        assert!(lease.state().deadline < stores_deadline(&world, &lease));
    }
}

/// Not before this moment does the store end the lease.
fn stores_deadline(world: &World, lease: &gpulock::Lease) -> BootTime {
    let here = BootTime::now();
    let view = world.view();
    let record = view.pool.lease(lease.id()).unwrap();
    here + record.deadline().unwrap().since(view.now)
}

/// A fixed lease runs from its grant, also where nobody heard of that for a while.
fn a_late_pick_up_does_not_lengthen_a_fixed_lease(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let slow = world.client_with(|options| {
        options.polling.wake_ups = false;
        options.polling.first = Duration::from_millis(500);
        options.claim_time = AGES;
    });
    let term = Duration::from_secs(10);
    let waiting = slow.request(task("slow")).fixed_term(term).start().unwrap();
    world.until_queued(1);
    drop(holder);
    let lease = block_on(waiting).unwrap();
    let view = world.view();
    let record = view.pool.lease(lease.id()).unwrap();
    assert_eq!(record.deadline(), Some(record.acquired_at + term));
    assert!(lease.state().deadline < stores_deadline(&world, &lease));
}

fn progress_is_seen_by_everybody(world: World) {
    let client = world.client();
    let lease = client.request(task("ocr")).acquire().unwrap();
    lease.progress(45.678, "frame 100 of 220");
    let look = || {
        let status = block_on(world.client().status()).unwrap();
        (status.leases[0].progress, status.leases[0].message.clone())
    };
    until("the progress is seen", || look().0.is_some());
    assert_eq!(look(), (Some(45.68), Some("frame 100 of 220".to_owned())));
    lease.progress(7_000.0, "done");
    until("the message is seen", || look().1.as_deref() == Some("done"));
    assert_eq!(look().0, Some(100.0));
}

/// The GPU of a lease that is neither renewed nor given back drains while its process lives.
fn an_abandoned_lease_keeps_its_gpu(world: World) {
    let client = world.client();
    let short = Duration::from_millis(50);
    let lease = client.request(task("left")).heartbeats(short / 5, short).acquire().unwrap();
    let reference = lease.reference();
    lease.abandon();
    let next = world.client().request(task("next")).start().unwrap();
    until("it drains", || world.view().pool.lease(reference.lease_id).is_some_and(|l| l.is_over()));
    assert_eq!(world.queue(), [next.lease_id()]);
    // An operator's word ends that.
    let mode = SeizeMode::IgnoreProcesses;
    assert!(block_on(client.seize(reference, "it is done", mode)).unwrap());
    block_on(next).unwrap();
}

fn a_client_works_on_the_callers_runtime(world: World) {
    block_on(async {
        let here = tokio::runtime::Handle::current();
        let builder = gpulock::Client::builder(Arc::clone(&world.store)).options(patient());
        let client = builder.on(here).build().unwrap();
        let lease = client.request(task("async")).start().unwrap().await.unwrap();
        let next = client.request(task("next")).start().unwrap();
        lease.release().await.unwrap();
        let next = next.await.unwrap();
        next.check().unwrap();
        drop(next);
        assert!(client.settle(super::support::LONG).await);
        let status = client.status().await.unwrap();
        assert!(status.leases.is_empty());
        // Blocking would be waiting for oneself.
        assert!(matches!(client.request(task("x")).acquire(), Err(Error::CalledOff)));
    });
    world.until_queued(0);
}

fn two_clients_never_overlap(world: World) {
    const ROUNDS: usize = 100;
    let inside = Arc::new(AtomicUsize::new(0));
    let latest = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (client, inside, latest) =
                (world.client(), Arc::clone(&inside), Arc::clone(&latest));
            thread::spawn(move || {
                for _ in 0..ROUNDS {
                    let lease = client.request(task("contender")).acquire().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two held GPU 0 at once");
                    let before = latest.swap(lease.token().value(), Ordering::SeqCst);
                    assert!(before < lease.token().value(), "a token went back");
                    thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "two held GPU 0 at once");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let counters = world.counters();
    assert_eq!((counters.granted, counters.released), (2 * ROUNDS as u64, 2 * ROUNDS as u64));
    assert_eq!(counters.ownership_violations, 0);
}

#[test]
fn several_gpus_are_lent_at_once_or_not_at_all() {
    let world = World::memory();
    let gpus = (0..3).map(|index| GpuRef::Index(GpuIndex(index))).collect::<Vec<_>>();
    let client = world.client_with(|options| options.gpus = Some(gpus.clone()));
    let one = client.request(task("one")).named(vec![gpus[1].clone()]).acquire().unwrap();
    let all = client.request(task("all")).any(3).no_wait().acquire();
    assert!(matches!(all, Err(Error::NotAcquired(_))));
    let two = client.request(task("two")).any(2).no_wait().acquire().unwrap();
    assert_eq!(two.gpu_indices(), [GpuIndex(0), GpuIndex(2)]);
    drop((one, two));
    let all = client.request(task("all")).named(gpus).no_wait().acquire().unwrap();
    assert_eq!(all.gpus().len(), 3);
}

#[test]
fn what_can_never_be_is_refused_with_a_way_out() {
    let world = World::memory();
    let client = world.client();
    let refused = |answer: Result<gpulock::Lease, Error>| match answer {
        Err(error @ Error::Refused(_)) => {
            assert!(error.hint().is_some(), "{error} has no hint");
            let Error::Refused(refusal) = error else { unreachable!() };
            refusal
        }
        other => panic!("not refused: {other:?}"),
    };
    let unknown = client.request(task("x")).named(vec![GpuRef::Index(GpuIndex(7))]);
    assert!(matches!(refused(unknown.acquire()), Refusal::UnknownGpu { .. }));
    assert!(matches!(refused(client.request(task("x")).any(2).acquire()), Refusal::TooMany { .. }));
    assert_eq!(refused(client.request(task("x")).any(0).acquire()), Refusal::NothingAsked);

    let outer = client.request(task("outer")).acquire().unwrap();
    let nested = world.client_with(|options| options.inside = vec![outer.id()]);
    let inner = refused(nested.request(task("inner")).acquire());
    assert_eq!(inner, Refusal::SelfWait { lease_id: outer.id(), gpu: GpuIndex(0) });
    world.until_queued(0);
}

#[test]
fn a_lease_outlives_its_client_value() {
    let world = World::sqlite();
    let order = Arc::new(Mutex::new(Vec::new()));
    let lease = world.client().request(task("kept")).acquire().unwrap();
    let seen = Arc::clone(&order);
    lease.on_change(move |state| seen.lock().unwrap().push(state.health));
    let operator = world.client();
    block_on(operator.ask_to_stop(lease.reference(), "still there?")).unwrap();
    block_on(lease.asked_to_stop());
    block_on(lease.release()).unwrap();
    world.until_free();
    until("the change was told", || *order.lock().unwrap() == [Health::Held]);
}

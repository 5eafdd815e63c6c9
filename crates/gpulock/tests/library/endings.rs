//! Leases whose end does not go well, and what is told of it; stores around a fork.

use std::sync::Arc;
use std::time::Duration;

use gpulock::core::{Ending, Incident, What};
use gpulock::store::Store;
use gpulock::store::sqlite::SqliteStore;
use gpulock::{Client, Error};

use super::support::{
    Actor, World, block_on, full_name, on_every_store, part, patient, task, until,
};

on_every_store!(
    what_went_wrong_is_in_the_sums_and_the_journal,
    a_lease_is_released_by_its_name,
    a_retired_lease_of_a_process_that_lives_on_is_freed_after_the_grace,
);

fn what_went_wrong_is_in_the_sums_and_the_journal(world: World) {
    let client = world.client();
    let lease = client.request(task("work")).acquire().unwrap();
    let report =
        |incident| block_on(client.report(incident, "no answer", lease.id(), task("work")));
    report(Incident::NormalReleaseFailure);
    report(Incident::EmergencyRelease);
    report(Incident::CriticalFailure);
    let counters = block_on(client.counters()).unwrap();
    assert_eq!((counters.normal_release_failures, counters.emergency_releases), (1, 1));
    let last = world.history().into_iter().next().unwrap();
    assert!(matches!(
        last.what,
        What::Incident { incident: Incident::CriticalFailure, error } if error == "no answer"
    ));
    assert_eq!(last.party.unwrap().lease_id, lease.id());
}

fn a_lease_is_released_by_its_name(world: World) {
    let lease = world.client().request(task("work")).acquire().unwrap();
    let other = world.client();
    let name = lease.reference();
    assert!(block_on(other.release_named(name, &task("work"))).unwrap());
    assert!(
        block_on(other.release_named(name, &task("work"))).unwrap(),
        "again: the journal knows"
    );
    assert!(matches!(block_on(lease.release()), Err(Error::Lost(_))));
    assert_eq!(world.view().pool.leases, []);
}

fn a_retired_lease_of_a_process_that_lives_on_is_freed_after_the_grace(world: World) {
    let client = world.client_with(|options| options.stop_grace = Duration::from_millis(50));
    let lease = client.request(task("work")).acquire().unwrap();
    block_on(lease.retire()).unwrap();
    world.until_free();
    let ends: Vec<_> = world.history().into_iter().rev().map(|event| event.what).collect();
    assert!(
        ends.iter()
            .any(|what| matches!(what, What::Ended { how: Ending::Released, draining: true, .. }))
    );
    assert!(matches!(ends.last(), Some(What::Drained { .. })));
    assert_eq!(world.counters().ownership_violations, 0);
}

#[test]
fn what_a_dying_process_has_retired_goes_on_when_it_is_gone() {
    if let Some((_, store)) = part() {
        let store = Arc::new(SqliteStore::open(&store).unwrap());
        let client = Client::builder(store).options(patient()).build().unwrap();
        let lease = client.request(task("dying")).acquire().unwrap();
        block_on(lease.retire()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let name = full_name!("what_a_dying_process_has_retired_goes_on_when_it_is_gone");
    let dying = Actor::start(&name, "dying", &path);
    let world = World::of(move || Arc::new(SqliteStore::open(&path).unwrap()));
    until("it is over", || world.view().pool.leases.iter().any(|lease| lease.is_over()));
    let next = world.client().request(task("next")).start().unwrap();
    world.until_queued(1);
    drop(dying);
    block_on(next).unwrap();
}

#[test]
fn a_sweep_tells_of_processes_that_are_gone_and_of_no_others() {
    if let Some((_, store)) = part() {
        let store = Arc::new(SqliteStore::open(&store).unwrap());
        let client = Client::builder(store).options(patient()).build().unwrap();
        let _lease = client.request(task("holder")).acquire().unwrap();
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let name = full_name!("a_sweep_tells_of_processes_that_are_gone_and_of_no_others");
    let holder = Actor::start(&name, "holder", &path);
    let world = World::of(move || Arc::new(SqliteStore::open(&path).unwrap()));
    until("it holds", || world.view().pool.leases.len() == 1);
    let client = world.client();
    assert_eq!(block_on(client.sweep()).unwrap(), 0);
    drop(holder);
    assert_eq!(block_on(client.sweep()).unwrap(), 1);
    assert_eq!(world.view().pool.leases, []);
}

/// A child must not inherit an open connection, and the parent loses nothing by that.
#[test]
fn a_store_that_holds_still_has_no_file_open_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let client = Client::builder(shared).options(patient()).build().unwrap();
    let lease = client.request(task("work")).acquire().unwrap();
    let is_open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.starts_with(folder.path()))
    };
    assert!(is_open());
    store.hold_still();
    assert!(!is_open());
    let release = std::thread::spawn(move || block_on(lease.release()));
    store.go_on();
    release.join().unwrap().unwrap();
    assert!(is_open());
}

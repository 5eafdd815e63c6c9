//! The direct way: one call from the caller's own thread, and the long way where that is not
//! enough.

use std::sync::Arc;

use gpulock::core::{Event, What};
use gpulock::store::Store;
use gpulock::store::faulty::{Call, Fault, FaultyStore};
use gpulock::store::memory::MemoryStore;
use gpulock::{Begun, Client, Error, Lease};

use super::support::{World, block_on, on_every_store, patient, task, until};

on_every_store!(
    what_is_free_is_there_at_once_and_given_back_at_once,
    what_is_taken_is_waited_for,
    the_first_request_and_a_pool_with_other_gpus_take_the_long_way,
);

/// A client whose direct way is a store of its own.
fn client(world: &World) -> Client {
    client_on(world.open(), world.open())
}

fn client_on(store: Arc<dyn Store>, direct: Arc<dyn Store>) -> Client {
    let client = Client::builder(store).options(patient()).direct(direct).build().unwrap();
    // Its first request opens the mailbox.
    drop(client.request(task("first")).acquire().unwrap());
    client
}

fn directly(client: &Client, name: &str) -> Lease {
    match client.request(task(name)).begin().unwrap() {
        Begun::Acquired(lease) => *lease,
        Begun::Waiting(_) => panic!("{name} took the long way"),
    }
}

fn what_is_free_is_there_at_once_and_given_back_at_once(world: World) {
    let client = client(&world);
    let mut last = None;
    for _ in 0..3 {
        let lease = directly(&client, "work");
        lease.check().unwrap();
        assert!(last.is_none_or(|last| last < lease.token()));
        last = Some(lease.token());
        assert_eq!(world.view().pool.leases.len(), 1);
        lease.release_directly().unwrap();
        assert_eq!(world.view().pool.leases, []);
    }
    assert_eq!(world.counters().ownership_violations, 0);
}

fn what_is_taken_is_waited_for(world: World) {
    let client = client(&world);
    let holder = directly(&client, "holder");
    let Begun::Waiting(next) = client.request(task("next")).begin().unwrap() else {
        panic!("there is one GPU");
    };
    world.until_queued(1);
    holder.release_directly().unwrap();
    assert_eq!(block_on(next).unwrap().task().as_str(), "next");
}

fn the_first_request_and_a_pool_with_other_gpus_take_the_long_way(world: World) {
    let client =
        Client::builder(world.open()).options(patient()).direct(world.open()).build().unwrap();
    let begin = || match client.request(task("work")).begin().unwrap() {
        Begun::Acquired(_) => "direct",
        Begun::Waiting(acquiring) => {
            drop(block_on(acquiring).unwrap());
            "long"
        }
    };
    assert_eq!([begin(), begin()], ["long", "direct"]);
    let other = world.client_with(|options| options.gpus = Some(vec!["7".parse().unwrap()]));
    drop(other.request(task("other")).acquire().unwrap());
    assert_eq!([begin(), begin()], ["long", "direct"]);
    assert_eq!(world.view().pool.leases, []);
}

/// A world and a client whose direct way fails as planned.
fn troubled() -> (World, FaultyStore, Client) {
    let memory = MemoryStore::new();
    let direct = FaultyStore::new(Arc::new(memory.clone()));
    let client = client_on(Arc::new(memory.clone()), Arc::new(direct.clone()));
    (World::of(move || Arc::new(memory.clone())), direct, client)
}

fn grants(world: &World, name: &str) -> usize {
    let is_grant = |event: &&Event| {
        matches!(event.what, What::Granted { .. })
            && event.party.as_ref().is_some_and(|party| party.task.as_str() == name)
    };
    world.history().iter().filter(is_grant).count()
}

#[test]
fn a_grant_whose_reply_was_lost_on_the_direct_way_is_the_lease_of_the_long_way() {
    let (world, direct, client) = troubled();
    let mut left = Some(Fault::LostReply);
    direct.plan(move |call| matches!(call, Call::Write(_)).then(|| left.take()).flatten());
    let Begun::Waiting(acquiring) = client.request(task("work")).begin().unwrap() else {
        panic!("its reply was lost");
    };
    let lease = block_on(acquiring).unwrap();
    assert_eq!(grants(&world, "work"), 1);
    drop(lease);
    world.until_free();
}

#[test]
fn a_release_whose_reply_was_lost_on_the_direct_way_is_a_release() {
    let (world, direct, client) = troubled();
    let lease = directly(&client, "work");
    let mut left = Some(Fault::LostReply);
    direct.plan(move |call| matches!(call, Call::Write(_)).then(|| left.take()).flatten());
    let lease = lease.release_directly().unwrap_err();
    block_on(lease.release()).unwrap();
    assert_eq!(world.counters().ownership_violations, 0);
    world.until_free();
}

#[test]
fn a_lease_that_was_taken_away_is_lost_on_either_way() {
    let (world, _, client) = troubled();
    let lease = directly(&client, "work");
    let mode = gpulock::core::SeizeMode::IgnoreProcesses;
    assert!(block_on(world.client().seize(lease.reference(), "test", mode)).unwrap());
    let lease = lease.release_directly().unwrap_err();
    assert!(matches!(block_on(lease.release()), Err(Error::Lost(_))));
}

#[test]
fn a_store_that_does_not_answer_in_time_is_left_to_the_long_way() {
    let (world, direct, client) = troubled();
    direct.plan(|_| Some(Fault::Delay(super::support::AGES)));
    let Begun::Waiting(acquiring) = client.request(task("work")).begin().unwrap() else {
        panic!("the direct way hangs");
    };
    let lease = block_on(acquiring).unwrap();
    let lease = lease.release_directly().unwrap_err();
    block_on(lease.release()).unwrap();
    world.until_free();
}

#[test]
fn a_client_may_be_dropped_where_nobody_may_block() {
    let (world, _, client) = troubled();
    drop(directly(&client, "work"));
    block_on(async move { drop(client) });
    world.until_free();
}

#[test]
fn threads_that_meet_on_the_direct_way_are_all_served() {
    let (world, _, client) = troubled();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let lease = match client.request(task("work")).begin().unwrap() {
                        Begun::Acquired(lease) => *lease,
                        Begun::Waiting(acquiring) => block_on(acquiring).unwrap(),
                    };
                    if let Err(lease) = lease.release_directly() {
                        block_on(lease.release()).unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    until("all is given back", || world.view().pool.leases.is_empty());
    assert_eq!(grants(&world, "work"), 200);
}

//! A task that a task queue delivers more than once, or runs again later: every run asks with
//! the same lease id.

use std::time::Duration;

use gpulock::core::{
    Command, LeaseId, OwnProcess, Owner, PoolName, Priority, Process, Renewal, Request, Sight,
    Term, What, Wish,
};
use gpulock::process::{this_owner, this_sight};
use gpulock::store::{Swapped, Write};
use gpulock::{Client, Error, RequestBuilder};

use super::support::{AGES, Actor, World, block_on, full_name, on_every_store, part, task, until};

on_every_store!(
    a_second_run_of_a_task_at_work_is_told_so,
    a_second_run_of_a_task_that_waits_is_told_so_and_takes_nothing,
    a_second_run_waits_until_it_is_known_whether_the_first_lives,
    a_second_run_succeeds_a_first_that_is_not_heard_of_again,
    a_second_run_follows_a_waiter_that_it_cannot_see,
    who_comes_back_finds_its_place_and_then_its_grant,
    a_place_that_nobody_comes_back_for_can_be_given_up,
);

const ID: LeaseId = LeaseId::from_bits(77);

/// Polls often: nobody sends a wake-up about another run.
fn client(world: &World) -> Client {
    world.client_with(|options| {
        options.polling.first = Duration::from_millis(10);
        options.polling.longest = Duration::from_millis(10);
    })
}

fn run(client: &Client, run: u64) -> RequestBuilder {
    client.request(task("delivered")).lease_id(ID, run)
}

fn is_duplicate(answer: Result<gpulock::Lease, Error>) -> bool {
    match answer {
        Err(error @ Error::Duplicate(_)) => {
            let text = error.to_string();
            assert!(text.contains("another run of this task") && text.contains("delivered"));
            true
        }
        other => panic!("no duplicate: {other:?}"),
    }
}

fn a_second_run_of_a_task_at_work_is_told_so(world: World) {
    let lease = run(&client(&world), 1).acquire().unwrap();
    assert!(is_duplicate(run(&client(&world), 2).acquire()));
    assert!(is_duplicate(run(&client(&world), 3).no_wait().acquire()));
    assert_eq!(world.view().pool.leases[0].reference(), lease.reference());
    drop(lease);
    run(&client(&world), 4).acquire().unwrap();
}

fn a_second_run_of_a_task_that_waits_is_told_so_and_takes_nothing(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let first = run(&client(&world), 1).start().unwrap();
    world.until_queued(1);
    assert!(is_duplicate(run(&client(&world), 2).acquire()));
    assert_eq!(world.queue(), [ID]);
    drop(holder);
    block_on(first).unwrap();
}

/// A process in another container, which nobody here can look at.
fn far_away(run: u64) -> Owner {
    let sight = Sight { pid_namespace: 1, ..this_sight().unwrap().clone() };
    let process = Process { pid: 1, start_time: 1 };
    Owner {
        process: Some(OwnProcess { sight, process }),
        run: Some(run),
        is_remote: false,
        ..this_owner("elsewhere")
    }
}

fn request_from_far_away(wait_unseen: Duration) -> Request {
    Request {
        lease_id: ID,
        task: task("delivered"),
        owner: far_away(1),
        wish: Wish::Any(1),
        priority: Priority::Normal,
        term: Term::Heartbeats(Duration::from_millis(400)),
        supervised: false,
        patience: Some(wait_unseen),
        comes_back: false,
        channel: None,
        polls: 0,
        inside: Vec::new(),
    }
}

/// Carries out a command as a client elsewhere does.
fn from_far_away(world: &World, command: Command) {
    let pool = PoolName::default();
    let asking = Some(ID);
    loop {
        let view = block_on(world.store.read(&pool, asking)).unwrap();
        let (mut present, expected) = (view.pool, view.versions);
        let step = present.step(view.now, command.clone()).unwrap();
        let incarnation = view.incarnation.as_ref();
        let write = Write { pool: &pool, expected, step: &step, asking, incarnation };
        if matches!(block_on(world.store.swap(write)).unwrap(), Swapped::Written { .. }) {
            return;
        }
    }
}

fn a_second_run_waits_until_it_is_known_whether_the_first_lives(world: World) {
    drop(client(&world).request(task("first of all")).acquire().unwrap());
    from_far_away(&world, Command::Acquire(request_from_far_away(AGES)));
    let second = run(&client(&world), 2).start().unwrap();
    let beat = || {
        let lease = world.view().pool.leases[0].reference();
        from_far_away(&world, Command::Renew(vec![Renewal { lease, progress: None }]));
    };
    let (told, answer) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || told.send(block_on(second)));
    loop {
        match answer.recv_timeout(Duration::from_millis(20)) {
            Ok(answer) => break assert!(is_duplicate(answer)),
            Err(_) => beat(),
        }
    }
    waiting.join().unwrap().unwrap();
}

fn a_second_run_succeeds_a_first_that_is_not_heard_of_again(world: World) {
    drop(client(&world).request(task("first of all")).acquire().unwrap());
    from_far_away(&world, Command::Acquire(request_from_far_away(AGES)));
    let lease = run(&client(&world), 2).acquire().unwrap();
    assert_eq!(lease.id(), ID);
}

fn a_second_run_follows_a_waiter_that_it_cannot_see(world: World) {
    let holder = client(&world).request(task("holder")).acquire().unwrap();
    from_far_away(&world, Command::Acquire(request_from_far_away(Duration::from_secs(3))));
    assert_eq!(world.queue(), [ID]);
    let second = run(&client(&world), 2).start().unwrap();
    let (told, answer) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || told.send(block_on(second)));
    loop {
        // A question of the first one itself. SQLite notes one a second.
        match answer.recv_timeout(Duration::from_millis(20)) {
            Ok(answer) => break assert!(is_duplicate(answer)),
            Err(_) => drop(block_on(world.store.read(&PoolName::default(), Some(ID))).unwrap()),
        }
    }
    waiting.join().unwrap().unwrap();
    // Now nothing is heard of it any more.
    let third = run(&client(&world), 3).start().unwrap();
    until("the third is in the queue", || {
        let waiters = block_on(world.store.waiters(&PoolName::default(), 1)).unwrap();
        waiters.first().is_some_and(|waiter| waiter.owner.run == Some(3))
    });
    drop(holder);
    block_on(third).unwrap();
}

fn not_acquired(answer: Result<gpulock::Lease, Error>) {
    assert!(matches!(answer, Err(Error::NotAcquired(_))), "{answer:?}");
}

fn who_comes_back_finds_its_place_and_then_its_grant(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    not_acquired(run(&client(&world), 1).comes_back_within(AGES).acquire());
    let _next = world.client().request(task("next")).start().unwrap();
    world.until_queued(2);
    not_acquired(run(&client(&world), 2).comes_back_within(AGES).acquire());
    assert_eq!(world.queue()[0], ID, "it has kept its place");
    drop(holder);
    let lease = run(&client(&world), 3).comes_back_within(AGES).acquire().unwrap();
    assert!(is_duplicate(run(&client(&world), 4).comes_back_within(AGES).acquire()));
    assert_eq!(world.view().pool.leases[0].owner.run, Some(3));
    lease.check().unwrap();
}

fn a_place_that_nobody_comes_back_for_can_be_given_up(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    not_acquired(run(&client(&world), 1).comes_back_within(AGES).acquire());
    let other = world.client();
    block_on(other.cancel(ID)).unwrap();
    assert_eq!(world.queue(), []);
    not_acquired(run(&client(&world), 1).comes_back_within(AGES).acquire());
    drop(holder);
    block_on(other.cancel(ID)).unwrap();
    world.until_free();
}

#[test]
fn a_second_run_succeeds_a_first_whose_process_was_killed() {
    if let Some((_, store)) = part() {
        let store = std::sync::Arc::new(gpulock::store::sqlite::SqliteStore::open(&store).unwrap());
        let client = Client::builder(store).options(super::support::patient()).build().unwrap();
        let _lease = run(&client, 1).acquire().unwrap();
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let name = full_name!("a_second_run_succeeds_a_first_whose_process_was_killed");
    let actor = Actor::start(&name, "first", &path);
    let world = World::of(move || {
        std::sync::Arc::new(gpulock::store::sqlite::SqliteStore::open(&path).unwrap())
    });
    until("the first run holds", || world.view().pool.leases.len() == 1);
    assert!(is_duplicate(run(&client(&world), 2).acquire()));
    drop(actor);
    run(&client(&world), 3).acquire().unwrap();
    let died = |event: &gpulock::core::Event| matches!(event.what, What::Ended { .. });
    assert!(world.history().iter().any(died));
}

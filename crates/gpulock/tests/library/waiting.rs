//! Waiting: in order, by wake-ups or polls, and giving up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use gpulock::core::{Priority, What};
use gpulock::{Error, NotAcquired};

use super::support::{AGES, LONG, World, block_on, on_every_store, task, until};

on_every_store!(
    giving_up_says_who_holds_and_how_many_are_ahead,
    without_waiting_the_answer_comes_at_once,
    calling_off_leaves_the_queue,
    a_wait_that_is_over_leaves_the_queue,
    urgent_requests_go_first,
    many_threads_of_one_process_keep_their_order,
    a_waiter_that_only_polls_is_served,
    a_waiter_wakes_at_the_deadline_in_its_way,
    a_newcomer_is_served_although_another_never_pauses,
    a_grant_that_came_with_a_letter_is_believed_no_longer_than_the_store_does,
);

fn refused(answer: Result<gpulock::Lease, Error>) -> NotAcquired {
    match answer {
        Err(error @ Error::NotAcquired(_)) => {
            assert!(error.hint().is_some());
            let Error::NotAcquired(refused) = error else { unreachable!() };
            *refused
        }
        other => panic!("acquired: {other:?}"),
    }
}

fn giving_up_says_who_holds_and_how_many_are_ahead(world: World) {
    let holder = world.client().request(task("training")).acquire().unwrap();
    let waiting = world.client();
    let _others: Vec<_> = (1..=2)
        .map(|count| {
            let other = waiting.request(task("other")).start().unwrap();
            world.until_queued(count);
            other
        })
        .collect();
    let soon = Duration::from_millis(50);
    let refused = refused(world.client().request(task("late")).max_wait(soon).acquire());
    assert_eq!((refused.ahead, refused.wanted.as_str()), (2, "any GPU"));
    assert!(refused.waited.is_some_and(|waited| waited >= soon));
    let [holds] = &refused.holders[..] else { panic!("one holds: {refused:?}") };
    assert_eq!((holds.task.as_str(), &holds.gpus[..]), ("training", holder.gpu_indices()));
    assert_eq!(holds.pid, Some(std::process::id()));
    let text = refused.to_string();
    assert!(text.contains("training") && text.contains("2 ahead in the queue"), "{text}");
}

fn without_waiting_the_answer_comes_at_once(world: World) {
    let _holder = world.client().request(task("training")).acquire().unwrap();
    let refused = refused(world.client().request(task("late")).no_wait().acquire());
    assert_eq!((refused.waited, refused.ahead), (None, 0));
    assert_eq!(refused.holders.len(), 1);
    assert!(!world.history().iter().any(|event| matches!(event.what, What::Queued { .. })));
}

fn calling_off_leaves_the_queue(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let client = world.client();
    let called_off = client.request(task("called off")).start().unwrap();
    world.until_queued(1);
    let next = client.request(task("next")).start().unwrap();
    world.until_queued(2);
    drop(called_off);
    until("it has left", || world.queue() == [next.lease_id()]);
    drop(holder);
    block_on(next).unwrap();
    assert_eq!(world.counters().cancelled, 1);
}

fn a_wait_that_is_over_leaves_the_queue(world: World) {
    let _holder = world.client().request(task("holder")).acquire().unwrap();
    let client = world.client();
    refused(client.request(task("late")).max_wait(Duration::from_millis(30)).acquire());
    assert_eq!(world.queue(), [], "the place is given up before the answer");
    assert_eq!(world.counters().timed_out, 1);
    refused(client.request(task("now")).max_wait(Duration::ZERO).acquire());
    assert_eq!(world.queue(), []);
}

fn urgent_requests_go_first(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let client = world.client();
    let (tell, told) = mpsc::channel();
    let rising = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
    let mut threads = Vec::new();
    for (count, priority) in (1..).zip(rising) {
        let request = client.request(task("one of many")).priority(priority);
        let tell = tell.clone();
        threads.push(thread::spawn(move || {
            let lease = request.acquire().unwrap();
            tell.send(priority).unwrap();
            drop(lease);
        }));
        world.until_queued(count);
    }
    drop(holder);
    let order = rising.map(|_| told.recv_timeout(LONG).unwrap());
    assert!(order.is_sorted_by(|one, next| one > next), "{order:?}");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn many_threads_of_one_process_keep_their_order(world: World) {
    const THREADS: usize = 64;
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let client = world.client();
    let (tell, told) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (client, tell) = (client.clone(), tell.clone());
            let thread = thread::spawn(move || {
                let lease = client.request(task("one of many")).acquire().unwrap();
                tell.send(number).unwrap();
                drop(lease);
            });
            world.until_queued(number + 1);
            thread
        })
        .collect();
    drop(holder);
    let order: Vec<_> = (0..THREADS).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.until_free();
}

fn a_waiter_that_only_polls_is_served(world: World) {
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let client = world.client_with(|options| {
        options.polling.wake_ups = false;
        options.polling.first = Duration::from_millis(20);
        options.polling.doubles = true;
    });
    let waiting = client.request(task("polls")).start().unwrap();
    world.until_queued(1);
    drop(holder);
    block_on(waiting).unwrap().check().unwrap();
}

/// Nobody tells it, and its next poll is far away.
fn a_waiter_wakes_at_the_deadline_in_its_way(world: World) {
    let short = Duration::from_millis(300);
    let client = world.client();
    let holder = client.request(task("short")).fixed_term(short).acquire().unwrap();
    let waiting = world.client().request(task("next")).heartbeats(AGES, AGES * 3).start().unwrap();
    let mut progress = waiting.progress();
    block_on(progress.wait_for(|state| state.holders.iter().any(|holder| holder.draining)))
        .unwrap();
    assert_eq!(world.counters().expired, 1);
    drop(holder);
    block_on(waiting).unwrap();
}

fn a_newcomer_is_served_although_another_never_pauses(world: World) {
    let busy = world.client();
    let enough = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    let never_pauses = thread::spawn({
        let (enough, turns) = (Arc::clone(&enough), Arc::clone(&turns));
        move || {
            while !enough.load(Ordering::Relaxed) {
                let lease = busy.request(task("busy")).acquire().unwrap();
                turns.fetch_add(1, Ordering::Relaxed);
                block_on(lease.release()).unwrap();
            }
        }
    });
    until("it is at it", || turns.load(Ordering::Relaxed) > 10);
    for _ in 0..5 {
        let lease = world.client().request(task("newcomer")).acquire().unwrap();
        block_on(lease.release()).unwrap();
    }
    enough.store(true, Ordering::Relaxed);
    never_pauses.join().unwrap();
}

fn a_grant_that_came_with_a_letter_is_believed_no_longer_than_the_store_does(world: World) {
    let client = world.client();
    let holder = client.request(task("holder")).acquire().unwrap();
    let waiting = client.request(task("waiter")).start().unwrap();
    world.until_queued(1);
    block_on(holder.release()).unwrap();
    let lease = block_on(waiting).unwrap();
    let here = gpulock::BootTime::now();
    let view = world.view();
    let left = view.pool.leases[0].deadline().unwrap().since(view.now);
    assert!(lease.state().deadline < here + left);
    assert_eq!(view.pool.leases[0].reference(), lease.reference());
    block_on(lease.release()).unwrap();
}

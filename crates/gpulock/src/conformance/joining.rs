//! The queue: who arrived when, and who is shown.

use std::time::Duration;

use gpulock_core::{GpuIndex, LOOK_AHEAD, LeaseId, Priority, Time, Waiter, Wants};

use super::StoreUnderTest;
use super::samples::{Bench, id, joins, leaves, waiter};

/// Waiters stand in the order in which they were written, and their numbers rise.
pub async fn arrival_is_the_order_of_writes(under_test: StoreUnderTest) {
    let benches = [Bench::new(&under_test.store), Bench::new(&under_test.second)];
    let order = [5, 3, 9, 1, 7];
    for (place, number) in order.into_iter().enumerate() {
        benches[place % 2].join(waiter(number)).await;
        // What somebody says about its own arrival counts for nothing.
        benches[place % 2].join(Waiter { arrival: 1, ..waiter(100 + number) }).await;
    }
    let waiters = benches[0].waiters(usize::MAX >> 1).await;
    assert_eq!(ids(&waiters), order.map(|number| [id(number), id(100 + number)]).concat());
    assert!(waiters.is_sorted_by(|one, next| one.arrival < next.arrival));
    assert_eq!(benches[1].view().await.pool.window, waiters);
}

/// Many who join at once, on what they read long before, all get in.
pub async fn of_many_who_join_at_once_none_is_lost(under_test: StoreUnderTest) {
    const JOINING: u128 = 200;
    let benches = [Bench::new(&under_test.store), Bench::new(&under_test.second)];
    let tasks: Vec<_> = (0..JOINING)
        .map(|number| {
            let bench = benches[number as usize % 2].clone();
            tokio::spawn(async move { bench.join(waiter(number)).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("the waiter joins");
    }
    let waiters = benches[0].waiters(usize::MAX >> 1).await;
    assert!(waiters.is_sorted_by(|one, next| one.arrival < next.arrival));
    let mut joined = ids(&waiters);
    joined.sort_unstable();
    let mut all: Vec<_> = (0..JOINING).map(id).collect();
    all.sort_unstable();
    assert_eq!(joined, all);
    let view = benches[1].view().await;
    assert_eq!(u128::from(view.pool.queue_len), JOINING);
}

/// Joining again changes neither the place nor the length of the queue.
pub async fn joining_twice_keeps_the_place(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    for number in [1, 2, 1] {
        bench.join(waiter(number)).await;
    }
    let view = bench.view_for(id(2)).await;
    assert_eq!(ids(&view.pool.window), [id(1), id(2)]);
    assert_eq!((view.pool.queue_len, view.ahead), (2, Some(1)));
}

/// Taking out somebody who is not there changes nothing.
pub async fn leaving_without_being_there_is_harmless(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    bench.write(leaves(id(1))).await;
    assert_eq!(bench.view().await.pool.queue_len, 0);
    bench.join(waiter(2)).await;
    bench.write(leaves(id(1))).await;
    let view = bench.view_for(id(2)).await;
    assert_eq!((view.pool.queue_len, view.ahead), (1, Some(0)));
    bench.write(leaves(id(2))).await;
    bench.write(leaves(id(2))).await;
    let view = bench.view_for(id(2)).await;
    assert_eq!((view.pool.queue_len, view.ahead), (0, None));
    assert_eq!(bench.waiters(10).await, []);
}

/// In the list, in the window and in the count of those ahead, priority goes before arrival.
pub async fn priority_goes_before_arrival(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let rising = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
    for (number, priority) in (0..).zip([rising, rising].concat()) {
        bench.join(Waiter { priority, ..waiter(number) }).await;
    }
    let order = [3, 7, 2, 6, 1, 5, 0, 4].map(id);
    assert_eq!(ids(&bench.waiters(100).await), order);
    assert_eq!(ids(&bench.waiters(3).await), order[..3]);
    assert_eq!(bench.waiters(0).await, []);
    assert_eq!(ids(&bench.view().await.pool.window), order);
    for (ahead, asking) in (0..).zip(order) {
        assert_eq!(bench.view_for(asking).await.ahead, Some(ahead));
    }
}

/// The window shows the first [`LOOK_AHEAD`] of every lane, in one order.
pub async fn the_window_shows_the_first_of_every_lane(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let lanes = three_lanes();
    bench.write(joins([])).await;
    for waiter in lanes.iter().cloned() {
        bench.join(waiter).await;
    }
    let view = bench.view().await;
    let mut first: Vec<_> = lanes.chunks(3).take(LOOK_AHEAD).flatten().collect();
    first.sort_by_key(|waiter| std::cmp::Reverse(waiter.priority));
    let expected: Vec<_> = first.iter().map(|waiter| waiter.lease_id).collect();
    assert_eq!(ids(&view.pool.window), expected);
    assert!(view.pool.window.is_sorted_by_key(Waiter::order));
    assert_eq!(view.pool.queue_len, lanes.len() as u64);
    assert_eq!((view.pool.asker, view.ahead), (None, None));
}

/// An asker that stands beyond the window is shown beside it, with all that are ahead; one
/// inside it is not shown twice.
pub async fn the_asker_is_shown_beyond_the_window(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let lanes = three_lanes();
    for waiter in lanes.iter().cloned() {
        bench.join(waiter).await;
    }
    for (ahead, expected) in bench.waiters(usize::MAX >> 1).await.into_iter().enumerate() {
        let view = bench.view_for(expected.lease_id).await;
        assert_eq!(view.ahead, Some(ahead as u64));
        let in_window = ids(&view.pool.window).contains(&expected.lease_id);
        let beside = view.pool.asker.map(|asker| (asker.lease_id, asker.arrival));
        let shown = (!in_window).then_some((expected.lease_id, expected.arrival));
        assert_eq!(beside, shown);
    }
    assert_eq!(bench.view_for(id(9_999)).await.pool.asker, None);
}

/// Reading on behalf of a waiter stamps it as seen, to the second, for everybody who looks;
/// no version rises and nobody else is stamped.
pub async fn asking_stamps_the_asker_alone(under_test: StoreUnderTest) {
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    for number in 0..=LOOK_AHEAD as u128 {
        bench.join(waiter(number)).await;
    }
    let never = Time::from_micros(0);
    let before = bench.view().await;
    assert!(before.pool.window.iter().all(|waiter| waiter.seen_at == never));

    // One in the window, one beyond it.
    for asking in [id(3), id(LOOK_AHEAD as u128)] {
        let asked = bench.view_for(asking).await;
        let shown = asked.pool.waiter(asking).expect("the asker is shown");
        assert_eq!(shown.seen_at, asked.now);
        assert_eq!(asked.versions, before.versions);
        for waiter in second.waiters(usize::MAX >> 1).await {
            if waiter.lease_id == asking {
                assert!(asked.now.since(waiter.seen_at) < Duration::from_secs(1));
            } else if waiter.lease_id != id(3) {
                assert_eq!(waiter.seen_at, never);
            }
        }
    }
    assert_eq!(second.view().await.versions, before.versions);
}

/// Waiters of three lanes by turns, four more of each than the window shows; those of the
/// second lane go first.
fn three_lanes() -> Vec<Waiter> {
    let lanes = [
        (Wants::Any(1), Priority::Normal),
        (Wants::These(vec![GpuIndex(0)]), Priority::High),
        (Wants::These(vec![GpuIndex(0), GpuIndex(1)]), Priority::Normal),
    ];
    let turns = (0..LOOK_AHEAD as u128 + 4).flat_map(|turn| {
        let of_turn = lanes.clone().into_iter().zip(0..);
        of_turn.map(move |((wants, priority), lane)| Waiter {
            wants,
            priority,
            ..waiter(turn * 10 + lane)
        })
    });
    turns.collect()
}

fn ids(waiters: &[Waiter]) -> Vec<LeaseId> {
    waiters.iter().map(|waiter| waiter.lease_id).collect()
}

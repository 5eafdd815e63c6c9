//! Writing: all or nothing, and only on what was read.

use std::time::Duration;

use gpulock_core::Parts;

use super::StoreUnderTest;
use super::samples::{Bench, changing, event, held, id, joins, keeps, lease, ledger, puts, waiter};
use crate::store::{Swapped, Versions, Write};

/// A write that is based on nothing never comes too late, not even as the first of its pool.
pub async fn a_write_that_read_nothing_is_always_written(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    for (count, leases) in [(1, 9), (2, 0), (3, 7)] {
        let step = puts([lease(u128::from(count), held())]);
        let swapped = bench.swap(Versions { leases, queue: 5 }, &step).await;
        assert!(matches!(swapped, Swapped::Written { .. }));
        let view = bench.view().await;
        assert_eq!(view.versions.queue, 0);
        assert_eq!(view.pool.leases.len() as u64, count);
    }
}

/// For every choice of parts that a step read and of parts that changed meanwhile.
pub async fn a_write_conflicts_exactly_when_a_part_that_was_read_changed(
    under_test: StoreUnderTest,
) {
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    let choices = [(false, false), (true, false), (false, true), (true, true)];
    let parts = choices.map(|(leases, queue)| Parts { leases, queue });
    for (case, (reads, changed)) in parts
        .iter()
        .flat_map(|reads| parts.iter().map(move |changed| (*reads, *changed)))
        .enumerate()
    {
        let case = case as u128;
        let before = bench.view().await.versions;
        if changed.leases {
            second.write(puts([lease(100 + case, held())])).await;
        }
        if changed.queue {
            second.write(joins([waiter(200 + case)])).await;
        }
        let mut step = puts([lease(300 + case, held())]);
        step.changes.reads = reads;
        let too_late = (reads.leases && changed.leases) || (reads.queue && changed.queue);
        let swapped = bench.swap(before, &step).await;
        assert_eq!(
            matches!(swapped, Swapped::Conflict(_)),
            too_late,
            "read {reads:?}, changed meanwhile {changed:?}"
        );
        let is_there = bench.view().await.pool.lease(id(300 + case)).is_some();
        assert_eq!(is_there, !too_late);
    }
}

/// A write that comes too late leaves everything as it is, and is answered with the present
/// picture on behalf of whoever asks.
pub async fn a_conflict_writes_nothing_and_shows_the_present(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    bench.write(keeps(ledger(1))).await;
    bench.join(waiter(1)).await;
    bench.join(waiter(2)).await;
    let stale = bench.view().await.versions;
    bench.write(keeps(ledger(2))).await;
    let before = bench.view().await;

    let mut step = joins([waiter(3)]);
    step.changes.ledger = Some(ledger(99));
    step.changes.leases = puts([lease(4, held())]).changes.leases;
    step.changes.reads = Parts { leases: true, queue: false };
    step.events.push(event(1, "ocr"));
    let write = Write {
        pool: &bench.pool,
        expected: stale,
        step: &step,
        asking: Some(id(2)),
        incarnation: None,
    };
    let Ok(Swapped::Conflict(shown)) = bench.store.swap(write).await else {
        panic!("the ledger had changed")
    };
    assert_eq!((shown.versions, shown.ahead), (before.versions, Some(1)));
    assert_eq!((&shown.pool.ledger, shown.pool.queue_len), (&ledger(2), 2));

    let after = bench.view().await;
    assert_eq!(after.versions, before.versions);
    assert_eq!((after.pool.ledger, after.pool.leases), (before.pool.ledger, before.pool.leases));
    assert_eq!(after.pool.queue_len, 2);
    assert_eq!(bench.history(10, None).await, []);
}

/// A write raises the version of each part that it changes, and of no other, and says to what.
pub async fn the_parts_have_versions_of_their_own(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut both = puts([lease(1, held())]);
    both.changes.waiters = joins([waiter(2)]).changes.waiters;
    let mut only_told = changing(Default::default());
    only_told.events.push(event(1, "ocr"));
    let (yes, no) = (true, false);
    let steps = [
        (joins([waiter(1)]), (no, yes)),
        (puts([lease(1, held())]), (yes, no)),
        (keeps(ledger(1)), (yes, no)),
        (both, (yes, yes)),
        (only_told, (no, no)),
    ];
    let mut before = Versions::default();
    for (mut step, (leases, queue)) in steps {
        step.changes.reads = Parts { leases: true, queue: true };
        let swapped = bench.swap(before, &step).await;
        let present = bench.view().await.versions;
        assert!(matches!(swapped, Swapped::Written { versions, .. } if versions == present));
        assert_eq!((present.leases > before.leases, present.queue > before.queue), (leases, queue));
        assert!(present.leases >= before.leases && present.queue >= before.queue);
        before = present;
    }
}

/// A decision that is right only from a later moment on is not written before it.
pub async fn a_write_before_its_time_conflicts(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let now = bench.view().await.now;
    let mut step = puts([lease(1, held())]);
    step.changes.not_before = Some(now + Duration::from_secs(3_600));
    let swapped = bench.swap(Versions::default(), &step).await;
    assert!(matches!(swapped, Swapped::Conflict(_)));
    assert_eq!(bench.view().await.pool.leases, []);

    step.changes.not_before = Some(now);
    let swapped = bench.swap(Versions::default(), &step).await;
    assert!(matches!(swapped, Swapped::Written { .. }));
}

/// A decision that is right only without a certain lease is not written beside it.
pub async fn a_write_that_must_not_meet_a_lease_does_not(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut step = joins([waiter(1)]);
    step.changes.unless_leased = Some(id(1));
    bench.write(puts([lease(1, held()), lease(2, held())])).await;
    let swapped = bench.swap(Versions::default(), &step).await;
    assert!(matches!(swapped, Swapped::Conflict(view) if view.pool.leases.len() == 2));
    assert_eq!(bench.view().await.pool.queue_len, 0);

    let mut gone = puts([]);
    gone.changes.leases.insert(id(1), None);
    bench.write(gone).await;
    let swapped = bench.swap(Versions::default(), &step).await;
    assert!(matches!(swapped, Swapped::Written { .. }));
    assert_eq!(bench.view().await.pool.queue_len, 1);
}

/// Of many who decided on the same picture, exactly one is written.
pub async fn of_many_writers_with_one_expectation_one_wins(under_test: StoreUnderTest) {
    const WRITERS: u64 = 16;
    let benches = [Bench::new(&under_test.store), Bench::new(&under_test.second)];
    benches[0].write(keeps(ledger(0))).await;
    let expected = benches[0].view().await.versions;
    let tasks: Vec<_> = (1..=WRITERS)
        .map(|number| {
            let bench = benches[number as usize % 2].clone();
            tokio::spawn(async move {
                let mut step = keeps(ledger(number));
                step.changes.reads = Parts { leases: true, queue: false };
                match bench.swap(expected, &step).await {
                    Swapped::Written { .. } => Some(number),
                    Swapped::Conflict(_) => None,
                }
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.expect("the writer ends"));
    }
    let [winner] = winners[..] else { panic!("{} writes won", winners.len()) };
    assert_eq!(benches[1].view().await.pool.ledger, ledger(winner));
}

/// Many writers who each add one to a sum, again and again, get the right sum.
pub async fn no_write_is_lost_among_many_writers(under_test: StoreUnderTest) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 20;
    let benches = [Bench::new(&under_test.store), Bench::new(&under_test.second)];
    benches[0].write(keeps(ledger(0))).await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|number| {
            let bench = benches[number as usize % 2].clone();
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    add_one(&bench).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the writer ends");
    }
    let view = benches[0].view().await;
    assert_eq!(view.pool.ledger.counters.granted, WRITERS * ROUNDS);
}

async fn add_one(bench: &Bench) {
    let mut view = bench.view().await;
    loop {
        let mut step = keeps(ledger(view.pool.ledger.counters.granted + 1));
        step.changes.reads = Parts { leases: true, queue: false };
        match bench.swap(view.versions, &step).await {
            Swapped::Written { .. } => return,
            Swapped::Conflict(present) => view = *present,
        }
    }
}

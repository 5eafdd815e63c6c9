//! Reading: one consistent picture.

use std::collections::BTreeMap;

use gpulock_core::{
    Cause, Changes, Ending, Lease, Phase, Process, ProcessGroup, Progress, StopRequest, Time,
};

use super::StoreUnderTest;
use super::samples::{
    Bench, changing, held, id, joins, keeps, lease, leaves, ledger, puts, waiter,
};
use crate::store::Versions;

/// A pool that nobody has written yet is empty, at versions 0.
pub async fn an_unwritten_pool_is_empty(under_test: StoreUnderTest) {
    let view = Bench::new(&under_test.store).view_for(id(1)).await;
    assert_eq!(view.pool, gpulock_core::Pool::default());
    assert_eq!(view.versions, Versions::default());
    assert_eq!(view.ahead, None);
    assert!(view.now > Time::from_micros(0));
}

/// Ledger, leases and waiters come back as they were written.
pub async fn everything_written_is_read_back(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut step = joins([waiter(1)]);
    step.changes.ledger = Some(ledger(7));
    step.changes.leases = puts([lease(2, held())]).changes.leases;
    bench.write(step).await;

    let view = bench.view().await;
    assert_eq!(view.pool.ledger, ledger(7));
    assert_eq!(view.pool.leases, [lease(2, held())]);
    let [seen] = &view.pool.window[..] else { panic!("one waiter was written") };
    assert!(seen.arrival > 0);
    let mut as_written = seen.clone();
    as_written.arrival = 0;
    assert_eq!(as_written, waiter(1));
    assert_eq!(bench.waiters(10).await, view.pool.window);
    assert_eq!((view.pool.queue_len, view.pool.asker), (1, None));
}

/// So do leases of every phase, with and without group, progress and channel.
pub async fn leases_of_every_phase_are_read_back(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let at = Time::from_micros(1_706_458_500_000_003);
    let request = StopRequest { at, reason: "line\nbreak, \"quotes\" and {braces}".to_owned() };
    let seized = Ending::Seized { by: "ops@gpu1".to_owned(), reason: String::new() };
    let draining = |how| Phase::Draining { ended_at: at, how, seen_alive_at: at, failures: 1 };
    let mut written: Vec<Lease> = [
        Phase::Granted { claim_by: at },
        held(),
        Phase::Stopping { renewed_at: at, deadline: at, request },
        draining(Ending::Released),
        draining(Ending::Expired(Cause::HolderDied)),
        draining(seized),
    ]
    .into_iter()
    .zip(1..)
    .map(|(phase, number)| lease(number, phase))
    .collect();
    let leader = Process { pid: 4_300, start_time: u64::MAX >> 1 };
    written[1].group = Some(ProcessGroup { leader, session: 4_299 });
    written[1].progress =
        Some(Progress { basis_points: 10_000, message: "\0 \u{1f600}".to_owned() });
    written[1].owner.process = None;
    bench.write(puts(written.clone())).await;

    let mut read = bench.view().await.pool.leases;
    read.sort_by_key(|lease| lease.token);
    assert_eq!(read, written);
    written[1].progress = None;
    bench.write(puts([written[1].clone()])).await;
    let rewritten = bench.view().await.pool.leases;
    assert_eq!(rewritten.len(), written.len());
    assert!(rewritten.contains(&written[1]), "a lease that is written again is replaced");
}

/// Leases and waiters that a step removes are gone, and only they.
pub async fn what_is_removed_is_gone(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    bench.write(puts([lease(1, held()), lease(2, held())])).await;
    bench.write(joins([waiter(3)])).await;
    bench.write(joins([waiter(4)])).await;
    let leases = BTreeMap::from([(id(1), None), (id(9), None)]);
    bench.write(changing(Changes { leases, ..Changes::default() })).await;
    bench.write(leaves(id(3))).await;

    let view = bench.view_for(id(4)).await;
    assert_eq!(view.pool.leases, [lease(2, held())]);
    assert_eq!((view.pool.queue_len, view.ahead), (1, Some(0)));
    assert_eq!(view.pool.window[0].lease_id, id(4));
    assert_eq!(bench.view_for(id(3)).await.ahead, None);
}

/// Whoever reads after a write sees a time that is not before it, so nothing in a picture
/// lies in its future.
pub async fn a_picture_is_no_older_than_what_it_shows(under_test: StoreUnderTest) {
    const ROUNDS: u64 = 300;
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    let writing = tokio::spawn(async move {
        for round in 1..=ROUNDS {
            let now = bench.view().await.now;
            let phase = Phase::Held { renewed_at: now, deadline: now };
            let mut step = puts([lease(1, phase)]);
            step.changes.ledger = keeps(ledger(round)).changes.ledger;
            bench.write(step).await;
        }
    });
    let mut rounds = 0;
    while rounds < ROUNDS {
        let view = second.view().await;
        for lease in &view.pool.leases {
            assert!(lease.renewed_at() <= view.now, "a lease was renewed after the picture's time");
        }
        rounds = view.pool.ledger.counters.granted;
        tokio::task::yield_now().await;
    }
    writing.await.expect("the writer ends");
}

/// The store's clock does not go back from one read to the next, whoever reads.
pub async fn the_clock_never_goes_back(under_test: StoreUnderTest) {
    let benches = [Bench::new(&under_test.store), Bench::new(&under_test.second)];
    let mut last = benches[0].view().await.now;
    for round in 0..200_usize {
        let now = benches[round % 2].view().await.now;
        assert!(now >= last, "{now} follows {last}");
        last = now;
    }
}

//! Many pools, many clients.

use gpulock_core::Parts;

use super::StoreUnderTest;
use super::samples::{
    Bench, changing, event, held, id, joins, keeps, lease, leaves, ledger, puts, waiter,
};
use crate::store::{Swapped, Versions};

/// What is written to one pool cannot be seen in another.
pub async fn pools_are_separate(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let lab = bench.beside("lab");
    let mut step = keeps(ledger(1));
    step.changes.leases = puts([lease(1, held())]).changes.leases;
    step.changes.waiters = joins([waiter(2)]).changes.waiters;
    step.events.push(event(1, "ocr"));
    bench.write(step).await;

    let elsewhere = lab.view_for(id(2)).await;
    assert_eq!(elsewhere.pool, gpulock_core::Pool::default());
    assert_eq!((elsewhere.versions, elsewhere.ahead), (Versions::default(), None));
    assert_eq!(lab.waiters(10).await, []);
    assert_eq!(lab.history(10, None).await, []);
}

/// The same lease id in two pools means two requests.
pub async fn records_of_different_pools_may_share_ids(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let lab = bench.beside("lab");
    for one in [&bench, &lab] {
        one.write(puts([lease(1, held())])).await;
        one.join(waiter(2)).await;
    }
    lab.write(leaves(id(2))).await;
    let without = std::collections::BTreeMap::from([(id(1), None)]);
    lab.write(changing(gpulock_core::Changes { leases: without, ..Default::default() })).await;

    let view = bench.view_for(id(2)).await;
    assert_eq!((view.pool.leases.len(), view.ahead), (1, Some(0)));
    let view = lab.view_for(id(2)).await;
    assert_eq!((view.pool.leases.len(), view.ahead, view.pool.queue_len), (0, None, 0));
}

/// A pool is listed from its first write on, in the order of the names; reading it or failing
/// to write it does not make it one.
pub async fn pools_are_listed_once_written(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    assert_eq!(bench.store.pools().await.expect("the store can be read"), []);
    for name in ["b", "a.1", "C-2"] {
        bench.beside(name).write(keeps(ledger(1))).await;
    }
    bench.beside("read").view_for(id(1)).await;
    let mut step = keeps(ledger(1));
    step.changes.reads = Parts { leases: true, queue: true };
    let never = Versions { leases: 7, queue: 7 };
    let swapped = bench.beside("refused").swap(never, &step).await;
    assert!(matches!(swapped, Swapped::Conflict(_)));

    let names = under_test.second.pools().await.expect("the store can be read");
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["C-2", "a.1", "b"]);
}

/// What one client writes the other reads, and each can change what the other wrote.
pub async fn two_handles_see_each_others_writes(under_test: StoreUnderTest) {
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    for round in 1..=20 {
        let (from, to) = if round % 2 == 0 { (&bench, &second) } else { (&second, &bench) };
        let expected = from.view().await.versions;
        let mut step = keeps(ledger(round));
        step.changes.reads = Parts { leases: true, queue: true };
        step.events.push(event(round, "ocr"));
        let Swapped::Written { versions: written, .. } = from.swap(expected, &step).await else {
            panic!("nobody else wrote in round {round}")
        };
        let seen = to.view().await;
        assert_eq!((seen.pool.ledger, seen.versions), (ledger(round), written));
        assert_eq!(to.history(1, None).await, [event(round, "ocr")]);
    }
}

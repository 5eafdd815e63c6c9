//! The journal: what happened, written with the change itself.

use gpulock_core::{Parts, Step};

use super::StoreUnderTest;
use super::samples::{Bench, changing, event, keeps, ledger, numbers};
use crate::store::Swapped;

/// Nobody ever sees a change without its event or an event without its change.
pub async fn events_and_changes_land_together(under_test: StoreUnderTest) {
    const WRITES: u64 = 150;
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    let writing = tokio::spawn(async move {
        for number in 1..=WRITES {
            let mut step = keeps(ledger(number));
            step.events.push(event(number, "ocr"));
            bench.write(step).await;
        }
    });
    loop {
        // Each is as new as the one before it, or newer.
        let told_before =
            second.history(1, None).await.first().map_or(0, |last| last.at.as_micros());
        let changed = second.view().await.pool.ledger.counters.granted;
        let told_after =
            second.history(1, None).await.first().map_or(0, |last| last.at.as_micros());
        assert!(told_before <= changed, "an event was told before its change");
        assert!(changed <= told_after, "a change was there before its event");
        if changed == WRITES {
            break;
        }
        tokio::task::yield_now().await;
    }
    writing.await.expect("the writer ends");
}

/// History begins with the latest event, also among those of one step, and ends at the limit.
pub async fn the_latest_event_comes_first(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    assert_eq!(bench.history(10, None).await, []);
    let mut step = keeps(ledger(1));
    step.events = vec![event(1, "ocr"), event(2, "asr"), event(3, "ocr")];
    bench.write(step.clone()).await;
    step.events = vec![event(4, "tts")];
    bench.write(step).await;

    let all = bench.history(usize::MAX >> 1, None).await;
    assert_eq!(all, [event(4, "tts"), event(3, "ocr"), event(2, "asr"), event(1, "ocr")]);
    assert_eq!(bench.history(2, None).await, all[..2]);
    assert_eq!(bench.history(0, None).await, []);
}

/// Only the events of one task, if one is named; the limit counts those.
pub async fn events_are_found_by_task(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut step = keeps(ledger(1));
    let of_nobody = gpulock_core::Event { party: None, ..event(5, "ocr") };
    step.events = vec![
        event(1, "ocr"),
        event(2, "asr"),
        event(3, "ocr"),
        event(4, "ocr 2"),
        of_nobody.clone(),
    ];
    bench.write(step).await;

    assert_eq!(numbers(&bench.history(10, Some("ocr")).await), [3, 1]);
    assert_eq!(numbers(&bench.history(1, Some("ocr")).await), [3]);
    assert_eq!(bench.history(10, Some("nobody's")).await, []);
    assert_eq!(bench.history(1, None).await, [of_nobody]);
}

/// After many events the latest ten thousand or so are kept; the sums go on.
pub async fn the_journal_is_capped_and_the_sums_go_on(under_test: StoreUnderTest) {
    const WRITTEN: u64 = 13_000;
    const AT_ONCE: u64 = 4;
    let bench = Bench::new(&under_test.store);
    for first in (1..=WRITTEN).step_by(AT_ONCE as usize) {
        let last = first + AT_ONCE - 1;
        let mut step = keeps(ledger(last));
        step.events = (first..=last).map(|number| event(number, "ocr")).collect();
        write_on_the_present(&bench, step).await;
    }
    let kept = numbers(&bench.history(usize::MAX >> 1, None).await);
    assert!((9_000..=12_000).contains(&kept.len()), "{} events are kept", kept.len());
    let latest: Vec<u64> = (1..=WRITTEN).rev().take(kept.len()).collect();
    assert_eq!(kept, latest);
    assert_eq!(bench.view().await.pool.ledger.counters.granted, WRITTEN);

    // It is still written to.
    let mut step = changing(Default::default());
    step.events.push(event(WRITTEN + 1, "ocr"));
    write_on_the_present(&bench, step).await;
    assert_eq!(numbers(&bench.history(1, None).await), [WRITTEN + 1]);
}

/// Writes a step that is based on the leases, as every step of the rules is.
async fn write_on_the_present(bench: &Bench, mut step: Step) {
    step.changes.reads = Parts { leases: true, queue: false };
    let present = bench.view().await.versions;
    assert!(matches!(bench.swap(present, &step).await, Swapped::Written { .. }));
}

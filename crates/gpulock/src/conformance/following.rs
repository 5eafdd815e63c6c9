//! Following the journal.

use std::collections::BTreeSet;

use gpulock_core::Parts;

use super::StoreUnderTest;
use super::samples::{Bench, changing, event, events, keeps, ledger, numbers};
use crate::store::{Cursor, Entry, Swapped};

/// Later entries have larger cursors, also those of one step, and reading tells the same
/// cursors as following.
pub async fn the_cursor_grows(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut number = 0;
    for round in 0..20 {
        let mut step =
            if round % 3 == 0 { keeps(ledger(round)) } else { changing(Default::default()) };
        step.events = (0..round % 4).map(|place| event(number + place, "ocr")).collect();
        number += round % 4;
        bench.write(step).await;
    }
    let told = bench.follow(Cursor::START, usize::MAX >> 1).await.entries;
    assert_eq!(numbers(&events(&told)), (0..number).collect::<Vec<_>>());
    assert!(told.windows(2).all(|pair| pair[0].cursor < pair[1].cursor), "{told:?}");
    assert!(told.iter().all(|entry| entry.cursor > Cursor::START));

    let mut latest_first = bench.entries(usize::MAX >> 1, None).await;
    latest_first.reverse();
    assert_eq!(latest_first, told);
}

/// From every place exactly what came after it, in order, no more than was asked for.
pub async fn what_came_after_a_cursor_is_given_in_order(under_test: StoreUnderTest) {
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    let nothing = bench.follow(Cursor::START, 10).await;
    assert!(nothing.entries.is_empty() && nothing.is_gapless, "{nothing:?}");
    for first in (1..=12).step_by(3) {
        let mut step = keeps(ledger(first));
        step.events = (first..first + 3).map(|number| event(number, "ocr")).collect();
        bench.write(step).await;
    }
    bench.beside("lab").write(told_by(99)).await;

    let all = second.follow(Cursor::START, 100).await;
    assert!(all.is_gapless);
    assert_eq!(numbers(&events(&all.entries)), (1..=12).collect::<Vec<_>>());
    for (place, entry) in all.entries.iter().enumerate() {
        let rest = &all.entries[place + 1..];
        for limit in [0, 1, 2, 100] {
            let followed = second.follow(entry.cursor, limit).await;
            assert_eq!(followed.entries, rest[..limit.min(rest.len())], "after {}", entry.cursor);
            assert!(followed.is_gapless, "after {}", entry.cursor);
        }
    }
    let end = all.entries[11].cursor;
    bench.write(told_by(13)).await;
    let followed = second.follow(end, 10).await;
    assert_eq!(numbers(&events(&followed.entries)), [13]);
    assert!(followed.is_gapless);
}

/// Whoever follows while many write misses nothing and sees nothing twice: what is written
/// later never stands before a place that was given already, whatever it was based on.
pub async fn of_many_writers_nobody_writes_behind_a_follower(under_test: StoreUnderTest) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 60;
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let handle = if writer % 2 == 0 { &under_test.store } else { &under_test.second };
            let bench = Bench::new(handle);
            tokio::spawn(async move {
                for round in 0..EACH {
                    let number = 1 + writer * EACH + round;
                    match number % 3 {
                        // On the present, with a new version; and on nothing, with and without.
                        0 => write_on_the_present(&bench, number).await,
                        1 => bench.write(told_by(number)).await,
                        _ => {
                            let mut step = changing(Default::default());
                            step.events.push(event(number, "asr"));
                            bench.write(step).await;
                        }
                    }
                }
            })
        })
        .collect();
    let follower = Bench::new(&under_test.second);
    let (mut seen, mut after): (Vec<Entry>, _) = (Vec::new(), Cursor::START);
    while (seen.len() as u64) < WRITERS * EACH {
        let followed = follower.follow(after, 7).await;
        assert!(followed.is_gapless);
        after = followed.entries.last().map_or(after, |entry| entry.cursor);
        seen.extend(followed.entries);
        let is_over = writing.iter().all(tokio::task::JoinHandle::is_finished);
        let rest = follower.follow(after, 1).await.entries;
        if is_over && rest.is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    for writer in writing {
        writer.await.expect("the writer ends");
    }
    let told: BTreeSet<u64> = numbers(&events(&seen)).into_iter().collect();
    assert_eq!(seen.len() as u64, WRITERS * EACH, "events were missed or told twice");
    assert_eq!(told, (1..=WRITERS * EACH).collect());
}

/// A follower that fell behind what is kept is told so, gets the oldest that is left, and
/// goes on from there.
pub async fn a_cut_journal_says_so(under_test: StoreUnderTest) {
    const WRITTEN: u64 = 13_000;
    const AT_ONCE: u64 = 50;
    let bench = Bench::new(&under_test.store);
    bench.write(told_by(0)).await;
    let early = bench.follow(Cursor::START, 1).await.entries[0].cursor;
    assert!(bench.follow(early, 1).await.is_gapless);
    for first in (1..=WRITTEN).step_by(AT_ONCE as usize) {
        let mut step = keeps(ledger(first));
        step.events = (first..first + AT_ONCE).map(|number| event(number, "ocr")).collect();
        step.changes.reads = Parts { leases: true, queue: false };
        let present = bench.view().await.versions;
        assert!(matches!(bench.swap(present, &step).await, Swapped::Written { .. }));
    }
    for after in [Cursor::START, early] {
        let followed = bench.follow(after, 3).await;
        assert!(!followed.is_gapless, "nothing is said to be missing after {after}");
        let told = numbers(&events(&followed.entries));
        assert!(told[0] > 1, "the journal was not cut");
        assert_eq!(told, [told[0], told[0] + 1, told[0] + 2]);

        let next = bench.follow(followed.entries[2].cursor, 1).await;
        assert!(next.is_gapless);
        assert_eq!(numbers(&events(&next.entries)), [told[0] + 3]);
    }
}

/// A place that this journal never had is not taken for one.
pub async fn an_unknown_cursor_says_so(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let never = Cursor { major: 7, minor: 7 };
    assert!(!bench.follow(never, 10).await.is_gapless);
    for number in 1..=3 {
        bench.write(told_by(number)).await;
    }
    let end = bench.entries(1, None).await[0].cursor;
    for unknown in [Cursor { major: 0, minor: 1 }, Cursor { major: end.major + 1, minor: 7 }] {
        assert!(!bench.follow(unknown, 10).await.is_gapless, "{unknown} is taken for a place");
    }
    assert!(!bench.beside("lab").follow(end, 10).await.is_gapless);
}

async fn write_on_the_present(bench: &Bench, number: u64) {
    let mut step = told_by(number);
    step.changes.reads = Parts { leases: true, queue: false };
    loop {
        let present = bench.view().await.versions;
        if matches!(bench.swap(present, &step).await, Swapped::Written { .. }) {
            return;
        }
    }
}

/// A step that changes something and tells of one event.
fn told_by(number: u64) -> gpulock_core::Step {
    let mut step = keeps(ledger(number));
    step.events.push(event(number, "ocr"));
    step
}

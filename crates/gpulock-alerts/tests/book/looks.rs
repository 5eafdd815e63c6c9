//! What looks at pools say, and what is forgotten with them.

use std::collections::BTreeSet;

use gpulock::core::alert::{Change, Signal};
use gpulock::core::{Counters, LeaseId, PoolName};
use gpulock::store::Cursor;

use super::office::*;

const CLOSED: &str = "GPU_LOCK_POOL_CLOSED";

fn pool(name: &str) -> PoolName {
    name.parse().expect("a name")
}

fn closed(pool: &str) -> Signal {
    let signal = signal(CLOSED, "", Change::Present);
    Signal { labels: signal.labels.with("pool", pool), ..signal }
}

fn look(office: &mut Office, present: Vec<Signal>, leases: &[LeaseId]) {
    let leases: BTreeSet<_> = leases.iter().copied().collect();
    let now = office.now;
    let present = present.into_iter().map(|signal| Signal { at: now, ..signal }).collect();
    office.book.look_at(now, &pool("default"), present, &leases);
    office.work();
}

fn firing(office: &Office) -> Vec<String> {
    let firing = office.book.alerts().filter(|(_, alert)| !alert.is_over());
    firing.map(|(_, alert)| format!("{} {}", alert.name(), alert.labels.value("pool"))).collect()
}

#[test]
fn what_a_look_does_not_find_any_more_is_over() {
    let mut office = Office::new(plan(&["slack"]));
    look(&mut office, vec![closed("default")], &[]);
    office.hear(closed("other"));
    office.until(secs(60));
    office.told();
    let newer = closed("default").fact("opens_in_seconds", "3");
    look(&mut office, vec![newer], &[]);
    let (_, alert) = office.book.alerts().find(|(_, a)| a.facts.len() == 2).expect("the newer one");
    assert_eq!((alert.count, alert.last_at), (1, office.now), "looks are not counted");
    look(&mut office, vec![], &[]);
    assert_eq!(firing(&office), [format!("{CLOSED} other")], "another pool was not looked at");
    office.until(secs(400));
    assert_eq!(office.told().len(), 1);
    look(&mut office, vec![closed("default")], &[]);
    assert_eq!(firing(&office).len(), 2, "it can begin again");
}

#[test]
fn alerts_that_are_not_about_looks_stay() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(happened("a"));
    office.hear(signal("MONITOR_SERVICE_DOWN", "", Change::Present));
    office.hear(signal("RAISED_BY_A_PROGRAM", "", Change::Happened { lasts: false }));
    look(&mut office, vec![], &[]);
    assert_eq!(firing(&office).len(), 3);
}

#[test]
fn alerts_about_leases_whose_end_the_journal_has_lost_end_after_a_minute() {
    let lease = LeaseId::from_bits(7);
    let about = happened("a").fact("lease_id", lease.to_string());
    let mut office = Office::new(plan(&["slack"]));
    office.hear(about);
    office.until(secs(50));
    office.told();
    look(&mut office, vec![], &[]);
    assert_eq!(firing(&office).len(), 1, "the look may be older than the journal");
    office.until(secs(100));
    look(&mut office, vec![], &[lease]);
    assert_eq!(firing(&office).len(), 1, "the lease is there");
    look(&mut office, vec![], &[]);
    assert_eq!(firing(&office), [""; 0]);
    office.until(secs(400));
    assert_eq!(office.told(), ["330 slack all_resolved -a"]);
}

#[test]
fn sums_count_as_far_as_they_grew_within_the_hour() {
    let mut office = Office::new(plan(&["slack"]));
    let sums = |releases, violations| Counters {
        emergency_releases: releases,
        ownership_violations: violations,
        ..Counters::default()
    };
    let mut at = |minute: u64, sums: &Counters| {
        office.book.within_the_hour(START + secs(60 * minute), &pool("default"), sums)
    };
    assert_eq!(at(0, &sums(5, 50)), (0, 0));
    assert_eq!(at(10, &sums(16, 151)), (11, 101));
    assert_eq!(at(59, &sums(16, 151)), (11, 101));
    assert_eq!(at(75, &sums(17, 151)), (1, 0));
    assert_eq!(at(76, &sums(2, 3)), (0, 0), "the store lost them");
    let now = START + secs(60 * 77);
    assert_eq!(office.book.within_the_hour(now, &pool("other"), &sums(9, 9)), (0, 0));
}

#[test]
fn what_fired_in_a_pool_that_is_gone_is_over() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(closed("default"));
    office.hear(closed("other"));
    office.hear(signal("MONITOR_SERVICE_DOWN", "", Change::Present));
    let (default, other) = (pool("default"), pool("other"));
    office.book.note_heard(&default, Cursor::default());
    office.book.note_heard(&other, Cursor::default());
    office.book.keep_pools(std::slice::from_ref(&default));
    office.work();
    assert!(office.book.heard(&default).is_some());
    assert!(office.book.heard(&other).is_none());
    let mut firing = firing(&office);
    firing.sort();
    assert_eq!(firing, [format!("{CLOSED} default"), "MONITOR_SERVICE_DOWN default".to_owned()]);
}

//! Very many signals: few messages, full counts, and a book of a size that stores take.

use gpulock::core::alert::{Change, Fingerprint, RULES, Signal};
use gpulock_alerts::book::Book;
use gpulock_alerts::plan::{Rate, Route};

use super::office::*;

const MANY: u64 = 10_000;

/// What stores take.
const LARGEST: usize = 3 << 20;

fn size(book: &Book) -> usize {
    serde_json::to_vec(book).expect("JSON").len()
}

fn stormy(channels: &[&str]) -> Office {
    let mut plan = plan(channels);
    for channel in plan.channels.values_mut() {
        channel.rate = Rate { messages: 20, per: secs(60) };
    }
    Office { is_checked: false, ..Office::new(plan) }
}

/// Ten seconds of signals, in batches as a journal gives them.
fn storm(office: &mut Office, signals: impl Iterator<Item = Signal>) {
    for (at, signal) in signals.enumerate() {
        office.now = START + std::time::Duration::from_millis(at as u64);
        let at = office.now;
        office.book.hear([Signal { at, ..signal }]);
        if office.now.as_micros().is_multiple_of(500_000) {
            office.work();
        }
    }
    office.work();
}

fn counted(office: &Office) -> u64 {
    office.book.alerts().map(|(_, alert)| alert.count).sum()
}

#[test]
fn one_task_that_dies_again_and_again_is_one_message() {
    let mut office = stormy(&["slack"]);
    storm(&mut office, (0..MANY).map(|_| once("a")));
    office.until(secs(299));
    assert_eq!(office.sent[0].1.notification.count, MANY);
    assert_eq!(office.told(), ["30 slack first +a"]);
    assert_eq!(office.book.sums().deduplicated, MANY - 1);
}

#[test]
fn ten_thousand_tasks_are_one_message_that_counts_all() {
    let mut office = stormy(&["slack"]);
    storm(&mut office, (0..MANY).map(|task| once(&format!("task {task}"))));
    assert_eq!(counted(&office), MANY);
    assert!(size(&office.book) < LARGEST, "{}", size(&office.book));
    office.until(secs(3_600));
    let counts: Vec<_> = office.sent.iter().map(|sent| sent.1.notification.count).collect();
    assert!(counts.len() <= 3, "{counts:?}");
    let first = &office.sent[0].1.notification;
    assert_eq!(first.count, MANY);
    assert_eq!(first.alerts.len() + first.truncated_alerts, 1_001, "the last one stands for all");
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn fifty_rules_in_fifty_pools_are_a_message_for_each_group_within_the_rate() {
    let mut office = stormy(&["slack"]);
    storm(
        &mut office,
        (0..MANY).map(|at| {
            let (rule, pool) = (at % 50, at / 50 % 50);
            let signal = signal(&format!("RULE_{rule}"), &format!("task {at}"), Change::Present);
            Signal { labels: signal.labels.with("pool", format!("pool {pool}")), ..signal }
        }),
    );
    assert_eq!(counted(&office), MANY);
    assert!(size(&office.book) < LARGEST, "{}", size(&office.book));
    office.until(secs(120));
    let counted: u64 = office.sent.iter().map(|sent| sent.1.notification.count).sum();
    let given_up = office.book.sums().channels["slack"].given_up;
    let groups = office.sent.len() as u64 + given_up;
    assert!(groups <= 2_501, "{groups}");
    assert!(counted > 0);
}

#[test]
fn alerts_under_any_number_of_names_do_not_fill_the_book() {
    let mut office = stormy(&["slack"]);
    let change = Change::Happened { lasts: false };
    storm(&mut office, (0..MANY).map(|at| signal(&format!("NAME_{at}"), "", change)));
    assert_eq!(counted(&office), MANY);
    assert!(office.book.alerts().count() <= 1_100, "{}", office.book.alerts().count());
    assert!(size(&office.book) < LARGEST, "{}", size(&office.book));
}

#[test]
fn what_comes_and_goes_does_not_fill_the_book() {
    let mut office = stormy(&["slack"]);
    storm(
        &mut office,
        (0..MANY).map(|at| {
            let task = format!("task {}", at / 2);
            if at % 2 == 0 { present(&task) } else { over(&task) }
        }),
    );
    assert!(office.book.alerts().count() <= 400, "{}", office.book.alerts().count());
    office.until(secs(3_600));
    assert_eq!(office.told(), [""; 0]);
}

#[test]
fn a_book_that_is_too_large_says_less_and_forgets_nothing_that_fires() {
    let mut office = stormy(&["slack", "mail"]);
    office.plan.route.group_by = names(&[Route::ALL_LABELS]);
    office.plan.route.channels = names(&["slack", "mail"]);
    for channel in ["slack", "mail"] {
        office.failing.insert(channel.to_owned(), trouble());
    }
    let long = "é".repeat(2_000);
    let tasks = (0..1_200).map(|task| {
        let mut signal = happened(&format!("task {task}"));
        for fact in 0..10 {
            signal = signal.fact(&format!("fact {fact}"), long.as_str());
        }
        signal
    });
    office.book.hear(tasks);
    office.until(secs(40));
    for task in 0..100 {
        office.book.hear([over(&format!("task {task}"))]);
    }
    office.work();
    let before = size(&office.book);
    assert!(before > LARGEST, "{before}");
    let firing = |book: &Book| -> Vec<Fingerprint> {
        let firing = book.alerts().filter(|(_, alert)| !alert.is_over());
        firing.map(|(id, _)| id.clone()).collect()
    };
    let (fires, waits) = (firing(&office.book), office.waiting());
    office.book.shed();
    assert_eq!(firing(&office.book), fires);
    assert_eq!((office.waiting(), office.dead()), (waits, 0));
    let after = size(&office.book);
    assert!(after < LARGEST, "{before} bytes became {after}");
    // What was over and is still to be called off is not forgotten.
    office.failing.clear();
    office.until(secs(400));
    assert!(office.book.letters().any(|(_, letter)| letter.reason == "all_resolved"));
}

#[test]
fn a_thousand_alerts_on_fifty_routes_are_sorted_in_one_look() {
    let mut plan = plan(&["slack"]);
    let children =
        (0..50).map(|at| route(&plan.route, &[&format!("task=~\"task {at}.*\"")], "slack"));
    plan.route.routes = children.collect();
    let mut office = Office { is_checked: false, ..Office::new(plan) };
    office.book.hear((0..1_000).map(|task| present(&format!("task {task}"))));
    office.until(secs(60));
    let told: u64 = office.sent.iter().map(|sent| sent.1.notification.count).sum();
    assert_eq!(told, 1_000);
    assert!(office.sent.len() <= 51);
}

#[test]
fn every_rule_at_once_for_every_lease_is_told() {
    let mut office = stormy(&["slack"]);
    for rule in &RULES {
        for task in ["a", "b"] {
            office.book.hear([signal(rule.name, task, Change::Present)]);
        }
    }
    office.until(secs(60));
    // Of one lease, what is less than the hard timeout or a lost GPU is kept quiet.
    assert_eq!(office.sent.len(), RULES.len() - 3);
    assert!(office.sent.iter().all(|sent| sent.1.notification.alerts.len() == 2));
}

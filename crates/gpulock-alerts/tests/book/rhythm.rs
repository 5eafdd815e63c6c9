//! When a group is told: Alertmanager's waits and intervals.

use gpulock::core::alert::Urgency;
use gpulock_alerts::plan::Rate;

use super::office::*;

const HOUR: u64 = 3_600;

#[test]
fn a_new_group_waits_for_more_alerts() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(10));
    office.hear(present("b"));
    office.until(secs(29));
    assert_eq!(office.told(), [""; 0]);
    office.until(secs(60));
    assert_eq!(office.told(), ["30 slack first +a +b"]);
}

#[test]
fn an_alert_that_was_read_late_waits_no_longer() {
    let mut office = Office::new(plan(&["slack"]));
    office.now = START + secs(100);
    office.book.hear([present("a")]);
    office.until(secs(101));
    assert_eq!(office.told(), ["100 slack first +a"]);
}

#[test]
fn what_is_over_before_its_time_is_not_told() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(29));
    office.hear(over("a"));
    office.until(secs(HOUR));
    assert_eq!(office.told(), [""; 0]);
    assert_eq!(office.book.next_due(&office.plan), None, "nothing is left to do");
}

#[test]
fn what_flaps_within_the_wait_is_told_when_the_wait_is_over() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(10));
    office.hear(over("a"));
    office.until(secs(20));
    office.hear(present("a"));
    office.until(secs(40));
    assert_eq!(office.told(), ["30 slack first +a"]);
}

#[test]
fn what_has_happened_is_told_even_if_it_is_over_by_then() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(happened("a"));
    office.until(secs(2));
    office.hear(over("a"));
    office.until(secs(HOUR));
    assert_eq!(office.told(), ["30 slack first +a", "330 slack all_resolved -a"]);
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn what_has_happened_is_told_on_every_route_that_it_goes() {
    let mut plan = plan(&["slack", "mail"]);
    let mut quick = route(&plan.route, &["pool=default"], "slack");
    (quick.group_wait, quick.continues) = (secs(1), true);
    plan.route.routes = vec![quick.clone(), route(&plan.route, &["pool=default"], "mail")];
    let mut office = Office::new(plan);
    office.hear(happened("a"));
    office.hear(over("a"));
    office.until(secs(HOUR));
    assert_eq!(
        office.told(),
        [
            "1 slack first +a",
            "30 mail first +a",
            "301 slack all_resolved -a",
            "330 mail all_resolved -a"
        ]
    );
}

#[test]
fn new_alerts_and_ends_wait_for_the_interval() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(40));
    office.hear(present("b"));
    office.until(secs(329));
    assert_eq!(office.told(), ["30 slack first +a"]);
    office.until(secs(400));
    office.hear(over("a"));
    office.until(secs(700));
    office.hear(over("b"));
    office.until(secs(HOUR));
    assert_eq!(
        office.told(),
        ["330 slack new_alerts +a +b", "630 slack new_resolved +b -a", "930 slack all_resolved -b"]
    );
}

#[test]
fn what_began_and_ended_between_two_messages_is_not_told() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(40));
    office.hear(present("b"));
    office.until(secs(50));
    office.hear(over("b"));
    office.until(secs(HOUR));
    assert_eq!(office.told(), ["30 slack first +a"]);
}

#[test]
fn a_group_that_still_fires_is_told_again_at_the_first_interval_after_the_repeat_interval() {
    let mut plan = plan(&["slack"]);
    plan.route.repeat_interval = secs(700);
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(2_000));
    assert_eq!(
        office.told(),
        ["30 slack first +a", "930 slack repeat +a", "1830 slack repeat +a"],
        "700 s are rounded up to three intervals"
    );
}

#[test]
fn news_put_the_repetition_off() {
    let mut plan = plan(&["slack"]);
    plan.route.repeat_interval = secs(600);
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(400));
    office.hear(present("b"));
    office.until(secs(1_300));
    assert_eq!(
        office.told(),
        ["30 slack first +a", "630 slack new_alerts +a +b", "1230 slack repeat +a +b"]
    );
}

#[test]
fn a_late_clock_puts_off_and_drops_nothing() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.now = START + secs(1_000);
    office.work();
    office.now = START + secs(100_000);
    office.work();
    assert_eq!(office.told(), ["1000 slack first +a", "100000 slack repeat +a"]);
}

#[test]
fn a_channel_that_wants_no_ends_gets_none_and_hears_of_the_next_beginning() {
    let mut plan = plan(&["slack"]);
    plan.channels.get_mut("slack").expect("slack").send_resolved = false;
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.hear(present("b"));
    office.until(secs(100));
    office.hear(over("a"));
    office.until(secs(700));
    assert_eq!(office.told(), ["30 slack first +a +b"]);
    office.hear(present("a"));
    office.until(secs(1_300));
    assert_eq!(office.told(), ["930 slack new_alerts +a +b"]);
    office.hear(over("a"));
    office.hear(over("b"));
    office.until(secs(2_000));
    assert_eq!(office.told(), [""; 0]);
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn a_group_that_comes_back_begins_anew() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.until(secs(40));
    office.hear(over("a"));
    office.until(secs(400));
    office.hear(present("a"));
    office.until(secs(500));
    assert_eq!(
        office.told(),
        ["30 slack first +a", "330 slack all_resolved -a", "430 slack first +a"]
    );
}

#[test]
fn what_flaps_between_two_messages_is_no_news_but_what_happens_again_is() {
    for (begin, expected) in [
        (present("a"), vec!["30 slack first +a"]),
        (happened("a"), vec!["30 slack first +a", "330 slack new_alerts +a"]),
    ] {
        let mut office = Office::new(plan(&["slack"]));
        office.hear(begin.clone());
        office.until(secs(100));
        office.hear(over("a"));
        office.until(secs(110));
        office.hear(begin);
        office.until(secs(1_000));
        assert_eq!(office.told(), expected);
        office.hear(over("a"));
        office.until(secs(2_000));
        assert_eq!(office.told(), ["1230 slack all_resolved -a"]);
    }
}

#[test]
fn something_that_happened_once_is_over_when_it_does_not_happen_again() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(once("a"));
    office.until(secs(200));
    office.hear(once("a"));
    office.until(secs(499));
    assert_eq!(office.told(), ["30 slack first +a"]);
    assert_eq!(office.book.alerts().filter(|(_, alert)| !alert.is_over()).count(), 1);
    office.until(secs(500));
    assert_eq!(office.book.alerts().filter(|(_, alert)| !alert.is_over()).count(), 0);
    office.until(secs(1_000));
    let (_, last) = office.sent.last().expect("a message");
    assert_eq!((last.notification.count, last.notification.alerts[0].count), (2, 2));
    assert_eq!(office.told(), ["630 slack all_resolved -a"]);
    assert_eq!((office.book.sums().alerts, office.book.sums().deduplicated), (1, 1));
}

#[test]
fn a_rise_in_urgency_is_news_and_a_fall_is_none() {
    let with = |urgency| gpulock::core::alert::Signal { urgency, ..present("a") };
    let mut office = Office::new(plan(&["slack"]));
    office.hear(with(Urgency::P2));
    office.until(secs(100));
    office.hear(with(Urgency::P0));
    office.until(secs(400));
    office.hear(with(Urgency::Info));
    office.until(secs(1_000));
    assert_eq!(office.sent[1].1.notification.urgency(), Urgency::P0);
    assert_eq!(office.told(), ["30 slack first +a", "330 slack new_alerts +a"]);
}

#[test]
fn intervals_of_nothing_do_not_spin() {
    let mut plan = plan(&["slack"]);
    plan.route.group_wait = secs(0);
    plan.route.group_interval = secs(0);
    plan.route.repeat_interval = secs(0);
    plan.channels.get_mut("slack").expect("slack").rate = Rate { messages: 0, per: secs(0) };
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(10));
    assert_eq!(office.told().len(), 11, "once a second");
}

//! Channels that hear of everything that fires again and again.

use gpulock::core::alert::{Rule, Urgency};
use gpulock_alerts::book::RESEND;
use gpulock_alerts::plan::{ChannelPlan, Plan, Rate};

use super::office::*;

fn feeding() -> Plan {
    let mut plan = plan(&["alertmanager"]);
    feed(&mut plan).is_feed = true;
    plan
}

fn feed(plan: &mut Plan) -> &mut ChannelPlan {
    plan.channels.get_mut("alertmanager").expect("a feed")
}

#[test]
fn a_feed_hears_at_once_and_again_while_it_fires() {
    let mut office = Office::new(feeding());
    office.hear(present("a"));
    office.until(secs(150));
    assert_eq!(RESEND, secs(60));
    let told = ["0", "60", "120"].map(|at| format!("{at} alertmanager feed +a"));
    assert_eq!(office.told(), told, "without any wait: Alertmanager has its own");
}

#[test]
fn a_change_is_told_at_once() {
    let mut office = Office::new(feeding());
    office.hear(present("a"));
    office.until(secs(10));
    office.hear(present("b"));
    office.until(secs(30));
    office.hear(over("a"));
    office.until(secs(89));
    assert_eq!(
        office.told(),
        ["0 alertmanager feed +a", "10 alertmanager feed +a +b", "30 alertmanager feed +b -a"]
    );
}

#[test]
fn what_is_over_is_called_off_for_five_minutes() {
    let mut office = Office::new(feeding());
    office.hear(present("a"));
    office.until(secs(10));
    office.hear(over("a"));
    office.until(secs(3_600));
    let told = office.told();
    let times = [10, 70, 130, 190, 250].map(|at| format!("{at} alertmanager feed -a"));
    assert_eq!(told[1..], times);
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn what_a_feed_was_never_told_is_not_called_off() {
    let mut office = Office::new(feeding());
    office.failing.insert("alertmanager".to_owned(), trouble());
    office.hear(present("a"));
    office.until(secs(20));
    office.hear(over("a"));
    office.failing.clear();
    office.told();
    office.until(secs(3_600));
    assert_eq!(office.told(), [""; 0]);
    assert_eq!(office.book.next_due(&office.plan), None, "no busy wait for nothing");
}

#[test]
fn a_feed_that_fails_is_tried_again_and_somebody_is_told() {
    let mut plan = feeding();
    plan.channels.insert("mail".to_owned(), channel());
    plan.route.channels = names(&["alertmanager", "mail"]);
    let mut office = Office::new(plan);
    office.failing.insert("alertmanager".to_owned(), trouble());
    office.hear(present("a"));
    office.until(secs(600));
    let tries = office.sent.iter().filter(|sent| sent.1.channel == "alertmanager").count();
    assert!((10..20).contains(&tries), "{tries}");
    let undelivered = format!("mail first +{}", Rule::UNDELIVERED);
    let told = office.told();
    assert_eq!(told.iter().filter(|told| told.ends_with(&undelivered)).count(), 1, "{told:?}");
    office.failing.clear();
    office.until(secs(700));
    assert!(office.told().iter().any(|told| told.contains("alertmanager feed +a")));
    assert_eq!(office.waiting() + office.dead(), 0, "a feed has no messages that wait");
}

#[test]
fn a_feed_is_told_what_is_urgent_enough_and_goes_its_way() {
    let mut plan = feeding();
    feed(&mut plan).min_urgency = Urgency::P2;
    plan.channels.insert("mail".to_owned(), channel());
    plan.route.routes = vec![route(&plan.route, &["task=b"], "mail")];
    let mut office = Office::new(plan);
    office.hear(gpulock::core::alert::Signal { urgency: Urgency::Info, ..present("low") });
    office.hear(present("b"));
    office.hear(present("c"));
    assert_eq!(office.told(), ["0 alertmanager feed +c"]);
}

#[test]
fn a_feed_keeps_to_its_rate_and_does_not_forget_what_is_new() {
    let mut plan = feeding();
    feed(&mut plan).rate = Rate { messages: 1, per: secs(30) };
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(5));
    office.hear(present("b"));
    office.until(secs(31));
    assert_eq!(office.told(), ["0 alertmanager feed +a", "30 alertmanager feed +a +b"]);
}

#[test]
fn a_feed_beyond_its_budget_does_not_spin() {
    let mut plan = feeding();
    feed(&mut plan).monthly_budget = Some(2);
    let mut office = Office::new(plan);
    office.hear(present("a"));
    office.until(secs(3_600));
    assert_eq!(office.told().len(), 2);
}

#[test]
fn news_that_come_while_a_feed_is_told_are_told_right_after() {
    let mut office = Office::new(feeding());
    office.book.hear([present("a")]);
    office.book.tick(office.now, &office.plan, &office.muted);
    let parcel = office.book.take(office.now, &office.plan, DAEMON).remove(0);
    office.book.hear([present("b")]);
    office.book.tick(office.now, &office.plan, &office.muted);
    assert_eq!(office.book.take(office.now, &office.plan, "another daemon"), []);
    let due = office.book.next_due(&office.plan).expect("it may be dead");
    assert_eq!(due, START + secs(20));
    office.now = START + secs(2);
    office.book.settle(office.now, &parcel.notification.id, Ok(()), secs(2));
    assert!(office.book.next_due(&office.plan) <= Some(office.now));
    office.until(secs(10));
    assert_eq!(office.told(), ["2 alertmanager feed +a +b"]);
}

#[test]
fn a_feed_whose_daemon_died_is_told_again_after_its_time() {
    let mut office = Office::new(feeding());
    office.book.hear([present("a")]);
    office.book.tick(office.now, &office.plan, &office.muted);
    assert_eq!(office.book.take(office.now, &office.plan, "daemon that dies").len(), 1);
    office.until(secs(30));
    assert_eq!(office.told(), ["20 alertmanager feed +a"]);
}

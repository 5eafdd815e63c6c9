//! What becomes of messages: rates, budgets, tries, and messages that are given up.

use gpulock::core::alert::Rule;
use gpulock_alerts::plan::{ChannelPlan, Plan, Rate, Route};
use gpulock_alerts::{Failure, Reason, Status};

use super::office::*;

const HOUR: u64 = 3_600;

/// Every task has a group of its own, and is told at once.
fn each_alone(change: impl Fn(&mut ChannelPlan)) -> Plan {
    let mut plan = plan(&["slack"]);
    plan.route.group_by = names(&[Route::ALL_LABELS]);
    plan.route.group_wait = secs(0);
    change(plan.channels.get_mut("slack").expect("a channel"));
    plan
}

fn hear_many(office: &mut Office, count: u32) {
    office.book.hear((0..count).map(|task| present(&format!("task {task}"))));
    office.work();
}

fn times(office: &Office) -> Vec<u64> {
    office.sent.iter().map(|(at, _)| at.as_secs()).collect()
}

#[test]
fn a_full_bucket_goes_at_once_and_the_rest_as_it_fills() {
    let rate = Rate { messages: 3, per: secs(60) };
    let mut office = Office::new(each_alone(|channel| channel.rate = rate));
    hear_many(&mut office, 6);
    office.until(secs(200));
    assert_eq!(times(&office), [0, 0, 0, 20, 40, 60]);
    assert_eq!(office.waiting(), 0);
    assert_eq!(office.book.sums().channels["slack"].sent, 6);
}

#[test]
fn a_bucket_fills_while_nothing_is_sent_and_no_further() {
    let rate = Rate { messages: 2, per: secs(60) };
    let mut office = Office::new(each_alone(|channel| channel.rate = rate));
    hear_many(&mut office, 2);
    office.until(secs(1_000));
    office.book.hear(["x", "y", "z"].map(present));
    office.until(secs(1_100));
    assert_eq!(times(&office), [0, 0, 1_000, 1_000, 1_030]);
}

#[test]
fn a_budget_is_that_of_a_calendar_month() {
    let mut office = Office::new(each_alone(|channel| channel.monthly_budget = Some(2)));
    office.plan.channels.insert("mail".to_owned(), channel());
    let month = 31 * 24 * HOUR;
    office.now = START + secs(month - 100);
    office.hear(once("a"));
    office.hear(once("b"));
    office.hear(once("c"));
    let told = office.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((office.dead(), office.waiting()), (1, 0));
    let undelivered = office.book.alerts().find(|(_, alert)| alert.name() == Rule::UNDELIVERED);
    let (_, undelivered) = undelivered.expect("somebody is told");
    assert_eq!(undelivered.labels.value("channel"), "slack");
    assert_eq!(office.book.sums().suppressed["budget"], 1);
    office.until(secs(month));
    office.hear(once("d"));
    assert_eq!(office.told().len(), 1, "a new month");
}

#[test]
fn a_message_that_fails_is_tried_again_after_growing_pauses_and_given_up_after_a_day() {
    let mut office = Office::new(each_alone(|_| ()));
    office.plan.route.repeat_interval = secs(100 * HOUR);
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(happened("a"));
    office.until(secs(20 * HOUR));
    let pauses: Vec<_> = times(&office).windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, least) in pauses.iter().zip([5, 10, 20, 40, 80, 160, 320, 600, 600, 600]) {
        assert!((least..=least * 5 / 4).contains(pause), "{pauses:?}");
    }
    assert_eq!((office.waiting(), office.dead()), (1, 0));
    let first = &office.sent[0].1.notification.id;
    assert!(office.sent.iter().all(|sent| sent.1.notification.id == *first), "the same message");
    office.until(secs(25 * HOUR));
    assert_eq!((office.waiting(), office.dead()), (0, 1));
    let letter = &office.book.letter_views()[0];
    assert_eq!((letter.status, letter.failure.as_deref()), ("given_up", Some("serverError")));
    assert_eq!(letter.error.as_deref(), Some("503 Service Unavailable"));
    assert_eq!(letter.tries as usize, office.sent.len());
    let sums = &office.book.sums().channels["slack"];
    assert_eq!((sums.given_up, sums.sent), (1, 0));
    assert_eq!(sums.failed["serverError"] as usize, office.sent.len());
    assert_eq!(sums.requests as usize, office.sent.len());
}

#[test]
fn repetitions_do_not_let_a_dead_channel_pass_for_a_slow_one() {
    let mut office = Office::new(each_alone(|_| ()));
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(happened("a"));
    office.until(secs(26 * HOUR));
    assert_eq!(office.book.sums().channels["slack"].given_up, 1, "in spite of six repetitions");
}

#[test]
fn what_cannot_pass_is_given_up_at_once_and_told_elsewhere() {
    let mut plan = plan(&["slack", "mail"]);
    plan.route.channels = names(&["slack", "mail"]);
    let mut office = Office::new(plan);
    office.failing.insert("slack".to_owned(), wrong());
    office.hear(present("a"));
    office.until(secs(200));
    let undelivered = format!("60 mail first +{}", Rule::UNDELIVERED);
    assert_eq!(office.told(), ["30 mail first +a", "30 slack first +a", &undelivered]);
    assert_eq!(office.dead(), 1);
}

#[test]
fn each_reason_that_may_pass_is_tried_again_and_no_other() {
    for reason in Reason::ALL {
        let mut office = Office::new(each_alone(|_| ()));
        office.failing.insert("slack".to_owned(), Failure::new(reason, "x"));
        office.hear(present("a"));
        office.until(secs(60));
        assert_eq!(office.sent.len() > 1, reason.may_pass(), "{reason:?}");
        assert_eq!(office.dead() == 0, reason.may_pass(), "{reason:?}");
        assert!(office.book.sums().channels["slack"].failed.contains_key(reason.as_str()));
    }
}

#[test]
fn that_nobody_can_be_told_of_undelivered_messages_is_not_told_for_ever() {
    let mut plan = plan(&["slack", "mail"]);
    plan.route.channels = names(&["slack", "mail"]);
    let mut office = Office::new(plan);
    office.failing.insert("slack".to_owned(), wrong());
    office.failing.insert("mail".to_owned(), wrong());
    office.hear(once("a"));
    office.until(secs(2 * HOUR));
    let tries = office.sent.len();
    office.until(secs(200 * HOUR));
    assert_eq!(office.sent.len(), tries, "it comes to rest");
    assert_eq!(office.book.next_due(&office.plan), None);
}

#[test]
fn a_channel_that_wants_a_pause_gets_it_for_all_of_its_messages() {
    let mut office = Office::new(each_alone(|_| ()));
    let busy = Failure::new(Reason::RateLimited, "429").after(Some(secs(100)));
    office.failing.insert("slack".to_owned(), busy);
    hear_many(&mut office, 3);
    office.failing.clear();
    office.until(secs(200));
    assert_eq!(times(&office), [0, 100, 100, 100]);
}

#[test]
fn no_channel_can_ask_for_a_pause_without_end() {
    let mut office = Office::new(each_alone(|_| ()));
    let busy = Failure::new(Reason::RateLimited, "429").after(Some(secs(u64::MAX / 2)));
    office.failing.insert("slack".to_owned(), busy);
    office.hear(present("a"));
    office.failing.clear();
    office.until(secs(2 * HOUR));
    assert_eq!(times(&office), [0, HOUR]);
}

#[test]
fn what_was_given_up_is_sent_again_when_somebody_wants_it() {
    let mut office = Office::new(each_alone(|_| ()));
    office.failing.insert("slack".to_owned(), wrong());
    office.hear(happened("a"));
    office.hear(happened("b"));
    office.failing.clear();
    office.until(secs(100));
    office.told();
    let ids: Vec<_> = office.book.letters().map(|(id, _)| id.to_owned()).collect();
    assert_eq!(office.book.resend(office.now, Some(&ids[0])), Ok(1));
    office.work();
    assert_eq!((office.told().len(), office.dead()), (1, 1));
    assert!(office.book.resend(office.now, Some(&ids[0])).is_err(), "it is delivered");
    assert!(office.book.resend(office.now, Some("x")).is_err());
    assert_eq!(office.book.resend(office.now, None), Ok(1));
    assert_eq!(office.book.resend(office.now, None), Ok(0));
    office.work();
    assert_eq!((office.told().len(), office.dead(), office.waiting()), (1, 0, 0));
}

#[test]
fn messages_of_one_group_that_wait_become_one() {
    let mut office = Office::new(plan(&["slack"]));
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(present("a"));
    office.until(secs(100));
    office.hear(present("b"));
    office.until(secs(400));
    office.hear(present("c"));
    office.until(secs(700));
    assert_eq!(office.waiting(), 1);
    office.failing.clear();
    office.told();
    office.until(secs(1_400));
    let told = office.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("slack new_alerts +a +b +c"), "{told:?}");
}

#[test]
fn the_end_of_something_is_told_even_if_the_message_about_it_was_replaced() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.hear(present("b"));
    office.until(secs(100));
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(over("a"));
    office.until(secs(400));
    office.hear(present("c"));
    office.until(secs(700));
    office.failing.clear();
    office.told();
    office.until(secs(1_400));
    let told = office.told();
    assert!(told[0].ends_with("slack new_alerts +b +c -a"), "{told:?}");
}

#[test]
fn what_happened_and_was_over_while_a_channel_was_down_is_told_in_order() {
    let mut office = Office::new(plan(&["slack"]));
    office.failing.insert("slack".to_owned(), trouble());
    office.hear(happened("a"));
    office.until(secs(100));
    office.hear(over("a"));
    office.until(secs(400));
    office.hear(happened("b"));
    office.until(secs(700));
    office.hear(over("b"));
    office.until(secs(1_000));
    office.hear(happened("c"));
    office.until(secs(1_300));
    assert!(office.waiting() <= 2, "what has happened, and what is so now");
    office.failing.clear();
    office.told();
    office.until(secs(3_000));
    let mut states = std::collections::BTreeMap::<String, Vec<Status>>::new();
    for alert in office.sent.iter().flat_map(|sent| &sent.1.notification.alerts) {
        states.entry(alert.labels.value("task").to_owned()).or_default().push(alert.status);
    }
    use Status::{Firing, Resolved};
    assert_eq!(states["a"], [Firing, Resolved]);
    assert_eq!(states["b"], [Firing, Resolved]);
    assert_eq!(states["c"], [Firing]);
}

#[test]
fn messages_of_one_group_are_delivered_in_their_order() {
    let mut office = Office::new(plan(&["slack"]));
    office.book.hear([present("a")]);
    office.now = START + secs(30);
    office.book.tick(office.now, &office.plan, &office.muted);
    let first = office.book.take(office.now, &office.plan, DAEMON).remove(0).notification;
    // While it is being sent for long, there is more to tell.
    office.book.hear([over("a")]);
    office.now = START + secs(330);
    office.book.tick(office.now, &office.plan, &office.muted);
    office.book.settle(office.now, &first.id, Err(&trouble()), secs(1));
    assert_eq!(office.waiting(), 2);
    office.until(secs(400));
    let told = office.told();
    assert!(told[0].ends_with("first +a") && told[1].ends_with("all_resolved -a"), "{told:?}");
}

#[test]
fn a_channel_has_one_message_at_a_time() {
    let mut office = Office::new(each_alone(|_| ()));
    office.plan.channels.insert("mail".to_owned(), channel());
    office.plan.route.channels = names(&["slack", "mail"]);
    office.book.hear(["a", "b"].map(present));
    office.book.tick(office.now, &office.plan, &office.muted);
    let take = |by: &str, book: &mut gpulock_alerts::book::Book, at: u64| {
        let now = START + secs(at);
        let parcels = book.take(now, &office.plan, by);
        let due = book.next_due(&office.plan);
        assert!(due.is_none_or(|due| due > now), "a look at {due:?} finds nothing to do");
        parcels
    };
    let first = take("daemon 1", &mut office.book, 0);
    assert_eq!(first.iter().map(|p| p.channel.as_str()).collect::<Vec<_>>(), ["mail", "slack"]);
    assert_eq!(take("daemon 2", &mut office.book, 0), []);
    let id = &first[0].notification.id;
    office.book.settle(START + secs(1), id, Ok(()), secs(1));
    let second = take("daemon 2", &mut office.book, 1);
    assert_eq!(second.iter().map(|p| p.channel.as_str()).collect::<Vec<_>>(), ["mail"]);
    assert_ne!(second[0].notification.id, *id);
}

#[test]
fn a_message_whose_daemon_died_is_sent_again_after_its_time_and_not_before() {
    let mut office = Office::new(each_alone(|channel| channel.timeout = secs(10)));
    office.book.hear([present("a")]);
    office.book.tick(office.now, &office.plan, &office.muted);
    let taken = office.book.take(office.now, &office.plan, "daemon that dies");
    assert_eq!(taken.len(), 1);
    let due = office.book.next_due(&office.plan).expect("somebody has to look");
    assert_eq!(due, START + secs(20), "its time-out, and ten seconds");
    office.until(secs(19));
    assert_eq!(office.told(), [""; 0]);
    office.until(secs(30));
    assert_eq!(office.sent[0].1.notification, taken[0].notification, "the very same message");
    assert_eq!(office.told(), ["20 slack first +a"]);
    // The dead one was only slow.
    office.book.settle(office.now, &taken[0].notification.id, Ok(()), secs(25));
    assert_eq!(office.book.sums().channels["slack"].sent, 1);
}

#[test]
fn two_daemons_that_step_one_book_send_each_message_once() {
    let mut office = Office::new(each_alone(|_| ()));
    hear_many(&mut office, 0);
    office.book.hear((0..40).map(|task| present(&format!("task {task}"))));
    let mut sent = std::collections::BTreeMap::<String, u32>::new();
    let mut on_their_way: Vec<String> = Vec::new();
    for turn in 0..200_u32 {
        let now = START + std::time::Duration::from_millis(u64::from(turn) * 100);
        office.book.tick(now, &office.plan, &office.muted);
        let by = format!("daemon {}", turn % 2);
        for parcel in office.book.take(now, &office.plan, &by) {
            *sent.entry(parcel.notification.id.clone()).or_default() += 1;
            on_their_way.push(parcel.notification.id);
        }
        if turn % 3 == 2 {
            for id in on_their_way.drain(..) {
                office.book.settle(now, &id, Ok(()), secs(0));
            }
        }
        office.book.hear([]);
    }
    assert_eq!(sent.len(), 40);
    assert!(sent.values().all(|count| *count == 1), "{sent:?}");
}

#[test]
fn what_a_channel_is_given_up_for_is_not_told_on_that_channel() {
    let mut office = Office::new(each_alone(|_| ()));
    office.failing.insert("slack".to_owned(), wrong());
    office.hear(once("a"));
    office.failing.clear();
    office.until(secs(HOUR));
    assert!(office.sent.iter().all(|sent| sent.1.notification.alerts[0].rule() == LOST));
    assert!(office.book.alerts().any(|(_, alert)| alert.name() == Rule::UNDELIVERED));
}

#[test]
fn too_many_messages_are_given_up_counted_and_told() {
    let mut office = Office::new(each_alone(|_| ()));
    office.plan.channels.insert("mail".to_owned(), channel());
    let mut mail = route(&office.plan.route, &["alertname=GPU_LOCK_ALERT_UNDELIVERED"], "mail");
    mail.group_by = names(&["alertname"]);
    office.plan.route.routes = vec![mail];
    office.failing.insert("slack".to_owned(), trouble());
    hear_many(&mut office, 500);
    assert!(office.waiting() <= 200, "{}", office.waiting());
    assert!(office.dead() <= 100, "{}", office.dead());
    assert!(office.book.sums().channels["slack"].given_up >= 300, "all that were too many");
    let told = office.told();
    assert!(told.iter().any(|told| told.contains("mail first")), "{told:?}");
    let reasons = office.book.letter_views();
    let dead = reasons.iter().filter(|letter| letter.status == "given_up");
    assert!(dead.clone().all(|letter| letter.error.is_some()), "why is known");
}

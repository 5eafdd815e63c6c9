//! What keeps alerts quiet.

use gpulock::core::alert::{Change, Signal, Urgency};
use gpulock_alerts::book::Mute;
use gpulock_alerts::plan::{Inhibition, Plan};

use super::office::*;

const HARD: &str = "GPU_LOCK_HARD_TIMEOUT";
const SOFT: &str = "GPU_LOCK_SOFT_TIMEOUT";
const LONG: &str = "GPU_LOCK_LONG_HELD";

fn inhibition(source: &str, target: &str, equal: &[&str]) -> Inhibition {
    let matcher = |text: &str| vec![text.parse().expect("a matcher")];
    Inhibition { source: matcher(source), target: matcher(target), equal: names(equal) }
}

fn inhibiting(inhibition: Inhibition) -> Plan {
    Plan { inhibitions: vec![inhibition], ..plan(&["slack"]) }
}

fn hard_mutes_soft() -> Plan {
    let source = format!("alertname={HARD}");
    let target = format!("alertname=~\"{SOFT}|{LONG}\"");
    inhibiting(inhibition(&source, &target, &["pool", "gpu", "task"]))
}

fn at(rule: &str, task: &str) -> Signal {
    signal(rule, task, Change::Present)
}

#[test]
fn a_hard_timeout_mutes_soft_timeout_and_warning_of_the_same_lease() {
    let mut office = Office::new(hard_mutes_soft());
    office.hear(at(LONG, "a"));
    office.hear(at(SOFT, "a"));
    office.hear(at(SOFT, "b"));
    office.hear(signal(HARD, "a", Change::Happened { lasts: true }));
    office.until(secs(60));
    let told: Vec<_> =
        office.sent.iter().flat_map(|sent| sent.1.notification.alerts.iter()).collect();
    let told: Vec<_> = told.iter().map(|a| (a.rule(), a.labels.value("task"))).collect();
    assert_eq!(told, [(HARD, "a"), (SOFT, "b")]);
    assert_eq!(office.book.sums().suppressed["inhibit"], 2);
    let muted = |rule| {
        let id = at(rule, "a").labels.fingerprint();
        office.book.mute_of(office.now, &office.plan, &id)
    };
    assert_eq!([LONG, SOFT, HARD].map(muted), [Some(Mute::Inhibit), Some(Mute::Inhibit), None]);
    let views = office.book.view(office.now, &office.plan);
    assert_eq!(views.iter().filter(|view| view.muted_by == Some("inhibit")).count(), 2);
}

#[test]
fn what_was_muted_is_told_when_that_is_over_and_it_still_fires() {
    let mut office = Office::new(hard_mutes_soft());
    office.hear(signal(HARD, "a", Change::Happened { lasts: true }));
    office.hear(at(SOFT, "a"));
    office.until(secs(100));
    office.hear(signal(HARD, "a", Change::Over));
    office.until(secs(400));
    let told = office.told();
    assert_eq!(told, ["30 slack first +a", "330 slack all_resolved -a", "330 slack first +a"]);
}

#[test]
fn what_was_told_before_it_was_muted_is_called_off_when_both_are_over() {
    let mut office = Office::new(hard_mutes_soft());
    office.hear(at(SOFT, "a"));
    office.until(secs(60));
    office.hear(signal(HARD, "a", Change::Happened { lasts: true }));
    office.until(secs(400));
    office.hear(signal(HARD, "a", Change::Over));
    office.hear(signal(SOFT, "a", Change::Over));
    office.until(secs(1_000));
    let ends = office.sent.iter().filter(|sent| sent.1.notification.reason == "all_resolved");
    let mut rules: Vec<_> = ends.map(|sent| sent.1.notification.alerts[0].rule()).collect();
    rules.sort_unstable();
    assert_eq!(rules, [HARD, SOFT]);
}

#[test]
fn alerts_on_both_sides_do_not_mute_each_other_but_a_source_alone_mutes_them() {
    let both = inhibition("severity=~\"P0|P1\"", "severity=~\"P1|P2\"", &["pool"]);
    let with = |urgency, task| Signal { urgency, ..present(task) };
    let mut office = Office::new(inhibiting(both));
    office.hear(with(Urgency::P1, "a"));
    office.hear(with(Urgency::P1, "b"));
    office.hear(with(Urgency::P2, "c"));
    office.until(secs(60));
    assert_eq!(office.told(), ["30 slack first +a +b"]);
    let mut office = Office::new(office.plan);
    office.hear(with(Urgency::P1, "a"));
    office.hear(with(Urgency::P0, "z"));
    office.until(secs(60));
    assert_eq!(office.told(), ["30 slack first +z"]);
}

#[test]
fn labels_that_both_lack_are_equal() {
    let mut office = Office::new(inhibiting(inhibition("task=a", "task=b", &["gpu", "pool"])));
    office.hear(present("a"));
    office.hear(present("b"));
    let labels = present("b").labels.with("gpu", "1");
    office.hear(Signal { labels, ..present("b") });
    office.until(secs(60));
    let gpus = office.sent[0].1.notification.alerts.iter().map(|alert| alert.labels.value("gpu"));
    assert_eq!(gpus.collect::<Vec<_>>(), ["", "1"]);
    assert_eq!(office.told(), ["30 slack first +a +b"]);
}

#[test]
fn a_silence_counts_from_its_beginning_to_its_end() {
    let mut office = Office::new(plan(&["slack"]));
    office.silence("quiet", "task=~\"a.*\"", 100, 700);
    office.hear(present("a1"));
    office.until(secs(90));
    assert_eq!(office.told(), ["30 slack first +a1"], "it is to come");
    office.until(secs(110));
    office.hear(present("a2"));
    office.hear(present("b"));
    office.until(secs(400));
    assert_eq!(office.told(), ["330 slack new_alerts +b"]);
    let id = present("a2").labels.fingerprint();
    assert_eq!(office.book.mute_of(office.now, &office.plan, &id), Some(Mute::Silence));
    office.until(secs(1_000));
    assert_eq!(
        office.told(),
        ["930 slack new_alerts +a1 +a2 +b"],
        "it is over, and they still fire"
    );
    assert_eq!(office.book.sums().suppressed["silence"], 4);
}

#[test]
fn what_ends_while_it_is_silenced_is_not_told_and_its_next_time_is() {
    let mut office = Office::new(plan(&["slack"]));
    office.hear(present("a"));
    office.hear(present("b"));
    office.until(secs(60));
    office.silence("quiet", "task=a", 60, 400);
    office.hear(over("a"));
    office.until(secs(500));
    assert_eq!(office.told(), ["30 slack first +a +b"]);
    office.hear(present("a"));
    office.until(secs(1_000));
    assert_eq!(office.told(), ["630 slack new_alerts +a +b"]);
}

#[test]
fn a_silence_is_ended_by_the_beginning_of_its_id_if_only_one_begins_like_that() {
    let mut office = Office::new(plan(&["slack"]));
    office.silence("abc1", "task=a", 0, 10_000);
    assert!(office.book.end_silence(office.now, "").is_err(), "nothing names nothing");
    office.silence("abd2", "task=a", 5_000, 10_000);
    for wrong in ["", "x", "ab", "abc12"] {
        assert!(office.book.end_silence(office.now, wrong).is_err(), "{wrong}");
    }
    office.now = START + secs(10);
    assert_eq!(office.book.end_silence(office.now, "abc").as_deref(), Ok("abc1"));
    assert_eq!(office.book.end_silence(office.now, "abd2").as_deref(), Ok("abd2"));
    let ends: Vec<_> = office.book.silences().map(|(_, silence)| silence.ends_at).collect();
    assert_eq!(ends, [START + secs(10), START + secs(10)]);
    assert!(office.book.silences().all(|(_, silence)| !silence.is_active(office.now)));
    office.until(secs(23 * 3_600));
    assert_eq!(office.book.silences().count(), 2, "for a day it can still be seen");
    office.until(secs(25 * 3_600));
    assert_eq!(office.book.silences().count(), 0);
}

#[test]
fn in_a_window_of_quiet_nobody_is_told_until_it_is_over() {
    let mut plan = plan(&["slack"]);
    plan.route.mute_times = names(&["nights"]);
    let mut office = Office::new(plan);
    office.muted = ["nights".to_owned()].into();
    office.hear(present("a"));
    office.hear(happened("b"));
    office.until(secs(100));
    office.hear(over("b"));
    office.until(secs(400));
    assert_eq!(office.told(), [""; 0]);
    assert_eq!(office.book.sums().suppressed["mute_time"], 3);
    office.muted.clear();
    office.until(secs(1_000));
    assert_eq!(office.told(), ["630 slack first +a"], "what was over by then is not told");
}

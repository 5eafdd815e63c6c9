//! `gpulock alerts`: a book that the test fills, and what people and programs make of it.

mod channels;
mod words;

use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Change, Labels, Signal, Urgency};
use gpulock_alerts::book::Book;
use gpulock_alerts::{Alerting, Desk, Failure, Reason};
use insta::internals::SettingsBindDropGuard;

use super::scene::Scene;

/// One that nobody can reach, so that messages fail.
pub(super) const UNREACHABLE: &str = "alerts:
  channels:
    ops: {webhook: {url: 'http://127.0.0.1:9/'}, allow_private: true}
  route: {group_wait: 0}
";

/// Takes spans out of a conversation.
fn filters() -> SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    settings.add_filter(&format!("tester@{host}"), "tester@HOST");
    settings.add_filter(r"\b[0-9]+[dhm] ([0-9]+[hms]|SPAN)\b", "SPAN");
    settings.add_filter(r"\b[0-9]+s\b", "SPAN");
    settings.add_filter(r"\b[0-9a-f]{13}-[0-9]+\b", "MESSAGE");
    settings.add_filter(r"\bsilence [0-9a-f]{8}\b", "silence ID");
    settings.bind_to_scope()
}

/// Changes the book of the scene's store.
fn step<A>(scene: &Scene, change: impl FnMut(&mut Book, Time) -> A) -> A {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = gpulock::connect(&scene.store_url()).unwrap();
        Desk::new(store).step(change).await.unwrap()
    })
}

fn signal(name: &str, task: &str, urgency: Urgency, change: Change) -> Signal {
    let pool = if name == "MONITOR_SERVICE_DOWN" { "" } else { "default" };
    let gpu = if pool.is_empty() { "" } else { "0" };
    Signal {
        labels: [(Labels::RULE, name), ("pool", pool), ("gpu", gpu), ("task", task)]
            .into_iter()
            .collect(),
        urgency,
        facts: [("host".to_owned(), "gpu1".to_owned())].into(),
        at: Time::default(),
        change,
    }
}

/// Lets alerts begin a minute and a half ago.
pub(super) fn hear(scene: &Scene, signals: &[Signal]) {
    step(scene, |book, now| {
        let at = Time::from_micros(now.as_micros() - 90_000_000);
        book.hear(signals.iter().map(|signal| Signal { at, ..signal.clone() }));
    });
}

pub(super) fn hung() -> Signal {
    let change = Change::Happened { lasts: true };
    signal("GPU_LOCK_HARD_TIMEOUT", "ocr", Urgency::P1, change)
}

pub(super) fn overdue() -> Signal {
    signal("GPU_LOCK_LONG_HELD", "ocr", Urgency::Warning, Change::Present)
}

pub(super) fn lost() -> Signal {
    signal("GPU_LOCK_HOLDER_LOST", "asr", Urgency::P2, Change::Happened { lasts: false })
}

fn monitor_down() -> Signal {
    signal("MONITOR_SERVICE_DOWN", "", Urgency::P1, Change::Happened { lasts: false })
}

pub(super) fn id(signal: &Signal) -> String {
    signal.labels.fingerprint().to_string()
}

/// Posts a message about an alert, and lets the channel refuse it for good.
pub(super) fn give_up(scene: &Scene, signal: &Signal) {
    let sources = gpulock::config::Sources {
        folder: Some(scene.path("")),
        ..gpulock::config::Sources::default()
    };
    let config = gpulock::config::Config::load(&sources).unwrap().config;
    let plan = Alerting::load(&config).unwrap().unwrap().plan;
    hear(scene, std::slice::from_ref(signal));
    step(scene, |book, now| {
        book.tick(now, &plan, &std::collections::BTreeSet::new());
        let parcels = book.take(now, &plan, "a daemon");
        assert_eq!(parcels.len(), 1, "{parcels:?}");
        let failure = Failure::new(Reason::AuthError, "401: no such\ntoken");
        let outcome = Err(&failure);
        book.settle(now, &parcels[0].notification.id, outcome, Duration::from_millis(20));
    });
}

#[test]
fn where_nothing_fires_that_is_said_and_who_would_find_out() {
    let scene = Scene::new();
    let _filters = filters();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list"]).told(), @"
    exit code 0
    --- stderr
    gpulock: no alert fires
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    warning: nobody is told of alerts: the configuration has no channels

    hint: add alerts.channels to config.yml; see docs/guides/alerts.md
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list", "--json"]).told(), @"
    exit code 0
    --- stdout
    []
    ");
}

#[test]
fn the_most_urgent_comes_first_and_each_one_says_who_has_it_in_hand() {
    let scene = Scene::with_config(UNREACHABLE);
    let _filters = filters();
    hear(&scene, &[overdue(), lost(), lost(), hung(), monitor_down()]);
    let ack = ["alerts", "ack", &id(&hung())[..8], "--by", "alice", "--note", "on it"];
    scene.gpulock(&ack).expect(0);
    scene.gpulock(&["alerts", "silence", "task=asr", "--for", "1h"]).expect(0);
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list"]).told(), @"
    exit code 0
    --- stdout
    LEVEL  ID  ALERT  WHERE  FOR  COUNT  STATE
    P1  a2912b46  GPU_LOCK_HARD_TIMEOUT  default GPU 0 ocr  SPAN  1  acknowledged by alice
      A GPU was held past the hard timeout.
    P1  fc06cade  MONITOR_SERVICE_DOWN  host gpu1  SPAN  1  firing
      The monitor that acted was lost, and another has taken over.
    P2  f22eb54c  GPU_LOCK_HOLDER_LOST  default GPU 0 asr  SPAN  2  silenced
      A task died or went silent while it held a GPU.
    warning  4f9e9f45  GPU_LOCK_LONG_HELD  default GPU 0 ocr  SPAN  1  muted by another
      A GPU is held for longer than usual.
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list", "--level", "P1"]).told(), @"
    exit code 0
    --- stdout
    LEVEL  ID  ALERT  WHERE  FOR  COUNT  STATE
    P1  a2912b46  GPU_LOCK_HARD_TIMEOUT  default GPU 0 ocr  SPAN  1  acknowledged by alice
      A GPU was held past the hard timeout.
    P1  fc06cade  MONITOR_SERVICE_DOWN  host gpu1  SPAN  1  firing
      The monitor that acted was lost, and another has taken over.
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list", "--pool", "lab"]).told(), @"
    exit code 0
    --- stdout
    LEVEL  ID  ALERT  WHERE  FOR  COUNT  STATE
    P1  fc06cade  MONITOR_SERVICE_DOWN  host gpu1  SPAN  1  firing
      The monitor that acted was lost, and another has taken over.
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
}

#[test]
fn what_is_over_is_shown_to_those_who_ask_for_all() {
    let scene = Scene::with_config(UNREACHABLE);
    let _filters = filters();
    hear(&scene, &[overdue()]);
    hear(&scene, &[Signal { change: Change::Over, ..overdue() }]);
    let none = scene.gpulock(&["alerts", "list"]).expect(0);
    assert!(none.stderr.starts_with("gpulock: no alert fires\n"), "{none:?}");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "list", "--all"]).told(), @"
    exit code 0
    --- stdout
    LEVEL  ID  ALERT  WHERE  FOR  COUNT  STATE
    warning  4f9e9f45  GPU_LOCK_LONG_HELD  default GPU 0 ocr  SPAN  1  resolved SPAN ago
      A GPU is held for longer than usual.
    --- stderr
    warning: no daemon acts on this store: nothing new is found, and no message is sent

    hint: `gpulock serve` starts one
    ");
}

#[test]
fn json_has_stable_names_and_no_advice() {
    let scene = Scene::new();
    hear(&scene, &[hung()]);
    let told = scene.gpulock(&["alerts", "list", "--json"]).expect(0);
    assert_eq!(told.stderr, "");
    let alerts: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let names: Vec<_> = alerts[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "acknowledged",
        "began_at",
        "climbed",
        "count",
        "description",
        "ended_at",
        "facts",
        "gpu",
        "id",
        "labels",
        "last_at",
        "level",
        "muted_by",
        "name",
        "pool",
        "status",
        "summary",
        "task",
    ];
    assert_eq!(names, expected);
    assert_eq!((&alerts[0]["level"], &alerts[0]["status"]), (&"P1".into(), &"firing".into()));
}

#[test]
fn who_may_not_read_the_secrets_of_channels_sees_what_fires() {
    let slack = |url: &str| format!("alerts: {{channels: {{ops: {{slack: {{url: '{url}'}}}}}}}}\n");
    let scene = Scene::with_config(&slack("@/nobody/may/read"));
    hear(&scene, &[hung()]);
    let listed = scene.gpulock(&["alerts", "list"]).expect(0);
    assert!(listed.stdout.contains("GPU_LOCK_HARD_TIMEOUT"), "{listed:?}");
    assert!(!listed.stderr.contains("/nobody/may/read"), "{listed:?}");
    let route = scene.gpulock(&["alerts", "route", "GPU_LOCK_ZOMBIE"]).expect(0);
    assert!(route.stdout.contains("ops"), "{route:?}");
    let test = scene.gpulock(&["alerts", "test", "ops"]).expect(65);
    assert!(test.stderr.contains("/nobody/may/read cannot be read"), "{test:?}");
    assert!(test.stderr.contains("allowed to read the files"), "{test:?}");
    scene.write("config.yml", slack("${NOT_SET_HERE}"));
    let listed = scene.gpulock(&["alerts", "list"]).expect(0);
    assert!(listed.stdout.contains("GPU_LOCK_HARD_TIMEOUT"), "{listed:?}");
    assert!(listed.stderr.contains("NOT_SET_HERE"), "{listed:?}");
}

#[test]
fn words_of_others_stay_in_their_line() {
    let scene = Scene::new();
    let mut raised = signal("disk_full", "ocr", Urgency::P2, Change::Happened { lasts: false });
    raised.facts.insert("message".to_owned(), format!("a\u{1b}[31m\nb {}", "x".repeat(500)));
    hear(&scene, &[raised]);
    let told = scene.gpulock(&["alerts", "list"]).expect(0);
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{told:?}");
    assert!(lines[2].starts_with("    a\u{fffd}[31m b xxx") && lines[2].ends_with('…'), "{told:?}");
    assert!(lines[2].chars().count() < 220, "{told:?}");
}

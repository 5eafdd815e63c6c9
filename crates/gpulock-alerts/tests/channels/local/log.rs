//! The log, as a program that reads it line by line sees it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use gpulock::core::alert::Labels;
use gpulock_alerts::channels::log::Settings;
use gpulock_alerts::{Notification, Status};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{around, notification, send, settings, text};

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'p> MakeWriter<'p> for Paper {
    type Writer = Self;

    fn make_writer(&'p self) -> Self {
        self.clone()
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What the log says about a message, as text or as JSON.
fn logged(notification: &Notification, title: &str, as_json: bool) -> String {
    let paper = Paper::default();
    let to = paper.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(to).with_ansi(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = settings::<Settings>(json!({})).open(&around("log")).unwrap();
    let title = text(title, "body");
    let sending = async { send(&log, notification, &title).await.unwrap() };
    match as_json {
        true => tracing::subscriber::with_default(subscriber.json().finish(), || {
            runtime.block_on(sending);
        }),
        false => tracing::subscriber::with_default(subscriber.finish(), || {
            runtime.block_on(sending);
        }),
    }
    paper.text()
}

fn of_severity(severity: &str) -> Notification {
    let mut notification = notification("1");
    for labels in [&mut notification.common_labels, &mut notification.alerts[0].labels] {
        labels.set(Labels::SEVERITY, severity);
    }
    notification
}

#[test]
fn the_level_says_how_urgent_it_is() {
    let expected =
        [("P0", "ERROR"), ("P1", "ERROR"), ("P2", "WARN"), ("warning", "WARN"), ("info", "INFO")];
    for (severity, level) in expected {
        let line = logged(&of_severity(severity), "GPU 0 is stuck", false);
        assert!(line.contains(&format!(" {level} gpulock::alerts: GPU 0 is stuck ")), "{line}");
        assert!(line.contains(&format!("severity=\"{severity}\"")), "{line}");
    }
    let mut over = of_severity("P0");
    over.status = Status::Resolved;
    let line = logged(&over, "over", false);
    assert!(line.contains(" INFO ") && line.contains("status=\"resolved\""), "{line}");
}

#[test]
fn facts_are_fields() {
    let line: Value = serde_json::from_str(&logged(&of_severity("P1"), "title", true)).unwrap();
    assert_eq!((&line["level"], &line["target"]), (&json!("ERROR"), &json!("gpulock::alerts")));
    let fields = &line["fields"];
    let rule = json!("gpu_lock_critical_failure");
    assert_eq!((&fields["message"], &fields["rule"]), (&json!("title"), &rule));
    assert_eq!((&fields["pool"], &fields["gpu"]), (&json!("lab"), &json!("0")));
    assert_eq!((&fields["task"], &fields["count"]), (&json!("transcribe"), &json!(1)));
    let mut several = of_severity("P1");
    several.common_labels.set("task", "");
    let line: Value = serde_json::from_str(&logged(&several, "title", true)).unwrap();
    assert_eq!(line["fields"].get("task"), None, "they differ in it");
}

#[test]
fn nobody_can_forge_a_line() {
    let mut notification = of_severity("P0");
    let forged = "x\n2026-11-21T00:00:00Z ERROR gpulock: forged\r\u{2028}\u{85}\u{1b}[31m";
    notification.common_labels.set("task", forged);
    let lines = logged(&notification, forged, false);
    assert_eq!(lines.matches('\n').count(), 1, "{lines:?}");
    assert!(lines.ends_with('\n') && !lines.contains(['\r', '\u{2028}', '\u{85}', '\u{1b}']));
    assert!(lines.contains(r"x\n2026-11-21T00:00:00Z ERROR gpulock: forged\r"), "{lines}");
}

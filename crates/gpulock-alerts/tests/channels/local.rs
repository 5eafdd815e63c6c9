//! E-mail, commands, files, the log.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod command;
mod email;
mod file;
mod log;
mod smtp;

use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::Labels;
use gpulock_alerts::channels::Around;
use gpulock_alerts::http::Poster;
use gpulock_alerts::{Channel, Failure, Message, Notification, NotifiedAlert, Status, Text};
use serde_json::{Value, json};

/// What is around a channel of this name.
fn around(name: &str) -> Around {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let poster = Poster::new(Duration::from_secs(60), true).unwrap();
    Around { name: name.to_owned(), poster }
}

/// Settings as the configuration has them.
fn settings<S: serde::de::DeserializeOwned>(settings: Value) -> S {
    serde_json::from_value(settings).unwrap()
}

/// A message about one zombie.
fn notification(id: &str) -> Notification {
    let labels: Labels = [
        (Labels::RULE, "gpu_lock_critical_failure"),
        (Labels::SEVERITY, "P0"),
        ("pool", "lab"),
        ("gpu", "0"),
        ("task", "transcribe"),
    ]
    .into_iter()
    .collect();
    let alert = NotifiedAlert {
        status: Status::Firing,
        annotations: [("summary".to_owned(), "A release is missing.".to_owned())].into(),
        starts_at: Time::from_micros(1_795_266_000_000_000),
        ends_at: None,
        generator_url: String::new(),
        fingerprint: labels.fingerprint(),
        count: 1,
        labels: labels.clone(),
    };
    Notification {
        id: id.to_owned(),
        version: "4",
        group_key: "pool=lab".to_owned(),
        truncated_alerts: 0,
        status: Status::Firing,
        receiver: "team".to_owned(),
        group_labels: labels.only(&["pool"]),
        common_labels: labels,
        common_annotations: [].into(),
        external_url: String::new(),
        reason: "first".to_owned(),
        alerts: vec![alert],
        count: 1,
    }
}

fn text(title: &str, body: &str) -> Text {
    Text { title: title.to_owned(), body: body.to_owned() }
}

/// Sends, with a bound that no test reaches.
async fn send(
    channel: &dyn Channel,
    notification: &Notification,
    text: &Text,
) -> Result<(), Failure> {
    let message = Message { notification, text };
    tokio::time::timeout(Duration::from_secs(60), channel.send(&message)).await.unwrap()
}

/// The fields of the body that Alertmanager sends.
fn assert_is_alertmanagers(body: &Value) {
    assert_eq!(body["version"], "4");
    assert_eq!(body["groupKey"], "pool=lab");
    assert_eq!(body["status"], "firing");
    assert_eq!(body["commonLabels"]["task"], "transcribe");
    assert_eq!(body["alerts"][0]["labels"]["severity"], json!("P0"));
    assert_eq!(body["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
}

//! Notifications of all kinds, against which the users' own templates are tried when they are
//! loaded: what is missing in one of them will be missing some night.

use std::collections::BTreeMap;

use gpulock::core::Time;
use gpulock::core::alert::{Labels, Urgency};

use crate::notification::{Notification, NotifiedAlert, Status};

/// 2026-11-21T13:00:00Z.
const BEGAN: Time = Time::from_micros(1_795_266_000_000_000);

/// When the samples are told.
pub(super) const NOW: Time = Time::from_micros(1_795_266_000_000_000 + 754_000_000);

/// A notification of each kind.
pub(super) fn all() -> Vec<Notification> {
    let lost = || alert("GPU_LOCK_HOLDER_LOST", Urgency::P2, "train-7", FACTS);
    let resolved = || NotifiedAlert { status: Status::Resolved, ends_at: Some(NOW), ..lost() };
    let raised = alert("my_own_alert", Urgency::Info, "", &[("message", "Something is odd.")]);
    let bare = NotifiedAlert {
        labels: Labels::default().with(Labels::RULE, "GPU_LOCK_STORE_UNREACHABLE"),
        annotations: BTreeMap::new(),
        ..alert("", Urgency::P0, "", &[])
    };
    let mut many: Vec<_> = (0..25)
        .map(|n| alert("GPU_LOCK_ZOMBIE", Urgency::Warning, &format!("t-{n}"), &[]))
        .collect();
    many.push(resolved());
    let mut with_links = notification("first", vec![lost()]);
    with_links.external_url = "https://gpu1.example.org:8788".to_owned();
    vec![
        with_links,
        notification("all_resolved", vec![resolved()]),
        Notification { truncated_alerts: 10, ..notification("new_alerts", many) },
        notification("escalation", vec![raised, bare.clone()]),
        Notification { group_labels: Labels::default(), ..notification("test", vec![bare]) },
    ]
}

const FACTS: &[(&str, &str)] = &[
    ("cause", "its process died"),
    ("description", "What that means, and what to do."),
    ("held_seconds", "754"),
    ("host", "gpu1"),
    ("lease_id", "0123456789abcdef0123456789abcdef"),
    ("pid", "4242"),
    ("runbook_url", "https://example.org/runbook#lost"),
    ("summary", "A task died."),
];

fn alert(rule: &str, urgency: Urgency, task: &str, facts: &[(&str, &str)]) -> NotifiedAlert {
    let labels = Labels::default()
        .with(Labels::RULE, rule)
        .with(Labels::SEVERITY, urgency.as_str())
        .with("pool", "default")
        .with("gpu", if task.is_empty() { "" } else { "0" })
        .with("task", task);
    NotifiedAlert {
        status: Status::Firing,
        fingerprint: labels.fingerprint(),
        labels,
        annotations: facts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        starts_at: BEGAN,
        ends_at: None,
        generator_url: String::new(),
        count: 3,
    }
}

/// A message about these alerts.
pub(super) fn notification(reason: &str, alerts: Vec<NotifiedAlert>) -> Notification {
    let is_firing = alerts.iter().any(|alert| alert.status == Status::Firing);
    Notification {
        id: "sample".to_owned(),
        version: "4",
        group_key: "{}:{alertname=\"sample\"}".to_owned(),
        truncated_alerts: 0,
        status: if is_firing { Status::Firing } else { Status::Resolved },
        receiver: "sample".to_owned(),
        group_labels: Labels::common(alerts.iter().map(|alert| &alert.labels))
            .only(&[Labels::RULE, "pool"]),
        common_labels: Labels::common(alerts.iter().map(|alert| &alert.labels)),
        common_annotations: BTreeMap::new(),
        external_url: String::new(),
        reason: reason.to_owned(),
        count: alerts.iter().map(|alert| alert.count).sum(),
        alerts,
    }
}

//! What is told in one message.

use std::collections::BTreeMap;

use gpulock::core::Time;
use gpulock::core::alert::{Fingerprint, Labels, Urgency};
use serde::{Deserialize, Serialize, Serializer};

/// What is told in one message. As JSON it is the body, version 4, that Alertmanager sends to
/// webhooks, so every receiver of those understands it
/// (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Names the message; the same at every try to send it.
    #[serde(skip)]
    pub id: String,
    /// Always `4`.
    pub version: &'static str,
    /// Names the group of alerts; the same in all messages about it.
    pub group_key: String,
    /// How many alerts of the group are left out of `alerts` to keep the message small.
    pub truncated_alerts: usize,
    /// Resolved if all of its alerts are.
    pub status: Status,
    /// The channel.
    pub receiver: String,
    /// The labels by which the group was made.
    pub group_labels: Labels,
    /// Labels that all of its alerts have.
    pub common_labels: Labels,
    /// Annotations that all of its alerts have.
    pub common_annotations: BTreeMap<String, String>,
    /// Where gpulock's own pages are; empty if nobody has said.
    #[serde(rename = "externalURL")]
    pub external_url: String,
    /// Why it is sent now: `first`, `new_alerts`, `new_resolved`, `all_resolved`, `repeat`,
    /// `escalation`, `test`.
    #[serde(rename = "notification_reason")]
    pub reason: String,
    /// The alerts, those that fire first, the most urgent first.
    pub alerts: Vec<NotifiedAlert>,
    /// How often all of its alerts have happened, also those that are left out.
    #[serde(skip)]
    pub count: u64,
}

/// One alert in a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifiedAlert {
    /// Whether it is over.
    pub status: Status,
    /// What tells it from others, with `alertname` and `severity`.
    pub labels: Labels,
    /// `summary`, `description`, `runbook_url` and facts such as `lease_id`, `host`, `pid`.
    pub annotations: BTreeMap<String, String>,
    /// When it began.
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub starts_at: Time,
    /// When it ended; `0001-01-01T00:00:00Z` (Go's zero) while it has not.
    #[serde(serialize_with = "rfc3339_or_zero", deserialize_with = "from_rfc3339_or_zero")]
    pub ends_at: Option<Time>,
    /// Where it can be seen; empty if nobody has said where gpulock's pages are.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
    /// Names it.
    pub fingerprint: Fingerprint,
    /// How often it has happened since it began.
    pub count: u64,
}

/// Whether something is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is not.
    Firing,
    /// It is.
    Resolved,
}

impl Notification {
    /// Those that fire.
    pub fn firing(&self) -> impl Iterator<Item = &NotifiedAlert> {
        self.alerts.iter().filter(|alert| alert.status == Status::Firing)
    }

    /// Those that are over.
    pub fn resolved(&self) -> impl Iterator<Item = &NotifiedAlert> {
        self.alerts.iter().filter(|alert| alert.status == Status::Resolved)
    }

    /// How urgent the most urgent alert is.
    pub fn urgency(&self) -> Urgency {
        self.alerts.iter().map(NotifiedAlert::urgency).max().unwrap_or(Urgency::Info)
    }
}

impl NotifiedAlert {
    /// The rule.
    pub fn rule(&self) -> &str {
        self.labels.value(Labels::RULE)
    }

    /// How urgent it is.
    pub fn urgency(&self) -> Urgency {
        self.labels.value(Labels::SEVERITY).parse().unwrap_or(Urgency::Warning)
    }

    /// An annotation; empty if there is none.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }
}

const ZERO: &str = "0001-01-01T00:00:00Z";

/// `2026-11-21T13:00:00.000Z`.
pub(crate) fn timestamp(time: Time) -> String {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(moment) => format!("{moment:.3}"),
        Err(_) => ZERO.to_owned(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn rfc3339<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

#[expect(clippy::ref_option, reason = "serde wants a reference")]
fn rfc3339_or_zero<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.map_or_else(|| ZERO.to_owned(), timestamp))
}

fn from_rfc3339<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    from_rfc3339_or_zero(deserializer).map(Option::unwrap_or_default)
}

fn from_rfc3339_or_zero<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Time>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok(u64::try_from(moment.as_microsecond()).ok().map(Time::from_micros))
}

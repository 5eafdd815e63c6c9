//! What a template sees: the notification as its JSON has it, and what saves templates from
//! computing.

use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{self, Labels};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::words::Words;
use super::zh;
use crate::config::Language;
use crate::notification::{Notification, NotifiedAlert, Status};

/// Names at the top besides those of the notification itself.
pub(super) const NAMES: &[&str] = &[
    "count", "firing", "language", "more", "place", "resolved", "rules", "severity", "total",
    "words",
];

/// Names of an alert besides those of the notification itself.
pub(super) const ALERT_NAMES: &[&str] = &[
    "description",
    "facts",
    "is_first_of_rule",
    "lasted",
    "place",
    "rule",
    "runbook_url",
    "severity",
    "since",
    "summary",
];

/// Facts in this order, all others behind them.
const ORDER: [&str; 9] =
    ["pool", "gpu", "task", "message", "host", "pid", "lease_id", "held_seconds", "cause"];

/// Annotations that have a place of their own.
const APART: [&str; 3] = ["summary", "description", "runbook_url"];

/// How a message is told.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub(super) language: Language,
    /// Times are those of this zone.
    pub(super) zone: TimeZone,
}

/// What happened, and what that means and what to do, in the catalogue's words.
pub(crate) fn catalogued(rule: &str, language: Language) -> Option<(&'static str, &'static str)> {
    match language {
        Language::En => alert::rule(rule).map(|rule| (rule.summary, rule.description)),
        Language::Zh => {
            let row = zh::RULES.iter().find(|(name, _, _)| *name == rule);
            row.map(|(_, summary, description)| (*summary, *description))
        }
    }
}

impl Voice {
    /// What a template sees of the notification.
    pub(super) fn context(&self, notification: &Notification, now: Time) -> Value {
        let mut rules: Vec<&str> = Vec::new();
        let mut alerts = Vec::new();
        for alert in &notification.alerts {
            let is_first = !rules.contains(&alert.rule());
            if is_first {
                rules.push(alert.rule());
            }
            alerts.push(self.alert(alert, is_first, now));
        }
        let with = |status: &str| -> Vec<Value> {
            alerts.iter().filter(|alert| alert["status"] == status).cloned().collect()
        };
        let more = notification.truncated_alerts;
        let ours = json!({
            "count": notification.count,
            "firing": with("firing"),
            "language": self.language_name(),
            "more": more,
            "place": self.place(&notification.group_labels),
            "resolved": with("resolved"),
            "rules": rules,
            "severity": notification.urgency(),
            "total": notification.alerts.len() + more,
            "words": Words::of(self.language),
            "alerts": alerts,
        });
        merged(serde_json::to_value(notification).unwrap_or_default(), ours)
    }

    fn alert(&self, alert: &NotifiedAlert, is_first_of_rule: bool, now: Time) -> Value {
        let (summary, description) = self.told(alert);
        let ends = alert.ends_at.filter(|_| alert.status == Status::Resolved).unwrap_or(now);
        let ours = json!({
            "description": description,
            "facts": self.facts(alert),
            "is_first_of_rule": is_first_of_rule,
            "lasted": Words::of(self.language).span(ends.since(alert.starts_at)),
            "place": self.place(&alert.labels),
            "rule": alert.rule(),
            "runbook_url": alert.annotation("runbook_url"),
            "severity": alert.urgency(),
            "since": self.moment(alert.starts_at),
            "summary": summary,
        });
        merged(serde_json::to_value(alert).unwrap_or_default(), ours)
    }

    /// What has happened, and what to do: in the words of the catalogue, or the alert's own.
    fn told(&self, alert: &NotifiedAlert) -> (String, String) {
        let own = |name| Some(alert.annotation(name)).filter(|text| !text.trim().is_empty());
        let known = catalogued(alert.rule(), self.language);
        let is_ours = |text: Option<&str>, english: &str| text.is_none_or(|text| text == english);
        let english = catalogued(alert.rule(), Language::En).unwrap_or_default();
        let summary = match known {
            Some((summary, _)) if is_ours(own("summary"), english.0) => summary,
            _ => own("summary").or(own("message")).unwrap_or_else(|| alert.rule()),
        };
        let description = match known {
            Some((_, description)) if is_ours(own("description"), english.1) => description,
            _ => own("description").unwrap_or_default(),
        };
        (summary.to_owned(), description.to_owned())
    }

    /// What else is known, each with its name.
    fn facts(&self, alert: &NotifiedAlert) -> Vec<Value> {
        let labels = alert.labels.iter();
        let labels = labels.filter(|(name, _)| ![Labels::RULE, Labels::SEVERITY].contains(name));
        let annotations = alert.annotations.iter().map(|(name, value)| (&**name, &**value));
        let annotations = annotations.filter(|(name, _)| !APART.contains(name));
        let is_summary = |name: &str, value: &str| name == "message" && value == self.told(alert).0;
        let mut facts: Vec<_> = labels
            .chain(annotations)
            .filter(|(name, value)| !value.trim().is_empty() && !is_summary(name, value))
            .collect();
        facts.sort_by_key(|(name, _)| {
            ORDER.iter().position(|one| one == name).unwrap_or(ORDER.len())
        });
        let fact = |(name, value): (&str, &str)| {
            let key = name;
            let words = Words::of(self.language);
            let seconds = name.strip_suffix("_seconds").and_then(|_| value.parse().ok());
            let value = seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map_or_else(|| value.to_owned(), |span| words.span(span));
            json!({ "key": key, "name": words.fact(name), "value": value })
        };
        facts.into_iter().map(fact).collect()
    }

    /// `pool default, GPU 0`.
    fn place(&self, labels: &Labels) -> String {
        let words = Words::of(self.language);
        let of = |name: &str| {
            let value = labels.value(name);
            (!value.is_empty()).then(|| format!("{} {value}", words.fact(name)))
        };
        ["pool", "gpu"].into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
    }

    fn moment(&self, time: Time) -> String {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(moment) => {
                moment.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
            }
            Err(_) => time.to_string(),
        }
    }

    fn language_name(&self) -> &'static str {
        match self.language {
            Language::En => "en",
            Language::Zh => "zh",
        }
    }
}

/// `theirs` with the keys of `ours` added, or replaced.
fn merged(theirs: Value, ours: Value) -> Value {
    let map = |value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let mut all = map(theirs);
    all.extend(map(ours));
    Value::Object(all)
}

//! The log of the daemon.
//!
//! A message is one event of `tracing` with the target `gpulock::alerts`: an error for P0 and P1, a
//! warning for P2 and `warning`, information for `info` and for what is over. What comes from outside
//! (names of tasks, texts) cannot end its line.

use async_trait::async_trait;
use gpulock::core::alert::{Labels, Urgency};
use serde::Deserialize;
use tracing::Level;

use super::Around;
use crate::channel::{Channel, Failure, Message};
use crate::notification::Status;
use crate::text::Markup;

/// Nothing is its own: `log: {}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

impl Settings {
    /// Opens it.
    ///
    /// # Errors
    /// Never.
    pub fn open(&self, _around: &Around) -> Result<Log, String> {
        Ok(Log)
    }
}

/// The log of the daemon.
#[derive(Clone, Debug)]
pub struct Log;

/// `tracing` wants the level of an event to be a constant.
macro_rules! event_at {
    ($level:expr, $message:ident, $facts:ident) => {
        tracing::event!(
            target: "gpulock::alerts",
            $level,
            rule = $facts.of(Labels::RULE),
            severity = $message.notification.urgency().as_str(),
            status = $facts.status,
            pool = $facts.of("pool"),
            gpu = $facts.of("gpu"),
            task = $facts.of("task"),
            count = $message.notification.count,
            "{}",
            one_line(&$message.text.title)
        )
    };
}

#[async_trait]
impl Channel for Log {
    fn kind(&self) -> &'static str {
        "log"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let notification = message.notification;
        let is_over = notification.status == Status::Resolved;
        let facts = Facts {
            common: &notification.common_labels,
            group: &notification.group_labels,
            status: if is_over { "resolved" } else { "firing" },
        };
        match notification.urgency() {
            _ if is_over => event_at!(Level::INFO, message, facts),
            Urgency::P0 | Urgency::P1 => event_at!(Level::ERROR, message, facts),
            Urgency::P2 | Urgency::Warning => event_at!(Level::WARN, message, facts),
            Urgency::Info => event_at!(Level::INFO, message, facts),
        }
        Ok(())
    }
}

/// What all alerts of a message have in common.
struct Facts<'n> {
    common: &'n Labels,
    group: &'n Labels,
    status: &'static str,
}

impl Facts<'_> {
    /// A label; `None` where the alerts differ in it or do not have it.
    fn of(&self, name: &str) -> Option<String> {
        let values = [self.common.value(name), self.group.value(name)];
        values.into_iter().find(|value| !value.is_empty()).map(one_line)
    }
}

/// The text with its line breaks and other control characters written out, also those of Unicode that
/// some readers of logs take for the end of a line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                line.extend(c.escape_default());
            }
            c => line.push(c),
        }
    }
    line
}

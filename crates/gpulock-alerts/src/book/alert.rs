//! One alert, from when it begins until it is forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::Time;
use gpulock::core::alert::{Change, Fingerprint, Labels, Signal, Urgency};
use serde::{Deserialize, Serialize};

use crate::notification::{NotifiedAlert, Status};

/// What is over by itself is so at a multiple of this, in microseconds.
const QUIET_STEP: u64 = 10_000_000;

/// Something that somebody is told about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What tells it from others, without `severity`.
    pub labels: Labels,
    /// How urgent it is.
    pub urgency: Urgency,
    /// What else is known about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// When it began.
    pub began_at: Time,
    /// When it was last heard of.
    pub last_at: Time,
    /// How often it has happened since it began.
    pub count: u64,
    /// When it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Time>,
    /// Who has it in hand, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// It goes on until it is said to be over. If not, it is over by itself after a while.
    #[serde(default)]
    pub(super) lasts: bool,
    /// Somebody has to hear that it fired, even if it is over by then.
    #[serde(default)]
    pub(super) must_be_told: bool,
    /// Its time to be told has come since it began, wherever it goes.
    #[serde(default)]
    pub(super) was_told: bool,
}

/// Somebody has an alert in hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who, for people.
    pub by: String,
    /// When, on the store's clock.
    pub at: Time,
    /// What they have to say about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Alert {
    /// The rule.
    pub fn name(&self) -> &str {
        self.labels.value(Labels::RULE)
    }

    /// Whether it is over, also for those who had to hear of it.
    pub fn is_over(&self) -> bool {
        self.over_at.is_some() && (self.was_told || !self.must_be_told)
    }

    /// Its labels with `severity`.
    pub fn full_labels(&self) -> Labels {
        self.labels.clone().with(Labels::SEVERITY, self.urgency.as_str())
    }

    pub(super) fn begin(signal: Signal) -> Self {
        let must_be_told = matches!(signal.change, Change::Happened { .. });
        Self {
            labels: signal.labels,
            urgency: signal.urgency,
            facts: signal.facts,
            began_at: signal.at,
            last_at: signal.at,
            count: 1,
            over_at: None,
            acknowledged: None,
            lasts: signal.change != Change::Happened { lasts: false },
            must_be_told,
            was_told: false,
        }
    }

    /// Takes a signal about it in. Whether it only says again what is known.
    pub(super) fn hear(&mut self, signal: Signal) -> bool {
        match signal.change {
            Change::Over => {
                self.end(signal.at);
                false
            }
            Change::Present | Change::Happened { .. } if self.is_over() => {
                *self = Self::begin(signal);
                false
            }
            Change::Present | Change::Happened { .. } => {
                self.count += 1;
                self.over_at = None;
                self.lasts = signal.change != Change::Happened { lasts: false };
                self.must_be_told |= matches!(signal.change, Change::Happened { .. });
                self.refresh(signal);
                true
            }
        }
    }

    /// Takes over what a new look at it says, without counting it.
    pub(super) fn refresh(&mut self, signal: Signal) {
        self.last_at = self.last_at.max(signal.at);
        self.urgency = signal.urgency;
        self.facts = signal.facts;
    }

    pub(super) fn end(&mut self, at: Time) {
        self.over_at.get_or_insert(at.max(self.began_at));
    }

    /// When it is over by itself, if it is.
    pub(super) fn quiet_at(&self, timeout: Duration) -> Option<Time> {
        // Many that happened in one storm end in a few steps.
        let quiet = (self.last_at + timeout).as_micros().div_ceil(QUIET_STEP) * QUIET_STEP;
        (!self.lasts && self.over_at.is_none()).then_some(Time::from_micros(quiet))
    }

    pub(super) fn end_if_quiet(&mut self, now: Time, timeout: Duration) {
        if self.quiet_at(timeout).is_some_and(|quiet| quiet <= now) {
            self.end(now);
        }
    }

    /// As a message shows it; what the catalogue says about its rule is added when it is sent.
    pub(super) fn shown(&self, id: &Fingerprint) -> NotifiedAlert {
        let status = if self.is_over() { Status::Resolved } else { Status::Firing };
        NotifiedAlert {
            status,
            labels: self.full_labels(),
            annotations: self.facts.clone(),
            starts_at: in_millis(self.began_at),
            ends_at: self.over_at.filter(|_| status == Status::Resolved).map(in_millis),
            generator_url: String::new(),
            fingerprint: id.clone(),
            count: self.count,
        }
    }
}

/// Messages have their times in milliseconds, also while they wait.
fn in_millis(time: Time) -> Time {
    Time::from_micros(time.as_micros() / 1_000 * 1_000)
}

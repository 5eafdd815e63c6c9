//! What was counted.

use std::collections::BTreeMap;

use gpulock::core::Histogram;
use serde::{Deserialize, Serialize};

/// What was counted since the store began, by whichever daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Alerts that began.
    pub alerts: u64,
    /// Signals about alerts that fired already.
    pub deduplicated: u64,
    /// By channel.
    pub channels: BTreeMap<String, ChannelSums>,
    /// Alerts that were not told when their time came, by what kept them quiet.
    pub suppressed: BTreeMap<String, u64>,
}

/// What was counted for a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelSums {
    /// Messages that the other side has.
    pub sent: u64,
    /// Tries to send one.
    pub requests: u64,
    /// Tries that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Messages that were given up.
    pub given_up: u64,
    /// How long the other side took.
    pub latency: Histogram,
    /// The same together, in microseconds.
    pub latency_micros: u64,
}

impl ChannelSums {
    pub(super) fn count_latency(&mut self, micros: u64) {
        self.latency.count(micros);
        self.latency_micros = self.latency_micros.saturating_add(micros);
    }
}

impl Sums {
    pub(super) fn channel(&mut self, name: &str) -> &mut ChannelSums {
        self.channels.entry(name.to_owned()).or_default()
    }

    pub(super) fn count_suppressed(&mut self, why: &str, alerts: usize) {
        *self.suppressed.entry(why.to_owned()).or_default() += alerts as u64;
    }
}

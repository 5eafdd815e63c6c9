//! Alerts and messages about them in figures.

use std::collections::BTreeMap;

use super::scrape::Histogram;

/// Alerts and messages, as the book in the store has them: every daemon says the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlertFigures {
    /// Alerts that fire, by level and state.
    pub(crate) firing: BTreeMap<(&'static str, &'static str), u64>,
    /// Alerts that ever began.
    pub(crate) begun: u64,
    /// Signals about alerts that fired already.
    pub(crate) repeated: u64,
    /// Alerts that were not told when their time came, by what kept them quiet.
    pub(crate) suppressed: BTreeMap<String, u64>,
    /// The channels of the configuration, and those that were.
    pub(crate) channels: Vec<ChannelFigures>,
}

/// One channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelFigures {
    /// Its name.
    pub(crate) name: String,
    /// Its kind; `removed` if it is no longer in the configuration.
    pub(crate) integration: &'static str,
    /// Messages that the other side has.
    pub(crate) sent: u64,
    /// Tries to send one.
    pub(crate) requests: u64,
    /// Tries that failed, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Messages that were given up.
    pub(crate) given_up: u64,
    /// Messages that wait.
    pub(crate) waiting: u64,
    /// How long the other side took.
    pub(crate) latency: Histogram,
}

/// What an alert that fires can be.
pub(crate) const STATES: [&str; 4] = ["firing", "acknowledged", "silenced", "inhibited"];

/// What keeps alerts quiet when their time has come.
pub(crate) const QUIET: [&str; 4] = ["silence", "inhibit", "mute_time", "budget"];

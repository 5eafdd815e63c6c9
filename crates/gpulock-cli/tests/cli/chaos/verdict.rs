//! The verdict over a run of the chaos: everything in it that must not be.
//!
//! - [`uses`] looks at the commands' own notes: who used a GPU, and when.
//! - [`journal`] plays the journal again: what the store says was lent, and how that ended.
//! - [`leases`] lays the two side by side.
//! - [`answers`] looks at how each run was answered.

mod answers;
mod journal;
mod leases;
#[cfg(test)]
mod planted;
mod uses;

use std::time::Duration;

use gpulock::core::{Counters, Event};

use super::crew::Run;
use super::work::Note;

pub(super) use self::journal::Replay;

/// All that is known about a run of the chaos.
pub(super) struct Evidence<'a> {
    pub(super) notes: &'a [Note],
    pub(super) events: &'a [Event],
    /// The sums that the store kept.
    pub(super) counters: &'a Counters,
    pub(super) runs: &'a [Run],
    /// When the store did not answer.
    pub(super) outages: &'a [(Duration, Duration)],
}

impl Evidence<'_> {
    /// Everything that must not be, in words.
    pub(super) fn findings(&self) -> Vec<String> {
        let replay = Replay::of(self.events);
        let mut findings = uses::findings(self.notes);
        findings.extend(replay.findings(self.counters));
        findings.extend(leases::findings(self.notes, &replay));
        findings.extend(answers::findings(self, &replay));
        findings
    }
}

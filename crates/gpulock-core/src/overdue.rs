//! What is done about a lease that is held for long: it is reported, its holder is asked to
//! stop, and at last it is taken back.
//!
//! ```text
//!  age        warning             soft               hard
//!  ────────────┼───────────────────┼──────────────────┼─────────────▶
//!              noted               asked to stop      seized, drains
//!                                                       │ still drains after each delay
//!                                                       ▼
//!                                               noted, and at last given up
//! ```
//!
//! A holder whose heartbeats stop loses its lease by itself, at its deadline; so nobody with
//! a fresh heartbeat is robbed before the hard level.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Party, What, micros};
use crate::lease::{Ending, Lease, Phase};
use crate::owner::Sight;
use crate::step::Reply;
use crate::time::Time;
use crate::turn::Turn;

/// How leases are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    /// From which age on something is done.
    pub levels: Levels,
    /// Whether GPUs are taken back; if not, levels are noted and nothing else.
    pub recovers: bool,
    /// How often it is noted that the processes of an ended lease still live, before they
    /// are given up.
    pub retries: u32,
    /// How far these moments are apart; at least a second counts.
    pub retry_delay: Duration,
    /// Who watches, for people.
    pub by: String,
}

/// Ages of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Levels {
    /// It is reported.
    pub warning: Duration,
    /// Its holder is asked to stop.
    pub soft: Duration,
    /// It is taken back.
    pub hard: Duration,
}

/// How long a lease is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is held for longer than usual.
    Warning,
    /// It should end.
    Soft,
    /// It must end.
    Hard,
}

impl Levels {
    /// The level of a lease of this age.
    pub fn reached(&self, age: Duration) -> Option<Level> {
        Level::ALL.into_iter().rev().find(|level| age >= self.age_of(*level))
    }

    fn age_of(&self, level: Level) -> Duration {
        match level {
            Level::Warning => self.warning,
            Level::Soft => self.soft,
            Level::Hard => self.hard,
        }
    }
}

impl Level {
    /// All of them, the mildest first.
    pub const ALL: [Self; 3] = [Self::Warning, Self::Soft, Self::Hard];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Soft => "soft timeout",
            Self::Hard => "hard timeout",
        })
    }
}

impl Watch {
    /// When a lease next needs a look that its deadline does not bring about; `None`: never.
    fn next_look(&self, lease: &Lease) -> Option<Time> {
        match lease.phase {
            Phase::Granted { .. } => None,
            Phase::Held { .. } | Phase::Stopping { .. } => Level::ALL
                .into_iter()
                .filter(|level| lease.overdue < Some(*level))
                .map(|level| lease.acquired_at + self.levels.age_of(level))
                .min(),
            Phase::Draining { ended_at, failures, .. } => {
                (failures <= self.retries).then(|| ended_at + self.delay() * (failures + 1))
            }
        }
    }

    fn delay(&self) -> Duration {
        self.retry_delay.max(Duration::from_secs(1))
    }
}

impl Turn<'_> {
    pub(crate) fn patrol(&mut self, watch: &Watch, sight: Option<&Sight>) -> Reply {
        self.tick(sight);
        let leases: Vec<_> = self.pool.leases.iter().map(Lease::reference).collect();
        for lease in leases {
            let found = self.pool.leases.iter().position(|held| held.reference() == lease);
            if let Some(index) = found {
                match self.pool.leases[index].phase {
                    Phase::Granted { .. } => {}
                    Phase::Held { .. } | Phase::Stopping { .. } => self.look_at_age(index, watch),
                    Phase::Draining { .. } => self.look_at_drain(index, watch),
                }
            }
        }
        let looks = self.pool.leases.iter().filter_map(|lease| watch.next_look(lease));
        Reply::Patrolled(looks.chain(self.pool.next_deadline(self.now)).min())
    }

    fn look_at_age(&mut self, index: usize, watch: &Watch) {
        let lease = &mut self.pool.leases[index];
        let (age, reference) = (self.now.since(lease.acquired_at), lease.reference());
        let Some(level) = watch.levels.reached(age) else { return };
        if lease.overdue < Some(level) {
            lease.overdue = Some(level);
            let (token, gpus) = (lease.token, lease.gpus.clone());
            let party = Party::from(&*lease);
            self.changes.not_before =
                self.changes.not_before.max(Some(lease.acquired_at + watch.levels.age_of(level)));
            self.put_lease(index);
            let what = What::Overdue { token, gpus, level, held_micros: micros(age) };
            self.note(what, Some(party));
        }
        if !watch.recovers {
            return;
        }
        let reason = format!("{level}: held for {} s", age.as_secs());
        let is_asked = matches!(self.pool.leases[index].phase, Phase::Stopping { .. });
        match level {
            Level::Warning => {}
            Level::Soft if is_asked => {}
            Level::Soft => drop(self.ask_to_stop(reference, reason)),
            Level::Hard => self.end(index, Ending::Seized { by: watch.by.clone(), reason }, true),
        }
    }

    fn look_at_drain(&mut self, index: usize, watch: &Watch) {
        let lease = &mut self.pool.leases[index];
        let due = watch.next_look(lease).filter(|moment| *moment <= self.now);
        let (Some(due), Phase::Draining { ended_at, failures, .. }) = (due, &mut lease.phase)
        else {
            return;
        };
        // What was missed while nobody watched counts once.
        let missed = self.now.since(*ended_at).as_micros() / watch.delay().as_micros();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        *failures = missed.clamp(*failures + 1, watch.retries.saturating_add(1));
        let (failures, is_given_up) = (*failures, *failures > watch.retries);
        let (token, gpus) = (lease.token, lease.gpus.clone());
        if let (true, Phase::Draining { how, .. }) = (is_given_up, &lease.phase) {
            self.pool.ledger.counters.count_recovery(lease, how, true);
        }
        let what = What::StillDraining { token, gpus, failures, is_given_up };
        let party = Party::from(&*lease);
        self.changes.not_before = self.changes.not_before.max(Some(due));
        self.put_lease(index);
        self.note(what, Some(party));
    }
}

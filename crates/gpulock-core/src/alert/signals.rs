//! What events mean for alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::labels::Labels;
use super::rules::{Rule, Rules};
use super::urgency::Urgency;
use crate::command::{Incident, Raised};
use crate::event::{Event, Party, What};
use crate::gpu::GpuIndex;
use crate::lease::{Cause, Ending};
use crate::names::PoolName;
use crate::overdue::Level;
use crate::time::Time;

/// Something about one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Which alert: `alertname` and what it is about, without `severity`.
    pub labels: Labels,
    /// How urgent it is.
    pub urgency: Urgency,
    /// What else is known, for people: `lease_id`, `host`, `pid`, `held_seconds`, `message`.
    pub facts: BTreeMap<String, String>,
    /// When, on the store's clock.
    pub at: Time,
    /// What it says.
    pub change: Change,
}

/// What a signal says of its alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is so, until it is over. If that comes soon, nobody needs to hear of it.
    Present,
    /// It has happened, and somebody has to hear of it, even if it is over by then.
    Happened {
        /// It goes on until it is over. If not, it is over by itself.
        lasts: bool,
    },
    /// It is over.
    Over,
}

/// What an event of a pool means for alerts.
pub fn signals(pool: &PoolName, event: &Event, rules: &Rules) -> Vec<Signal> {
    let reader = Reader { pool, event, rules };
    match &event.what {
        What::Overdue { gpus, level, held_micros, .. } => {
            reader.overdue(gpus, *level, *held_micros)
        }
        What::Ended { gpus, how, held_micros, draining, .. } => {
            reader.ended(gpus, how, *held_micros, *draining)
        }
        What::Drained { gpus, .. } => {
            let all = OF_HOLDING.iter().chain(&OF_DRAINING);
            all.map(|name| reader.over(name, gpus)).collect()
        }
        What::StillDraining { gpus, failures, is_given_up, .. } => {
            let (name, change) = match is_given_up {
                false => (Rule::ZOMBIE, Change::Present),
                true => (Rule::NOT_RECOVERED, Change::Happened { lasts: true }),
            };
            let found = reader.signal(name, gpus, change).fact("tries", failures.to_string());
            reader.wanted([found])
        }
        What::Incident { incident, error } => {
            let name = match incident {
                Incident::EmergencyRelease => Rule::EMERGENCY_RELEASE,
                Incident::CriticalFailure => Rule::CRITICAL_FAILURE,
                Incident::NormalReleaseFailure | Incident::ReleaseScriptError => return Vec::new(),
            };
            let happened = reader.signal(name, &[], Change::Happened { lasts: false });
            reader.wanted([happened.fact("error", error.as_str())])
        }
        What::Raised { alert } => reader.raised(alert),
        _ => Vec::new(),
    }
}

/// Over as soon as the lease is.
const OF_HOLDING: [&str; 3] = [Rule::LONG_HELD, Rule::SOFT_TIMEOUT, Rule::HARD_TIMEOUT];
/// Over as soon as the processes of the lease are gone.
const OF_DRAINING: [&str; 3] = [Rule::HOLDER_LOST, Rule::ZOMBIE, Rule::NOT_RECOVERED];

struct Reader<'r> {
    pool: &'r PoolName,
    event: &'r Event,
    rules: &'r Rules,
}

impl Reader<'_> {
    fn overdue(&self, gpus: &[GpuIndex], level: Level, held_micros: u64) -> Vec<Signal> {
        let (name, change) = match level {
            Level::Warning => (Rule::LONG_HELD, Change::Present),
            Level::Soft => (Rule::SOFT_TIMEOUT, Change::Present),
            Level::Hard => (Rule::HARD_TIMEOUT, Change::Happened { lasts: true }),
        };
        let held = self.signal(name, gpus, change).fact("held_seconds", seconds(held_micros));
        self.wanted([held])
    }

    fn ended(
        &self,
        gpus: &[GpuIndex],
        how: &Ending,
        held_micros: u64,
        draining: bool,
    ) -> Vec<Signal> {
        let mut signals = Vec::new();
        let cause = match how {
            Ending::Expired(Cause::HolderDied) => Some("its process died"),
            Ending::Expired(Cause::Deadline) => Some("no heartbeat came in time"),
            Ending::Expired(Cause::NotClaimed) | Ending::Released | Ending::Seized { .. } => None,
        };
        if let Some(cause) = cause {
            let change = Change::Happened { lasts: draining };
            let lost = self.signal(Rule::HOLDER_LOST, gpus, change);
            let lost = lost.fact("cause", cause).fact("held_seconds", seconds(held_micros));
            signals.extend(self.wanted([lost]));
        }
        if !draining {
            signals.extend(OF_HOLDING.iter().map(|name| self.over(name, gpus)));
        }
        signals
    }

    fn raised(&self, alert: &Raised) -> Vec<Signal> {
        let mut signal = self.signal(alert.name.as_str(), &[], Change::Happened { lasts: false });
        signal.urgency = self.rules.urgency(alert.name.as_str(), alert.urgency);
        // Which lease it is, is not the program's word.
        let known = std::mem::replace(&mut signal.facts, alert.facts.clone());
        signal.facts.extend(known);
        self.wanted([signal.fact("message", alert.message.as_str())])
    }

    fn over(&self, name: &str, gpus: &[GpuIndex]) -> Signal {
        self.signal(name, gpus, Change::Over)
    }

    /// Those of rules that are on.
    fn wanted<const N: usize>(&self, signals: [Signal; N]) -> Vec<Signal> {
        let is_on = |signal: &Signal| self.rules.is_on(signal.labels.value(Labels::RULE));
        signals.into_iter().filter(is_on).collect()
    }

    fn signal(&self, name: &str, gpus: &[GpuIndex], change: Change) -> Signal {
        let party = self.event.party.as_ref();
        let task = party.map(|party| party.task.to_string()).unwrap_or_default();
        Signal {
            labels: Labels::default()
                .with(Labels::RULE, name)
                .with("pool", self.pool.to_string())
                .with("gpu", listed(gpus))
                .with("task", task),
            urgency: self.rules.urgency(name, Urgency::Warning),
            facts: party.map(facts_of).unwrap_or_default(),
            at: self.event.at,
            change,
        }
    }
}

impl Signal {
    /// With one more fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

fn facts_of(party: &Party) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("lease_id".to_owned(), party.lease_id.to_string()),
        ("host".to_owned(), party.host.clone()),
    ]);
    facts.extend(party.pid.map(|pid| ("pid".to_owned(), pid.to_string())));
    facts
}

/// `0,1`.
pub(super) fn listed(gpus: &[GpuIndex]) -> String {
    gpus.iter().map(GpuIndex::to_string).collect::<Vec<_>>().join(",")
}

fn seconds(micros: u64) -> String {
    Duration::from_micros(micros).as_secs().to_string()
}

//! What the present state of a pool and its figures mean for alerts.

use std::collections::BTreeMap;

use super::labels::Labels;
use super::rules::{Rule, Rules};
use super::signals::{Change, Signal};
use super::urgency::Urgency;
use crate::health::{FEWEST_REQUESTS, Outcomes};
use crate::names::PoolName;
use crate::overdue::Levels;
use crate::pool::Pool;
use crate::queue::Waiter;
use crate::time::Time;

/// What is known of a pool after a look at it.
#[derive(Clone, Copy, Debug)]
pub struct Findings<'f> {
    /// Which pool.
    pub name: &'f PoolName,
    /// Its state.
    pub pool: &'f Pool,
    /// All that wait in it.
    pub waiters: &'f [Waiter],
    /// When that was, on the store's clock.
    pub now: Time,
    /// How the latest requests ended.
    pub recent: Outcomes,
    /// The ages at which the monitor acts.
    pub levels: Levels,
    /// The share of leases and tasks whose heartbeats stopped, 0 to 1; `None` if there were too
    /// few to say.
    pub heartbeat_failure_rate: Option<f64>,
    /// Within the last hour.
    pub emergency_releases: u64,
    /// Within the last hour.
    pub ownership_violations: u64,
}

/// What is wrong with a pool now: one signal for each thing, all [`Change::Present`]. What is not
/// among them is over.
pub fn conditions(findings: &Findings<'_>, rules: &Rules) -> Vec<Signal> {
    let reader = Reader { findings, rules };
    let mut signals = reader.deadlocks();
    signals.extend(reader.closed());
    signals.extend(reader.rates());
    signals.extend(reader.longest_wait());
    let an_hour = |name, count: u64| reader.above(name, Some(count as f64), count.to_string());
    signals.extend(an_hour(Rule::EMERGENCY_RELEASES, findings.emergency_releases));
    signals.extend(an_hour(Rule::VIOLATIONS, findings.ownership_violations));
    signals.retain(|signal| rules.is_on(signal.labels.value(Labels::RULE)));
    signals
}

struct Reader<'r> {
    findings: &'r Findings<'r>,
    rules: &'r Rules,
}

impl Reader<'_> {
    fn deadlocks(&self) -> Vec<Signal> {
        let Findings { pool, waiters, now, levels, .. } = self.findings;
        let stuck = pool.deadlocks(*now, waiters, levels);
        let signal = |(gpu, lease_id)| {
            let mut signal = self.signal(Rule::DEADLOCK);
            signal.labels.set("gpu", format!("{gpu}"));
            if let Some(lease) = pool.lease(lease_id) {
                signal.labels.set("task", lease.task.to_string());
                signal = signal.fact("host", lease.owner.host.as_str());
            }
            signal.fact("lease_id", lease_id.to_string())
        };
        stuck.into_iter().map(signal).collect()
    }

    fn closed(&self) -> Option<Signal> {
        let left = self.findings.pool.closed_for(self.findings.now)?;
        Some(self.signal(Rule::CLOSED).fact("opens_in_seconds", left.as_secs().to_string()))
    }

    fn rates(&self) -> Vec<Signal> {
        let Findings { recent, heartbeat_failure_rate, .. } = self.findings;
        let mut signals = Vec::new();
        if recent.total() >= FEWEST_REQUESTS {
            let (timed_out, got) = (recent.timeout_rate(), recent.success_rate());
            signals.extend(self.above(Rule::TIMEOUT_RATE, Some(timed_out), percent(timed_out)));
            if got < self.rules.threshold(Rule::SUCCESS_RATE) {
                signals.push(self.measured(Rule::SUCCESS_RATE, percent(got)));
            }
        }
        let silent = heartbeat_failure_rate.unwrap_or_default();
        signals.extend(self.above(Rule::HEARTBEATS, *heartbeat_failure_rate, percent(silent)));
        signals
    }

    fn longest_wait(&self) -> Option<Signal> {
        let Findings { waiters, now, .. } = self.findings;
        let longest = waiters.iter().max_by_key(|waiter| waiter.waited(*now))?;
        let waited = longest.waited(*now);
        let shown = format!("{} s", waited.as_secs());
        let signal = self.above(Rule::WAIT_TIME, Some(waited.as_secs_f64()), shown)?;
        Some(signal.fact("waiting_task", longest.task.to_string()))
    }

    /// The rule fires if the figure is above its threshold.
    fn above(&self, name: &str, figure: Option<f64>, shown: String) -> Option<Signal> {
        let is_above = figure.is_some_and(|figure| figure > self.rules.threshold(name));
        is_above.then(|| self.measured(name, shown))
    }

    fn measured(&self, name: &str, shown: String) -> Signal {
        self.signal(name).fact("value", shown)
    }

    fn signal(&self, name: &str) -> Signal {
        Signal {
            labels: Labels::default()
                .with(Labels::RULE, name)
                .with("pool", self.findings.name.to_string()),
            urgency: self.rules.urgency(name, Urgency::Warning),
            facts: BTreeMap::new(),
            at: self.findings.now,
            change: Change::Present,
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

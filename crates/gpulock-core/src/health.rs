//! How a pool is doing: figures over what happened, and a verdict with reasons.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::command::CancelReason;
use crate::event::{Counters, Event, What};
use crate::gpu::GpuIndex;
use crate::ids::LeaseId;
use crate::lease::{Lease, Phase};
use crate::overdue::Levels;
use crate::pool::Pool;
use crate::queue::Waiter;
use crate::request::Wants;
use crate::time::Time;

/// So many recent requests must be over before their rates say anything.
pub(crate) const FEWEST_REQUESTS: u64 = 5;

/// How long a GPU may take to be taken back before that counts as a deadlock.
const HAND_OVER: Duration = Duration::from_secs(5);

/// From which figures on a pool counts as unhealthy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Smallest healthy share of requests that got their GPUs.
    pub min_success_rate: f64,
    /// Largest healthy share of requests that gave up waiting.
    pub max_timeout_rate: f64,
    /// Largest healthy age of a lease.
    pub max_lock_age: Duration,
    /// The ages at which the monitor acts.
    pub levels: Levels,
}

/// Requests that are over, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Got their GPUs.
    pub granted: u64,
    /// Gave up because their time was over.
    pub timed_out: u64,
    /// Left for another reason: told to, died, or were not seen for too long.
    pub left: u64,
}

impl Outcomes {
    /// Those of everything that ever happened.
    pub fn of_all(counters: &Counters) -> Self {
        let left = counters.cancelled + counters.dropped;
        Self { granted: counters.granted, timed_out: counters.timed_out, left }
    }

    /// Those of the latest `window` requests, where events come with the latest first.
    pub fn of_latest<'a>(events: impl IntoIterator<Item = &'a Event>, window: u64) -> Self {
        let mut outcomes = Self::default();
        for event in events {
            match event.what {
                What::Granted { .. } => outcomes.granted += 1,
                What::Cancelled { reason: CancelReason::TimedOut, .. } => outcomes.timed_out += 1,
                What::Cancelled { .. } | What::Dropped { .. } => outcomes.left += 1,
                _ => continue,
            }
            if outcomes.total() >= window {
                break;
            }
        }
        outcomes
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.granted + self.timed_out + self.left
    }

    /// The share that got their GPUs, 0 to 1; 1 if there were none.
    pub fn success_rate(&self) -> f64 {
        match self.total() {
            0 => 1.0,
            total => self.granted as f64 / total as f64,
        }
    }

    /// The share that gave up because their time was over, 0 to 1; 0 if there were none.
    pub fn timeout_rate(&self) -> f64 {
        self.timed_out as f64 / self.total().max(1) as f64
    }
}

/// What is wrong with a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Issue {
    /// Nobody gets a GPU because its holder is dead or past the hard timeout.
    Deadlock {
        /// Which GPU.
        gpu: GpuIndex,
        /// Whose it is or was.
        lease: LeaseId,
    },
    /// A lease is over, and its processes are not known to be gone.
    Zombie {
        /// Which.
        lease: LeaseId,
        /// Since when.
        since: Duration,
    },
    /// A lease is held for long.
    LongHeld {
        /// Which.
        lease: LeaseId,
        /// For how long.
        age: Duration,
    },
    /// Too few of the latest requests got their GPUs: this share.
    LowSuccessRate(f64),
    /// Too many of the latest requests gave up: this share.
    HighTimeoutRate(f64),
    /// Nothing is lent for so long: the store may have forgotten leases.
    Closed(Duration),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// Work stands still.
    Critical,
}

impl Issue {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Deadlock { .. } => Severity::Critical,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { gpu, lease } => {
                write!(
                    f,
                    "GPU {gpu} is kept by lease {lease}, which is dead or far overdue, while others wait"
                )
            }
            Self::Zombie { lease, since } => {
                write!(
                    f,
                    "lease {lease} ended {} s ago and its processes are not known to be gone",
                    since.as_secs()
                )
            }
            Self::LongHeld { lease, age } => {
                write!(f, "lease {lease} has been held for {} s", age.as_secs())
            }
            Self::LowSuccessRate(rate) => {
                write!(f, "only {:.1} % of the latest requests got their GPUs", rate * 100.0)
            }
            Self::HighTimeoutRate(rate) => {
                write!(f, "{:.1} % of the latest requests gave up waiting", rate * 100.0)
            }
            Self::Closed(left) => {
                write!(
                    f,
                    "nothing is lent for another {} s, because the store may have forgotten leases",
                    left.as_secs()
                )
            }
        }
    }
}

impl Pool {
    /// What is wrong with it at `now`, the worst first. `waiters` are all that wait, and
    /// `recent` is how the latest requests ended.
    pub fn issues(
        &self,
        now: Time,
        waiters: &[Waiter],
        recent: Outcomes,
        thresholds: &Thresholds,
    ) -> Vec<Issue> {
        let deadlocks = self.deadlocks(now, waiters, &thresholds.levels);
        let mut issues: Vec<_> =
            deadlocks.into_iter().map(|(gpu, lease)| Issue::Deadlock { gpu, lease }).collect();
        for lease in &self.leases {
            let (age, lease_id) = (now.since(lease.acquired_at), lease.lease_id);
            match lease.phase {
                Phase::Draining { ended_at, .. } => {
                    issues.push(Issue::Zombie { lease: lease_id, since: now.since(ended_at) });
                }
                _ if age > thresholds.max_lock_age => {
                    issues.push(Issue::LongHeld { lease: lease_id, age });
                }
                _ => {}
            }
        }
        issues.extend(self.closed_for(now).map(Issue::Closed));
        if recent.total() >= FEWEST_REQUESTS {
            if recent.success_rate() < thresholds.min_success_rate {
                issues.push(Issue::LowSuccessRate(recent.success_rate()));
            }
            if recent.timeout_rate() > thresholds.max_timeout_rate {
                issues.push(Issue::HighTimeoutRate(recent.timeout_rate()));
            }
        }
        issues
    }

    /// GPUs that others wait for while their holder is dead or past the hard timeout.
    pub fn deadlocks(
        &self,
        now: Time,
        waiters: &[Waiter],
        levels: &Levels,
    ) -> Vec<(GpuIndex, LeaseId)> {
        let any_gpu = waiters.iter().any(|waiter| matches!(waiter.wants, Wants::Any(_)));
        let named: BTreeSet<GpuIndex> = waiters
            .iter()
            .filter_map(|waiter| match &waiter.wants {
                Wants::These(gpus) => Some(gpus),
                Wants::Any(_) => None,
            })
            .flatten()
            .copied()
            .collect();
        let is_stuck = |lease: &&Lease| {
            let should_have_ended = match lease.phase {
                Phase::Draining { ended_at, .. } => Some(ended_at),
                _ => lease.deadline().min(Some(lease.acquired_at + levels.hard)),
            };
            should_have_ended.is_some_and(|moment| moment + HAND_OVER <= now)
        };
        let stuck = self.leases.iter().filter(is_stuck);
        let kept = stuck.flat_map(|lease| lease.gpus.iter().map(|gpu| (*gpu, lease.lease_id)));
        kept.filter(|(gpu, _)| any_gpu || named.contains(gpu)).collect()
    }
}

//! What happened: one event for every change of state, and the sums over all of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{CancelReason, Incident, Raised};
use crate::gpu::{GpuIndex, Inventory};
use crate::histogram::Histogram;
use crate::ids::{LeaseId, Token};
use crate::lease::{Cause, Ending, Lease};
use crate::names::TaskName;
use crate::overdue::Level;
use crate::owner::Owner;
use crate::queue::{Priority, Waiter};
use crate::request::Wants;
use crate::time::Time;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// When, on the store's clock.
    pub at: Time,
    /// What changed.
    #[serde(flatten)]
    pub what: What,
    /// Whose request or lease it was; `None` for the pool itself.
    #[serde(flatten)]
    pub party: Option<Party>,
}

/// Whose request or lease an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Party {
    /// The lease, or the lease to be.
    pub lease_id: LeaseId,
    /// What the work is called.
    pub task: TaskName,
    /// Where it runs.
    pub host: String,
    /// The owner's pid; `None` if nobody can look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// What changed. All spans are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A request joined the queue.
    Queued {
        /// For which GPUs.
        wants: Wants,
        /// How urgent.
        priority: Priority,
    },
    /// GPUs were lent.
    Granted {
        /// Which.
        gpus: Vec<GpuIndex>,
        /// With which token.
        token: Token,
        /// After how long in the queue.
        waited_micros: u64,
    },
    /// A waiter picked its grant up, or a supervised command is about to start.
    Claimed {
        /// Which grant.
        token: Token,
    },
    /// A holder was asked to stop.
    StopRequested {
        /// Which lease.
        token: Token,
        /// Why.
        reason: String,
    },
    /// A lease ended.
    Ended {
        /// Which.
        token: Token,
        /// Its GPUs.
        gpus: Vec<GpuIndex>,
        /// How.
        how: Ending,
        /// After how long.
        held_micros: u64,
        /// Its processes still live, so its GPUs are not free yet.
        draining: bool,
    },
    /// The processes of an ended lease are gone, its GPUs are free.
    Drained {
        /// Which lease.
        token: Token,
        /// Its GPUs.
        gpus: Vec<GpuIndex>,
    },
    /// A lease is held for long, see [`Watch`](crate::Watch).
    Overdue {
        /// Which lease.
        token: Token,
        /// Its GPUs.
        gpus: Vec<GpuIndex>,
        /// How long that is.
        level: Level,
        /// For how long it is held.
        held_micros: u64,
    },
    /// The processes of an ended lease still live, long after it ended.
    StillDraining {
        /// Which lease.
        token: Token,
        /// Its GPUs.
        gpus: Vec<GpuIndex>,
        /// How often that was found.
        failures: u32,
        /// The monitor will not look again.
        is_given_up: bool,
    },
    /// A waiter left the queue by its own will.
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// After how long.
        waited_micros: u64,
    },
    /// A waiter was put out of the queue: it died, was not seen for too long, or wants a
    /// GPU that is no longer there.
    Dropped {
        /// After how long.
        waited_micros: u64,
    },
    /// Something went wrong around a lease.
    Incident {
        /// What.
        incident: Incident,
        /// The error, for people.
        error: String,
    },
    /// A program has raised an alert.
    Raised {
        /// The alert.
        alert: Raised,
    },
    /// The store has begun another life and may have forgotten leases.
    Resumed {
        /// Nothing is lent before; `None` if none that it may have forgotten can still run.
        closed_until: Option<Time>,
    },
    /// The pool was told its GPUs.
    Configured {
        /// The cards.
        inventory: Inventory,
    },
}

/// Sums over everything that ever happened in a pool. They are written together with the
/// events and never capped, so every process that asks sees the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Leases granted.
    pub granted: u64,
    /// Leases given back by their owners.
    pub released: u64,
    /// Leases that ran out: deadline passed, holder died, or grant not picked up.
    pub expired: u64,
    /// Of those: the holder died.
    pub died: u64,
    /// Leases taken away.
    pub seized: u64,
    /// Waiters that gave up because their time was over.
    pub timed_out: u64,
    /// Waiters that were told to give up.
    pub cancelled: u64,
    /// Waiters that were put out of the queue.
    pub dropped: u64,
    /// Commands that named a lease which was not the current one.
    pub ownership_violations: u64,
    /// Releases that were not confirmed at the first attempt.
    pub normal_release_failures: u64,
    /// Releases on a second way, after the first had failed.
    pub emergency_releases: u64,
    /// Releases that the store answered with an error.
    pub release_script_errors: u64,
    /// Time spent waiting by all granted requests, in microseconds.
    pub waited_micros: u64,
    /// Time held by all ended leases, in microseconds.
    pub held_micros: u64,
    /// How often requests that are over have looked again because nobody woke them.
    #[serde(skip_serializing_if = "is_zero")]
    pub polls: u64,
    /// How long the granted requests had waited.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub waits: Histogram,
    /// How long the ended leases were held.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub holds: Histogram,
    /// Leases that were held for longer than usual.
    #[serde(skip_serializing_if = "is_zero")]
    pub warnings: u64,
    /// Leases that reached the soft timeout.
    #[serde(skip_serializing_if = "is_zero")]
    pub soft_timeouts: u64,
    /// Leases that reached the hard timeout.
    #[serde(skip_serializing_if = "is_zero")]
    pub hard_timeouts: u64,
    /// GPUs that came free again without the help of their holder.
    #[serde(skip_serializing_if = "Recoveries::is_empty")]
    pub recovered: Recoveries,
    /// GPUs that did not, and were given up.
    #[serde(skip_serializing_if = "Recoveries::is_empty")]
    pub not_recovered: Recoveries,
}

/// Leases whose GPUs had to be taken back, by what made that necessary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Recoveries {
    /// Its heartbeats ended, or its holder died.
    pub heartbeat: u64,
    /// It reached the soft timeout, and its holder gave it back.
    pub soft: u64,
    /// It reached the hard timeout.
    pub hard: u64,
}

impl Recoveries {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.heartbeat + self.soft + self.hard
    }

    fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Counts the lease that ended like this, if it had to be taken back.
    fn count(&mut self, how: &Ending, level: Option<Level>) {
        match (how, level) {
            (Ending::Released, None | Some(Level::Warning)) => {}
            (Ending::Released, _) => self.soft += 1,
            (Ending::Seized { .. }, Some(Level::Hard)) => self.hard += 1,
            (Ending::Seized { .. }, _) | (Ending::Expired(Cause::NotClaimed), _) => {}
            (Ending::Expired(_), _) => self.heartbeat += 1,
        }
    }
}

impl Counters {
    /// Adds one event to the sums.
    pub(crate) fn count(&mut self, what: &What) {
        match what {
            What::Granted { waited_micros, .. } => {
                self.granted += 1;
                self.waited_micros += waited_micros;
                self.waits.count(*waited_micros);
            }
            What::Ended { how, held_micros, .. } => {
                self.held_micros += held_micros;
                self.holds.count(*held_micros);
                match how {
                    Ending::Released => self.released += 1,
                    Ending::Seized { .. } => self.seized += 1,
                    Ending::Expired(cause) => {
                        self.expired += 1;
                        self.died += u64::from(*cause == Cause::HolderDied);
                    }
                }
            }
            What::Cancelled { reason: CancelReason::TimedOut, .. } => self.timed_out += 1,
            What::Cancelled { reason: CancelReason::GaveUp, .. } => self.cancelled += 1,
            What::Dropped { .. } => self.dropped += 1,
            What::Incident { incident: Incident::NormalReleaseFailure, .. } => {
                self.normal_release_failures += 1;
            }
            What::Incident { incident: Incident::EmergencyRelease, .. } => {
                self.emergency_releases += 1;
            }
            What::Incident { incident: Incident::ReleaseScriptError, .. } => {
                self.release_script_errors += 1;
            }
            What::Overdue { level: Level::Warning, .. } => self.warnings += 1,
            What::Overdue { level: Level::Soft, .. } => self.soft_timeouts += 1,
            What::Overdue { level: Level::Hard, .. } => self.hard_timeouts += 1,
            What::Queued { .. }
            | What::StillDraining { .. }
            | What::Claimed { .. }
            | What::StopRequested { .. }
            | What::Drained { .. }
            | What::Incident { incident: Incident::CriticalFailure, .. }
            | What::Raised { .. }
            | What::Resumed { .. }
            | What::Configured { .. } => {}
        }
    }

    /// Counts a lease whose GPUs are free now, or never will be.
    pub(crate) fn count_recovery(&mut self, lease: &Lease, how: &Ending, is_given_up: bool) {
        match is_given_up {
            true => self.not_recovered.count(how, lease.overdue),
            false => self.recovered.count(how, lease.overdue),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&Lease> for Party {
    fn from(lease: &Lease) -> Self {
        Self::new(lease.lease_id, &lease.task, &lease.owner)
    }
}

impl From<&Waiter> for Party {
    fn from(waiter: &Waiter) -> Self {
        Self::new(waiter.lease_id, &waiter.task, &waiter.owner)
    }
}

impl Party {
    fn new(lease_id: LeaseId, task: &TaskName, owner: &Owner) -> Self {
        Self {
            lease_id,
            task: task.clone(),
            host: owner.host.clone(),
            pid: owner.process.as_ref().map(|own| own.process.pid),
        }
    }
}

/// A span as events carry it.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

//! What a command led to: the answer, what to write, and whom to wake.

use std::collections::BTreeMap;

use crate::event::{Event, What};
use crate::ids::{Channel, LeaseId, LeaseRef};
use crate::lease::{Lease, StopRequest};
use crate::pool::Ledger;
use crate::queue::Waiter;
use crate::time::Time;

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answer to the caller.
    pub reply: Reply,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What the store has to write.
    pub changes: Changes,
    /// Whom to wake once it is written.
    pub wake: Vec<Wake>,
    /// More could be handed out than the window showed: tick again.
    pub again: bool,
    /// The next moment at which a lease ends by itself.
    pub next_deadline: Option<Time>,
}

impl Step {
    /// Whether it adds more to the record than it takes out. A store that is full may turn
    /// such a step down; what only renews or gives back must always get through.
    pub fn needs_room(&self) -> bool {
        let joined = self.changes.waiters.values().filter(|waiter| waiter.is_some()).count();
        let left = self.changes.waiters.len() - joined;
        let removed = self.changes.leases.values().filter(|lease| lease.is_none()).count();
        let lent = self.events.iter().filter(|event| matches!(event.what, What::Granted { .. }));
        joined + lent.count() > left + removed
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one for each step, and taken apart at once")]
pub enum Reply {
    /// The lease is the caller's.
    Granted(Lease),
    /// The request is in the queue.
    Waiting,
    /// The request cannot be met now and does not want to wait.
    Busy,
    /// Another run of the same task has this lease id, holds or waits, and is not known to
    /// be dead.
    Duplicate,
    /// One answer for each heartbeat.
    Renewed(Vec<Renewed>),
    /// It is done, and nothing becomes overdue before this moment, if anything will.
    Patrolled(Option<Time>),
    /// It is done.
    Done,
    /// The lease that the command named is not, or no longer, the current one.
    Lost,
}

impl Reply {
    /// Whether its receiver may use GPUs on the strength of it.
    pub fn gives_time(&self) -> bool {
        matches!(self, Self::Granted(_) | Self::Renewed(_))
    }
}

/// The answer to one heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Which lease.
    pub lease: LeaseRef,
    /// Its new deadline, and whether its holder shall stop; `None` if it is lost.
    pub held: Option<(Time, Option<StopRequest>)>,
}

/// What a store has to write, and what must not have changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What the decision was based on.
    pub reads: Parts,
    /// The decision is right only from this moment of the store's clock on.
    pub not_before: Option<Time>,
    /// The decision is right only before this moment of the store's clock: it extends a
    /// lease that has not expired yet, and a write that comes late must not revive it.
    pub not_after: Option<Time>,
    /// The decision is right only if there is no lease with this id: it reads nothing, and
    /// may arrive after the request that it is about was granted.
    pub unless_leased: Option<LeaseId>,
    /// The new ledger, if it changed.
    pub ledger: Option<Ledger>,
    /// Leases to write, or to remove where there is none.
    pub leases: BTreeMap<LeaseId, Option<Lease>>,
    /// Waiters to add, or to remove where there is none.
    pub waiters: BTreeMap<LeaseId, Option<Waiter>>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ledger.is_none() && self.leases.is_empty() && self.waiters.is_empty()
    }
}

/// The two parts of a pool's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Ledger and leases.
    pub leases: bool,
    /// The queue.
    pub queue: bool,
}

/// A hint to one client: look at the pool now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Where it listens.
    pub channel: Channel,
    /// Which of its requests or leases this is about.
    pub lease_id: LeaseId,
    /// Why.
    pub why: Why,
}

/// Why a client is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its request was granted.
    Granted,
    /// It is now the first in line that can see the holders' processes: it shall watch them.
    Watch,
    /// It shall stop, or has lost its lease.
    Stop,
}

//! A lease: the right to use GPUs until a deadline, and its life.
//!
//! ```text
//!             claim             ask to stop
//!   Granted ─────────▶ Held ─────────────────▶ Stopping
//!      │                │ release, expire, seize  │
//!      │ not claimed    ├─────────────────────────┘
//!      ▼                ▼        its processes still live
//!    gone ◀─────────────┴─────────────────────────▶ Draining ──▶ gone
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gpu::GpuIndex;
use crate::ids::{Channel, LeaseId, LeaseRef, Token};
use crate::names::TaskName;
use crate::overdue::Level;
use crate::owner::{Owner, ProcessGroup};
use crate::queue::Priority;
use crate::time::Time;

/// GPUs lent to one owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Its identity, chosen by the client.
    pub lease_id: LeaseId,
    /// Its fencing token.
    pub token: Token,
    /// What the work is called: a label, not an identity.
    pub task: TaskName,
    /// Who holds it.
    pub owner: Owner,
    /// The process group that does the work; `None` if the owner's process does it itself
    /// or has not claimed the lease yet.
    pub group: Option<ProcessGroup>,
    /// The GPUs, in rising order.
    pub gpus: Vec<GpuIndex>,
    /// Who went first.
    pub priority: Priority,
    /// How long it lives without a heartbeat.
    pub term: Term,
    /// See [`Request::supervised`](crate::Request::supervised).
    pub supervised: bool,
    /// When it was granted.
    pub acquired_at: Time,
    /// Where it is in its life.
    pub phase: Phase,
    /// How far the work is, if its holder told.
    pub progress: Option<Progress>,
    /// Where the holder listens for a request to stop.
    pub channel: Option<Channel>,
    /// The level that the monitor has noted; `None` while it is held for no longer than
    /// usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Level>,
}

/// Where a lease is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Granted to a waiter that has not picked it up yet.
    Granted {
        /// When the grant is taken back.
        claim_by: Time,
    },
    /// In use.
    Held {
        /// The last heartbeat.
        renewed_at: Time,
        /// When it expires.
        deadline: Time,
    },
    /// In use, and asked to stop.
    Stopping {
        /// The last heartbeat.
        renewed_at: Time,
        /// When it expires.
        deadline: Time,
        /// Who asked, when and why.
        request: StopRequest,
    },
    /// Over, but its processes are not known to be gone, so the GPUs are not free.
    Draining {
        /// When it ended.
        ended_at: Time,
        /// How it ended.
        how: Ending,
        /// When somebody last saw its processes alive, or `ended_at`.
        seen_alive_at: Time,
        /// How often the monitor has found that it still drains.
        #[serde(default, skip_serializing_if = "is_zero")]
        failures: u32,
    },
}

/// A request to stop, as the holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopRequest {
    /// When it was made.
    pub at: Time,
    /// Why, for people.
    pub reason: String,
}

/// How long a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// So long after each heartbeat.
    Heartbeats(Duration),
    /// So long after the grant, whatever heartbeats say.
    Fixed(Duration),
}

impl Term {
    /// How long after the grant the first deadline lies.
    pub fn span(self) -> Duration {
        match self {
            Self::Heartbeats(span) | Self::Fixed(span) => span,
        }
    }
}

/// How a lease ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its owner gave it back.
    Released,
    /// It ran out.
    Expired(Cause),
    /// Somebody took it away.
    Seized {
        /// Who, for people.
        by: String,
        /// Why, for people.
        reason: String,
    },
}

/// Why a lease ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The deadline passed.
    Deadline,
    /// The kernel said that the holder's process is gone.
    HolderDied,
    /// The waiter never picked up its grant.
    NotClaimed,
}

/// How far the work of a lease is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// Hundredths of a percent, 0 to 10,000.
    pub basis_points: u16,
    /// What the work is doing, for people.
    pub message: String,
}

impl Lease {
    /// What names this lease beyond doubt.
    pub fn reference(&self) -> LeaseRef {
        LeaseRef { lease_id: self.lease_id, token: self.token }
    }

    /// When it ends by itself; `None` when it is over and only waits for processes.
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Granted { claim_by } => Some(claim_by),
            Phase::Held { deadline, .. } | Phase::Stopping { deadline, .. } => Some(deadline),
            Phase::Draining { .. } => None,
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// The last heartbeat, or the grant if there was none.
    pub fn renewed_at(&self) -> Time {
        match self.phase {
            Phase::Held { renewed_at, .. } | Phase::Stopping { renewed_at, .. } => renewed_at,
            Phase::Granted { .. } | Phase::Draining { .. } => self.acquired_at,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

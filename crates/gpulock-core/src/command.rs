//! Everything that can be asked of a pool.

use std::collections::BTreeMap;

use crate::alert::Urgency;
use crate::event::Party;
use crate::gpu::Inventory;
use crate::ids::{LeaseId, LeaseRef};
use crate::lease::Progress;
use crate::names::TaskName;
use crate::overdue::Watch;
use crate::owner::{ProcessGroup, Sight};
use crate::pool::Settings;
use crate::request::Request;
use crate::time::Time;

/// Something asked of a pool. Time comes in beside it, ids and randomness inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Ask for GPUs, and ask again: for what is queued to stay in the queue, for what was
    /// granted to pick it up.
    Acquire(Request),
    /// Stand in the queue without a look at what is free, and then ask: for a request whose
    /// decisions others keep forestalling. It conflicts with nobody.
    Queue(Request),
    /// Say which process group does the work of a supervised lease, just before it begins.
    Claim {
        /// The lease.
        lease: LeaseRef,
        /// The group.
        group: ProcessGroup,
    },
    /// Heartbeats of all leases of one client.
    Renew(Vec<Renewal>),
    /// Give a lease back: its work is over.
    Release(LeaseRef),
    /// Give a lease back whose process is about to end, and may use its GPUs until then.
    Retire(LeaseRef),
    /// Leave the queue, or give back a grant that was not picked up.
    Cancel {
        /// The request.
        lease_id: LeaseId,
        /// Which run gives up, if there are several of the task, see
        /// [`Owner::run`](crate::Owner::run).
        run: Option<u64>,
        /// Why it gave up.
        reason: CancelReason,
        /// How often it has looked again, see [`Request::polls`].
        polls: u32,
    },
    /// Ask a holder to stop.
    AskToStop {
        /// The lease.
        lease: LeaseRef,
        /// Why, for people.
        reason: String,
    },
    /// Take a lease away.
    Seize {
        /// The lease.
        lease: LeaseRef,
        /// Who takes it, for people.
        by: String,
        /// Why, for people.
        reason: String,
        /// What becomes of its processes.
        mode: SeizeMode,
    },
    /// Tell what the kernel says about processes.
    Observe(Evidence),
    /// Tell what went wrong around a lease, so that it is counted and remembered.
    Report {
        /// What went wrong.
        incident: Incident,
        /// The error, for people.
        error: String,
        /// Whose lease it was.
        party: Party,
    },
    /// Let time pass: expire what is due and hand out what is free.
    Tick {
        /// Where the caller looks from; `None` if it cannot see processes.
        sight: Option<Sight>,
    },
    /// Write down an alert that a program raises.
    Raise {
        /// The alert.
        alert: Raised,
        /// The lease under which the program runs, if any.
        party: Option<Party>,
    },
    /// Let time pass, and look after what is held for long. See [`Watch`].
    Patrol {
        /// What is long, and what follows.
        watch: Watch,
        /// Where the caller looks from; `None` if it cannot see processes.
        sight: Option<Sight>,
    },
    /// Say that the store has begun another life, in which it may have forgotten leases.
    Resume {
        /// Names that life.
        incarnation: String,
        /// Every lease that it may have forgotten is over by then.
        closed_until: Time,
    },
    /// Say which GPUs there are and how long things may take.
    Configure {
        /// The cards.
        inventory: Inventory,
        /// The spans.
        settings: Settings,
    },
}

/// A heartbeat of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// The lease.
    pub lease: LeaseRef,
    /// How far the work is; `None` leaves the last word standing.
    pub progress: Option<Progress>,
}

/// What went wrong around a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incident {
    /// Its release was not confirmed at the first attempt.
    NormalReleaseFailure,
    /// It was released on a second way, after the first had failed.
    EmergencyRelease,
    /// The store answered its release with an error.
    ReleaseScriptError,
    /// No release was confirmed: it is left to its deadline.
    CriticalFailure,
}

/// An alert that a program raises in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Raised {
    /// What kind it is: those of one kind are told together.
    pub name: TaskName,
    /// How soon somebody has to look.
    pub urgency: Urgency,
    /// What has happened, for people.
    pub message: String,
    /// What else is known about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Why a waiter left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// It had waited as long as it wanted.
    TimedOut,
    /// It was told to (Ctrl-C, a closed connection).
    GaveUp,
}

/// What a seizure does about the processes of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeizeMode {
    /// The GPUs drain until the processes are gone, where anybody can tell.
    Drain,
    /// The GPUs are free at once, even if processes still use them.
    IgnoreProcesses,
}

/// What a caller on the same kernel and PID namespace saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Whose processes were looked at.
    pub subject: Subject,
    /// Whether the owner's own process lives.
    pub holder_alive: bool,
    /// The group that was looked for: a lease may have claimed one meanwhile.
    pub group: Option<ProcessGroup>,
    /// Whether any process of that group lives; false if there is none.
    pub group_alive: bool,
}

/// Whose processes were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Those of a lease.
    Lease(LeaseRef),
    /// That of a waiter.
    Waiter(LeaseId),
}

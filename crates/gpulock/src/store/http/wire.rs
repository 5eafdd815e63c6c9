//! What client and daemon say to each other, as JSON. Both sides convert at the border, so that
//! nothing else depends on this form.

mod documents;
mod fault;
mod remarks;

use std::collections::BTreeMap;

use gpulock_core::{
    Changes, Channel, Event, Lease, LeaseId, Ledger, Parts, Pool, PoolName, Reply, Step, TaskName,
    TaskRecord, Time, Waiter, Wake, Why,
};
use serde::{Deserialize, Serialize};

use crate::store::{
    Award, Cursor, Entry, Followed, Incarnation, Letter, Swapped, Versions, View, Write,
};

pub use documents::{WireDocument, WireDocumentNews, WireDocumentSwap, WireDocumentWrite};
pub use fault::Fault;
pub use remarks::RemarkBody;

/// Where the paths of the store begin.
pub const ROOT: &str = "/api/v1/store";

/// Member of a problem document that says what the daemon's own store complained about.
pub const FAULT_MEMBER: &str = "store_error";

/// Which form this is. A daemon that speaks another one is refused in words.
pub const FORMAT: u32 = 1;

/// The header in which both sides say it.
pub const FORMAT_HEADER: &str = "gpulock-format";

/// A waiter with what stores keep beside its body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireWaiter {
    waiter: Waiter,
    seen_at: Time,
    arrival: u64,
}

/// One consistent picture of a pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireView {
    ledger: Ledger,
    leases: Vec<Lease>,
    window: Vec<WireWaiter>,
    asker: Option<WireWaiter>,
    queue_len: u64,
    versions: WireVersions,
    now: Time,
    ahead: Option<u64>,
    incarnation: Option<WireIncarnation>,
}

/// The versions of the two parts of a record, as text: they need not fit the numbers of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireVersions {
    leases: String,
    queue: String,
}

/// One life of the daemon's store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireIncarnation {
    id: String,
    since: Time,
    waits: bool,
}

/// A step to be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireWrite {
    expected: WireVersions,
    reads_leases: bool,
    reads_queue: bool,
    not_before: Option<Time>,
    not_after: Option<Time>,
    unless_leased: Option<LeaseId>,
    ledger: Option<Ledger>,
    leases: BTreeMap<LeaseId, Option<Lease>>,
    waiters: BTreeMap<LeaseId, Option<WireWaiter>>,
    events: Vec<Event>,
    wake: Vec<WireWake>,
    gives_time: bool,
    asking: Option<LeaseId>,
    incarnation: Option<WireIncarnation>,
}

/// A hint to one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireWake {
    channel: Channel,
    lease_id: LeaseId,
    why: WireWhy,
}

/// Why a client is woken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireWhy {
    /// See [`Why::Granted`].
    Granted,
    /// See [`Why::Watch`].
    Watch,
    /// See [`Why::Stop`].
    Stop,
}

/// What became of a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireSwapped {
    /// It is written.
    Written {
        /// The expected versions, those of the changed parts raised.
        versions: WireVersions,
        /// The store's time at which it was written.
        now: Time,
    },
    /// Somebody else was first: this is the present picture.
    Conflict(Box<WireView>),
}

/// An entry of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireEntry {
    cursor: Cursor,
    event: Event,
}

/// A piece of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireFollowed {
    entries: Vec<WireEntry>,
    is_gapless: bool,
}

/// A list, under a name of its own so that more can come beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct List<T> {
    /// What it holds.
    pub items: Vec<T>,
}

/// The waiters of a pool.
pub type WireWaiters = List<WireWaiter>;
/// The entries of a journal.
pub type WireEntries = List<WireEntry>;
/// The pools of a store.
pub type WirePools = List<PoolName>;
/// What the daemon's own store says of itself.
pub type WireRemarks = List<RemarkBody>;
/// What is remembered of tasks.
pub type WireTasks = List<TaskRecord>;

/// A read on behalf of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// Which.
    pub lease_id: LeaseId,
}

/// Which task is to be forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// Which.
    pub task_id: TaskName,
}

/// Whether there was something to forget.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forgotten {
    /// Whether there was.
    pub was_there: bool,
}

/// Opens a mailbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// The address that it had before its connection broke: requests and leases carry it.
    /// `None` at the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
}

/// A line of a mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first line: whose mailbox this is.
    Open {
        /// The address that requests and leases carry.
        channel: Channel,
        /// At least so often comes a line, in milliseconds.
        keep_alive_millis: u64,
    },
    /// A wake-up.
    Wake {
        /// Which request or lease it is about.
        lease_id: LeaseId,
        /// Why.
        why: WireWhy,
    },
    /// This request was granted.
    Award {
        /// The lease.
        lease: Box<Lease>,
        /// The ledger after the grant.
        ledger: Box<Ledger>,
        /// The version of the leases after the grant.
        version: String,
    },
    /// Letters may be lost.
    Gap,
    /// The daemon is still there.
    Alive,
}

impl From<Waiter> for WireWaiter {
    fn from(waiter: Waiter) -> Self {
        Self { seen_at: waiter.seen_at, arrival: waiter.arrival, waiter }
    }
}

impl From<WireWaiter> for Waiter {
    fn from(wire: WireWaiter) -> Self {
        Self { seen_at: wire.seen_at, arrival: wire.arrival, ..wire.waiter }
    }
}

impl From<Versions> for WireVersions {
    fn from(versions: Versions) -> Self {
        Self { leases: versions.leases.to_string(), queue: versions.queue.to_string() }
    }
}

impl TryFrom<WireVersions> for Versions {
    type Error = std::num::ParseIntError;

    fn try_from(wire: WireVersions) -> Result<Self, Self::Error> {
        Ok(Self { leases: wire.leases.parse()?, queue: wire.queue.parse()? })
    }
}

impl From<Incarnation> for WireIncarnation {
    fn from(Incarnation { id, since, waits }: Incarnation) -> Self {
        Self { id, since, waits }
    }
}

impl From<WireIncarnation> for Incarnation {
    fn from(WireIncarnation { id, since, waits }: WireIncarnation) -> Self {
        Self { id, since, waits }
    }
}

impl From<View> for WireView {
    fn from(view: View) -> Self {
        let View { pool, versions, now, ahead, incarnation } = view;
        Self {
            ledger: pool.ledger,
            leases: pool.leases,
            window: pool.window.into_iter().map(WireWaiter::from).collect(),
            asker: pool.asker.map(WireWaiter::from),
            queue_len: pool.queue_len,
            versions: versions.into(),
            now,
            ahead,
            incarnation: incarnation.map(WireIncarnation::from),
        }
    }
}

impl TryFrom<WireView> for View {
    type Error = std::num::ParseIntError;

    fn try_from(wire: WireView) -> Result<Self, Self::Error> {
        let pool = Pool {
            ledger: wire.ledger,
            leases: wire.leases,
            window: wire.window.into_iter().map(Waiter::from).collect(),
            asker: wire.asker.map(Waiter::from),
            queue_len: wire.queue_len,
        };
        Ok(Self {
            pool,
            versions: wire.versions.try_into()?,
            now: wire.now,
            ahead: wire.ahead,
            incarnation: wire.incarnation.map(Incarnation::from),
        })
    }
}

impl From<Write<'_>> for WireWrite {
    fn from(write: Write<'_>) -> Self {
        let Changes { reads, not_before, not_after, unless_leased, ledger, leases, waiters } =
            write.step.changes.clone();
        let waiters = waiters.into_iter().map(|(id, waiter)| (id, waiter.map(WireWaiter::from)));
        Self {
            expected: write.expected.into(),
            reads_leases: reads.leases,
            reads_queue: reads.queue,
            not_before,
            not_after,
            unless_leased,
            ledger,
            leases,
            waiters: waiters.collect(),
            events: write.step.events.clone(),
            wake: write.step.wake.iter().cloned().map(WireWake::from).collect(),
            gives_time: write.step.reply.gives_time(),
            asking: write.asking,
            incarnation: write.incarnation.cloned().map(WireIncarnation::from),
        }
    }
}

/// A write as the daemon hands it to its store.
#[derive(Debug)]
pub struct OwnedWrite {
    expected: Versions,
    /// Changes, events and wake-ups.
    pub step: Step,
    asking: Option<LeaseId>,
    incarnation: Option<Incarnation>,
}

impl OwnedWrite {
    /// As stores take it.
    pub fn to_pool<'a>(&'a self, pool: &'a PoolName) -> Write<'a> {
        let Self { expected, step, asking, incarnation } = self;
        let incarnation = incarnation.as_ref();
        Write { pool, expected: *expected, step, asking: *asking, incarnation }
    }
}

impl TryFrom<WireWrite> for OwnedWrite {
    type Error = std::num::ParseIntError;

    fn try_from(wire: WireWrite) -> Result<Self, Self::Error> {
        let waiters = wire.waiters.into_iter().map(|(id, waiter)| (id, waiter.map(Waiter::from)));
        let changes = Changes {
            reads: Parts { leases: wire.reads_leases, queue: wire.reads_queue },
            not_before: wire.not_before,
            not_after: wire.not_after,
            unless_leased: wire.unless_leased,
            ledger: wire.ledger,
            leases: wire.leases,
            waiters: waiters.collect(),
        };
        // All that a store asks of the reply is whether somebody uses GPUs because of it.
        let reply = if wire.gives_time { Reply::Renewed(Vec::new()) } else { Reply::Done };
        let step = Step {
            reply,
            events: wire.events,
            changes,
            wake: wire.wake.into_iter().map(Wake::from).collect(),
            again: false,
            next_deadline: None,
        };
        Ok(Self {
            expected: wire.expected.try_into()?,
            step,
            asking: wire.asking,
            incarnation: wire.incarnation.map(Incarnation::from),
        })
    }
}

impl From<Wake> for WireWake {
    fn from(Wake { channel, lease_id, why }: Wake) -> Self {
        Self { channel, lease_id, why: why.into() }
    }
}

impl From<WireWake> for Wake {
    fn from(WireWake { channel, lease_id, why }: WireWake) -> Self {
        Self { channel, lease_id, why: why.into() }
    }
}

impl From<Why> for WireWhy {
    fn from(why: Why) -> Self {
        match why {
            Why::Granted => Self::Granted,
            Why::Watch => Self::Watch,
            Why::Stop => Self::Stop,
        }
    }
}

impl From<WireWhy> for Why {
    fn from(wire: WireWhy) -> Self {
        match wire {
            WireWhy::Granted => Self::Granted,
            WireWhy::Watch => Self::Watch,
            WireWhy::Stop => Self::Stop,
        }
    }
}

impl From<Swapped> for WireSwapped {
    fn from(swapped: Swapped) -> Self {
        match swapped {
            Swapped::Written { versions, now } => Self::Written { versions: versions.into(), now },
            Swapped::Conflict(view) => Self::Conflict(Box::new((*view).into())),
        }
    }
}

impl TryFrom<WireSwapped> for Swapped {
    type Error = std::num::ParseIntError;

    fn try_from(wire: WireSwapped) -> Result<Self, Self::Error> {
        Ok(match wire {
            WireSwapped::Written { versions, now } => {
                Self::Written { versions: versions.try_into()?, now }
            }
            WireSwapped::Conflict(view) => Self::Conflict(Box::new((*view).try_into()?)),
        })
    }
}

impl From<Entry> for WireEntry {
    fn from(Entry { cursor, event }: Entry) -> Self {
        Self { cursor, event }
    }
}

impl From<WireEntry> for Entry {
    fn from(WireEntry { cursor, event }: WireEntry) -> Self {
        Self { cursor, event }
    }
}

impl From<Followed> for WireFollowed {
    fn from(Followed { entries, is_gapless }: Followed) -> Self {
        Self { entries: entries.into_iter().map(WireEntry::from).collect(), is_gapless }
    }
}

impl From<WireFollowed> for Followed {
    fn from(WireFollowed { entries, is_gapless }: WireFollowed) -> Self {
        Self { entries: entries.into_iter().map(Entry::from).collect(), is_gapless }
    }
}

impl<T> List<T> {
    /// Of these.
    pub fn of(items: impl IntoIterator<Item = impl Into<T>>) -> Self {
        Self { items: items.into_iter().map(Into::into).collect() }
    }
}

impl From<Letter> for Line {
    fn from(letter: Letter) -> Self {
        match letter {
            Letter::WakeUp(lease_id, why) => Self::Wake { lease_id, why: why.into() },
            Letter::SomeMayBeLost => Self::Gap,
            Letter::Awarded(award) => {
                let Award { lease, ledger, version } = *award;
                let (lease, ledger) = (Box::new(lease), Box::new(ledger));
                Self::Award { lease, ledger, version: version.to_string() }
            }
        }
    }
}

impl Line {
    /// The letter that it brings, if it brings one.
    pub fn into_letter(self) -> Option<Letter> {
        match self {
            Self::Open { .. } | Self::Alive => None,
            Self::Gap => Some(Letter::SomeMayBeLost),
            Self::Wake { lease_id, why } => Some(Letter::WakeUp(lease_id, why.into())),
            Self::Award { lease, ledger, version } => {
                let version = version.parse().ok()?;
                let award = Award { lease: *lease, ledger: *ledger, version };
                Some(Letter::Awarded(Box::new(award)))
            }
        }
    }
}

//! What a store is: a versioned record of each pool, a journal of what happened, and a way
//! to wake waiters. It knows nothing of the rules.
//!
//! # The contract
//!
//! 1. [`Store::read`] gives one consistent picture of a pool: record, versions and the
//!    store's time belong together. A pool that nobody has written yet is empty, at
//!    versions 0.
//! 2. [`Store::swap`] writes everything it is given (record, events, running sums) or
//!    nothing. It writes only if every part that the decision [read](Parts) still has the
//!    expected version, the store's clock has reached [`Changes::not_before`] but not
//!    [`Changes::not_after`], and there is no lease [`Changes::unless_leased`]; otherwise it answers with the present picture. A write raises
//!    the version of each part that it changes, to a number that the part never had, not
//!    even in a record that the store has lost. Ledger and leases are one part, the queue
//!    is the other. Every step reads the first part, so its version orders the journal.
//! 3. A waiter gets its arrival number when it is written, larger than that of everybody
//!    in the queue. Writing a waiter that is already queued leaves it where it is, so
//!    those who join at the same time do not disturb each other and joining twice is safe.
//! 4. Reading on behalf of a waiter stamps it as seen, without raising a version.
//! 5. Wake-ups are sent after the write, at most once, and may be lost. No promise hangs
//!    on one. A mailbox that was lost can be opened again under its address.
//! 6. A write whose reply is lost may have happened or not. The caller asks again, which
//!    is safe because it chose the lease id.
//! 7. A store that can come back without its latest writes says which life of it answers
//!    ([`Incarnation`]), and writes nothing that was decided on a picture of another.
//! 8. Every entry of the journal has a [`Cursor`], larger than those of all that were written
//!    to the pool before it. [`Store::follow`] gives what came after one, in order, and says
//!    so if something of that is no longer there. The latest ten thousand or so are kept.
//! 9. What is remembered of a task ([`TaskRecord`]) is the last sign of life that was written,
//!    with times of the store's clock. It is no part of the pool's record: it raises no
//!    version, has no entry in the journal, and does not make a pool. At most
//!    [`TASK_RECORD_CAP`] are kept of a pool; a new one pushes out the one that has been silent
//!    longest.
//! 10. An error says whether trying again can help ([`StoreError::is_transient`]). A store
//!     that is damaged, foreign or newer is refused and left as it is.
//! 11. A document is a text under a name, up to [`DOCUMENT_CAP`]; a larger one is refused before
//!     anything is written. [`Store::swap_document`] writes the whole text, if the document
//!     still has the expected version, or nothing; otherwise it answers with the present one.
//!     A version is a number that the document never had, not even in what the store has lost;
//!     before the first write it is 0. A write whose reply is lost may have happened or not:
//!     whoever asks again hears of a conflict, and sees its own text if it did. Documents are
//!     no part of any pool: they raise no version, make no pool and have no journal.
//!
//! The suite `gpulock::conformance` (feature `conformance`) tests each promise by name on
//! any store.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use gpulock_core::{
    Changes, Channel, Lease, LeaseId, Ledger, Parts, Pool, PoolName, Step, TaskBeat, TaskName,
    TaskRecord, Time, Waiter, Wake, Why,
};

mod document;
#[cfg(feature = "conformance")]
pub mod faulty;
#[cfg(feature = "http")]
pub mod http;
mod journal;
mod lock_keys;
pub mod memory;
#[cfg(any(feature = "http", feature = "redis"))]
mod pem;
#[cfg(feature = "redis")]
pub mod redis;
mod remark;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "http", feature = "redis"))]
mod tls_trouble;

pub use document::{DOCUMENT_CAP, Document, DocumentName, DocumentNews, DocumentSwap};
pub use journal::{Cursor, Entry, Followed, NotACursor, Wanted};
pub use lock_keys::{Claim, LockKeys, Releases, Taken};
pub use remark::{Remark, Verdict};

/// How many tasks of a pool are remembered.
pub const TASK_RECORD_CAP: usize = 10_000;

/// A place that keeps pools. See the [module](self) for the contract.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The present picture of a pool, on behalf of a request that may be in its queue.
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError>;

    /// Writes what a step changed, if what it was based on still holds.
    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError>;

    /// Opens a mailbox for wake-ups. One process needs only one.
    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError>;

    /// Opens a mailbox again that was lost, under the address that it had: requests and leases
    /// carry it. One that is no address of this store is passed over.
    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError>;

    /// The first `limit` waiters of a pool, in order.
    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError>;

    /// What happened in a pool, the latest first.
    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError>;

    /// The first `limit` entries of a pool's journal after this place, the oldest first.
    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError>;

    /// Writes a sign of life of a task, and answers with what is remembered of it from now on.
    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError>;

    /// What is remembered of the tasks of a pool, the latest sign of life first.
    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError>;

    /// Forgets a task. `false` if nothing was remembered of it.
    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError>;

    /// A text that is kept under a name, with its version and the store's time.
    async fn document(&self, name: &DocumentName) -> Result<Document, StoreError> {
        Ok(match self.document_since(name, 0).await? {
            DocumentNews::Unchanged { now } => Document::never_written(now),
            DocumentNews::Changed(document) => document,
        })
    }

    /// The same, unless it still has the version that is known: then it is not sent again.
    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError>;

    /// Writes a text if the document still has the expected version; answers with the present
    /// one otherwise.
    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError>;

    /// The pools that were ever written, in the order of their names.
    async fn pools(&self) -> Result<Vec<PoolName>, StoreError>;

    /// Who can reach this store.
    fn scope(&self) -> Scope;

    /// What about the store as it is set up could cost a lease, for people.
    async fn examine(&self) -> Vec<Remark>;

    /// The lock keys of an older system beside this store, if there can be any.
    fn lock_keys(&self) -> Option<Arc<dyn LockKeys>> {
        None
    }

    /// Lets go of everything that must not be carried over a fork of this process, and keeps
    /// callers waiting until [`Store::go_on`]. To be called just before a fork by a program
    /// that goes on using this store in the parent; the child opens a store of its own.
    fn hold_still(&self) {}

    /// Goes on after [`Store::hold_still`].
    fn go_on(&self) {}
}

/// One consistent picture of a pool.
#[derive(Clone, Debug)]
pub struct View {
    /// The record as the rules look at it.
    pub pool: Pool,
    /// The versions of its parts.
    pub versions: Versions,
    /// The store's time at which the picture was true.
    pub now: Time,
    /// How many wait before the request on whose behalf it was read; `None` if that one is
    /// not in the queue.
    pub ahead: Option<u64>,
    /// Which life of the store gave it; `None` if the store forgets nothing.
    pub incarnation: Option<Incarnation>,
}

/// One life of a store that can come back without its latest writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// Names it: another one has another name.
    pub id: String,
    /// When it began, on the store's clock, or somewhat later: what was lent before may be
    /// forgotten.
    pub since: Time,
    /// Whether requests wait until no forgotten lease can still run; if not, they are
    /// refused until then.
    pub waits: bool,
}

/// The versions of the two parts of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of ledger and leases.
    pub leases: u64,
    /// Of the queue.
    pub queue: u64,
}

impl Versions {
    /// Whether every part that was read still is what it was.
    pub fn still_hold(self, present: Self, reads: Parts) -> bool {
        (!reads.leases || self.leases == present.leases)
            && (!reads.queue || self.queue == present.queue)
    }

    /// The versions after these changes, where each write counts one.
    #[must_use]
    pub fn after(self, changes: &Changes) -> Self {
        let leases = changes.ledger.is_some() || !changes.leases.is_empty();
        let queue = !changes.waiters.is_empty();
        Self { leases: self.leases + u64::from(leases), queue: self.queue + u64::from(queue) }
    }
}

/// A step to be written.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Which pool.
    pub pool: &'a PoolName,
    /// The versions that the step was based on.
    pub expected: Versions,
    /// Changes, events and wake-ups.
    pub step: &'a Step,
    /// On whose behalf to look if the write comes too late.
    pub asking: Option<LeaseId>,
    /// Which life of the store gave the picture: no other one writes this.
    pub incarnation: Option<&'a Incarnation>,
}

impl Write<'_> {
    /// Whether the decision still holds at this moment of the store's clock.
    pub fn is_in_time(&self, now: Time) -> bool {
        let Changes { not_before, not_after, .. } = self.step.changes;
        not_before.is_none_or(|moment| now >= moment) && not_after.is_none_or(|moment| now < moment)
    }
}

/// What became of a write.
#[derive(Debug)]
pub enum Swapped {
    /// It is written.
    Written {
        /// The expected versions, those of the changed parts raised.
        versions: Versions,
        /// The store's time at which it was written.
        now: Time,
    },
    /// Somebody else was first: this is the present picture.
    Conflict(Box<View>),
}

/// Who can reach a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Processes of one host: what belongs to an earlier boot is dead.
    Host,
    /// Any host.
    Network,
}

/// Receives the wake-ups of one process.
#[async_trait]
pub trait Mailbox: fmt::Debug + Send {
    /// The address that requests and leases of this process carry.
    fn channel(&self) -> Channel;

    /// The next letter.
    async fn next(&mut self) -> Result<Letter, StoreError>;
}

/// A grant, and as much of the pool as it takes to pick it up without another look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Award {
    /// The lease.
    pub lease: Lease,
    /// The ledger after the grant.
    pub ledger: Ledger,
    /// The version of the leases after the grant.
    pub version: u64,
}

/// What comes into a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// Which request or lease it is about, and why.
    WakeUp(LeaseId, Why),
    /// This request was granted.
    Awarded(Box<Award>),
    /// The mailbox was out of reach for a while: everybody had better look.
    SomeMayBeLost,
}

/// Why a store did not do what it was asked to. Nothing was written unless the reply was
/// lost on the way ([`StoreError::Unavailable`]).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or not in time.
    #[error("the store {place} cannot be reached: {reason}")]
    Unavailable {
        /// Which store.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// Somebody else kept the store busy for too long.
    #[error("the store {0} is kept busy by another process")]
    Busy(String),
    /// The store's memory is full. What is held can still be renewed and given back.
    #[error("the store {0} takes nothing new: its memory is full")]
    OutOfMemory(String),
    /// Too few replicas confirmed the write in time.
    #[error("the store {place} did not confirm the write: {reached} of {wanted} replicas have it")]
    NotReplicated {
        /// Which store.
        place: String,
        /// How many must have it.
        wanted: u32,
        /// How many are known to.
        reached: u32,
    },
    /// The disk has no room left.
    #[error("the store {0} cannot be written: no space is left on its disk")]
    Full(String),
    /// A text is longer than any that is kept.
    #[error("the document `{name}` is too large: it has {actual} bytes, a store keeps {limit}")]
    TooLarge {
        /// Which document.
        name: String,
        /// The limit in bytes.
        limit: usize,
        /// The length in bytes.
        actual: usize,
    },
    /// The server is there and does not let us in, or does not do what it is told.
    #[error("the store {place} turns us away: {reason}")]
    Refused {
        /// Which store.
        place: String,
        /// What it said.
        reason: String,
    },
    /// The store's folder or file may not be written.
    #[error("the store {place} cannot be used: {reason}")]
    NotWritable {
        /// Which store.
        place: String,
        /// What is not allowed.
        reason: String,
    },
    /// The file is not whole.
    #[error("the store {place} is damaged: {reason}")]
    Damaged {
        /// Which store.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What the store holds is not what gpulock writes.
    #[error("the store {place} holds what gpulock did not write: {reason}")]
    Unreadable {
        /// Which store.
        place: String,
        /// What is odd.
        reason: String,
    },
    /// The file belongs to another program.
    #[error("{0} is not a gpulock store")]
    Foreign(String),
    /// The file was written by a newer gpulock.
    #[error("the store {place} has format {found}, this gpulock knows formats up to {known}")]
    Newer {
        /// Which store.
        place: String,
        /// The format of the file.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The file was removed or replaced while it was in use.
    #[error("the store {0} was removed or replaced while it was in use")]
    Replaced(PathBuf),
    /// The URL names no store that this program has.
    #[error("{url} is not a store that this gpulock can use: {reason}")]
    BadUrl {
        /// The URL, without its password.
        url: String,
        /// Why not.
        reason: String,
    },
}

impl StoreError {
    /// Whether trying again soon can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy(_))
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unavailable { .. } => "`gpulock doctor` looks at the store and says what is wrong".to_owned(),
            Self::Busy(_) => "a process may be stopped in the middle of a write: `fuser -v` on the file lists who has it open".to_owned(),
            Self::OutOfMemory(_) => "raise `maxmemory` of the Redis server, or move what else is in it elsewhere; `gpulock doctor` shows both".to_owned(),
            Self::NotReplicated { .. } => "look at `INFO replication` of the master; `min_replicas` in the store's URL says how many replicas must have each write".to_owned(),
            Self::Full(_) => "free some space on that disk; leases that are held end at their deadlines".to_owned(),
            Self::TooLarge { .. } => "nothing was written; take out of it what is no longer needed".to_owned(),
            Self::Refused { place, .. } if place.contains("http") => "look at the token and at `server.tokens` of the `gpulock serve` there, which lists tokens with their roles; to change anything takes the role `operate`".to_owned(),
            Self::Refused { .. } => "look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed".to_owned(),
            Self::NotWritable { .. } => {
                "make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH".to_owned()
            }
            Self::Damaged { place, .. } => format!(
                "stop everything that uses it and move {place} and the files beside it that begin with its name to a safe place; the next command starts a new store"
            ),
            Self::Unreadable { .. } => "another program may use keys that begin with `gpulock:`; choose another database or a prefix=… in the store's URL".to_owned(),
            Self::Foreign(_) => "choose another file with --store sqlite:///PATH; this one was left as it is".to_owned(),
            Self::Newer { .. } => "upgrade this gpulock; the store was left as it is".to_owned(),
            Self::Replaced(_) => "leases in the old file are lost to newcomers: let running work end, then start again".to_owned(),
            Self::BadUrl { .. } => "stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:".to_owned(),
        })
    }
}

/// A wake-up as it is sent: one line of text.
pub(crate) mod letter {
    use super::{LeaseId, Letter, Why};

    /// In bytes.
    #[cfg(feature = "sqlite")]
    pub(crate) const MAX_LEN: usize = 64;

    pub(crate) fn write(lease_id: LeaseId, why: Why) -> String {
        let why = match why {
            Why::Granted => "granted",
            Why::Watch => "watch",
            Why::Stop => "stop",
        };
        format!("{lease_id} {why}")
    }

    /// `None` for anything that is not a letter: anybody on the host can send one.
    pub(crate) fn read(text: &[u8]) -> Option<Letter> {
        let (lease_id, why) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let why = match why {
            "granted" => Why::Granted,
            "watch" => Why::Watch,
            "stop" => Why::Stop,
            _ => return None,
        };
        Some(Letter::WakeUp(lease_id.parse().ok()?, why))
    }
}

/// Sends wake-ups with `send`, which may fail: they are hints.
pub(crate) fn send_letters(wake: &[Wake], mut send: impl FnMut(&Channel, &str)) {
    for wake in wake {
        send(&wake.channel, &letter::write(wake.lease_id, wake.why));
    }
}

/// Task records in the order in which [`Store::tasks`] gives them.
pub(crate) fn latest_first(records: &mut [TaskRecord]) {
    records.sort_by(|one, other| {
        let by_time = other.updated_at.cmp(&one.updated_at);
        by_time.then_with(|| one.task_id.cmp(&other.task_id))
    });
}

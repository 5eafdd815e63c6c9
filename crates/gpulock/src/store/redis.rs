//! The store on Redis 6.2 or newer and compatible servers: many hosts, one ledger.
//!
//! - **Atomic.** A step is one script, which knows nothing of leases: it compares versions
//!   and writes fields. The rules stay in `gpulock-core`.
//! - **Its clock** is the server's (`TIME`), and never goes back.
//! - **Wake-ups** are messages to the channel of the process that was granted something.
//! - **Two connections** for each process, however many leases and waiters it has: one for
//!   calls, one that listens. Both come back by themselves.
//! - **A server that came back** may have forgotten the latest writes. It is known by its
//!   run id, and unless it keeps a log of its writes the rules lend nothing until every
//!   lease that it may have forgotten is over ([`Incarnation`](super::Incarnation)).

mod address;
mod dial;
mod documents;
mod examine;
mod info;
mod journal;
mod keys;
mod link;
mod lock_keys;
mod mailbox;
mod reply;
mod server;
mod tasks;
mod trouble;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use gpulock_core::{
    Channel, LOOK_AHEAD, LeaseId, PoolName, TaskBeat, TaskName, TaskRecord, Waiter, Why,
};
use redis::Cmd;
use serde::Serialize;

use self::address::Address;
pub use self::address::AfterRestart;
use self::keys::Keys;
use self::link::{Answered, Link, Script};
use self::lock_keys::RedisLockKeys;
use self::mailbox::Subscription;
use self::reply::Wrong;
use super::{
    Cursor, DocumentName, DocumentNews, DocumentSwap, Entry, Followed, LockKeys, Mailbox, Remark,
    Scope, Store, StoreError, Swapped, TASK_RECORD_CAP, View, Wanted, Write, document, letter,
};

/// About how many events are kept of each pool.
const JOURNAL_CAP: usize = 10_000;

static READ: LazyLock<Script> = LazyLock::new(|| script(include_str!("redis/read.lua")));

static SWAP: LazyLock<Script> = LazyLock::new(|| script(include_str!("redis/swap.lua")));

/// A script with what all of them begin with.
fn script(text: &str) -> Script {
    let picture = include_str!("redis/picture.lua");
    let format = reply::FORMAT;
    Script::new(format!(
        "local LOOK_AHEAD, JOURNAL_CAP, FORMAT = {LOOK_AHEAD}, {JOURNAL_CAP}, {format}\n\
         local TASK_RECORD_CAP = {TASK_RECORD_CAP}\n{picture}{text}"
    ))
}

/// Keeps pools on a Redis server, behind Sentinels, or in a cluster.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    keys: Keys,
}

impl RedisStore {
    /// The store that a URL names. The first call connects.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if the URL does not make sense.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        let keys = Keys::new(&address.prefix);
        Ok(Self { link: Arc::new(Link::new(address)), keys })
    }

    async fn picture(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        let mut call = READ.call(&self.keys.record(pool));
        call.arg(id_or_nothing(asking));
        let answered = self.link.run(&READ, call).await?;
        self.view(answered)
    }

    fn view(&self, answered: Answered) -> Result<View, StoreError> {
        let Answered { value, server } = answered;
        let mut view = reply::picture(value).map_err(|wrong| self.misread(wrong))?;
        view.incarnation = server.incarnation(&view);
        Ok(view)
    }

    /// The index of pools stands in another slot than the pools themselves, so it is written
    /// first: a pool that is there is always listed.
    async fn list_before_first_write(&self, write: &Write<'_>) -> Result<(), StoreError> {
        if write.expected.leases == 0 && write.expected.queue == 0 {
            let mut add = redis::cmd("SADD");
            add.arg(self.keys.pools()).arg(write.pool.as_str());
            self.link.ask(add).await?;
        }
        Ok(())
    }

    fn misread(&self, wrong: Wrong) -> StoreError {
        let place = self.link.place().to_owned();
        match wrong {
            Wrong::Newer(found) => StoreError::Newer { place, found, known: reply::FORMAT },
            Wrong::Odd(reason) => StoreError::Unreadable { place, reason },
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        self.picture(pool, asking).await
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        self.list_before_first_write(&write).await?;
        let line = self.link.line().await?;
        if write.incarnation.is_some_and(|decided_in| !line.server.is(&decided_in.id)) {
            let present = self.picture(write.pool, write.asking).await?;
            return Ok(Swapped::Conflict(Box::new(present)));
        }
        let answered = self.link.run_on(&line, &SWAP, swap_call(&self.keys, &write)).await?;
        if write.step.reply.gives_time() {
            // Whoever gets less by a fail-over than it was told would not know.
            self.link.confirm(&line).await?;
        }
        match reply::written(&answered.value, write.expected) {
            Some((versions, now)) => Ok(Swapped::Written { versions, now }),
            None => Ok(Swapped::Conflict(Box::new(self.view(answered)?))),
        }
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        let channel = self.keys.channel();
        Ok(Box::new(Subscription::open(self.link.address(), channel).await?))
    }

    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError> {
        match self.keys.has_channel(channel) {
            true => Ok(Box::new(Subscription::open(self.link.address(), channel.clone()).await?)),
            false => self.open_mailbox().await,
        }
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.keys.waiters(pool));
        let answer = self.link.ask(all).await?;
        let mut waiters = reply::waiters(answer.value).map_err(|wrong| self.misread(wrong))?;
        waiters.sort_by_key(Waiter::order);
        waiters.truncate(limit);
        Ok(waiters)
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        self.entries(pool, wanted).await
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        self.entries_after(pool, after, limit).await
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        self.write_beat(pool, beat).await
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        self.task_records(pool).await
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        self.forget_task(pool, task_id).await
    }

    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        self.document_news(name, known).await
    }

    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        document::require_fits(name, text)?;
        self.write_document(name, expected, text).await
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.keys.pools());
        let answer = self.link.ask(members).await?;
        let mut pools = reply::pools(answer.value).map_err(|wrong| self.misread(wrong))?;
        pools.sort();
        Ok(pools)
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    async fn examine(&self) -> Vec<Remark> {
        examine::examine(self).await
    }

    fn lock_keys(&self) -> Option<Arc<dyn LockKeys>> {
        Some(Arc::new(RedisLockKeys::new(Arc::clone(&self.link))))
    }
}

/// The call of `swap.lua` that writes this step.
fn swap_call(keys: &Keys, write: &Write<'_>) -> Cmd {
    let Write { pool, expected, step, asking, .. } = write;
    let changes = &step.changes;
    let mut call = SWAP.call(&keys.record_and_journal(pool));
    let read = |part: bool, version: u64| if part { version.to_string() } else { String::new() };
    // What begins with a deletion is written also where memory is full.
    let drops = changes.leases.values().any(Option::is_none);
    let moment = |time: Option<gpulock_core::Time>| {
        time.map(|time| time.as_micros().to_string()).unwrap_or_default()
    };
    call.arg(read(changes.reads.leases, expected.leases))
        .arg(read(changes.reads.queue, expected.queue))
        .arg(moment(changes.not_before))
        .arg(moment(changes.not_after))
        .arg(id_or_nothing(changes.unless_leased))
        .arg(if step.needs_room() || drops { "" } else { "full" })
        .arg(id_or_nothing(*asking));
    for (lease_id, _) in changes.leases.iter().filter(|(_, lease)| lease.is_none()) {
        call.arg("drop").arg(lease_id.to_string());
    }
    for event in &step.events {
        call.arg("event").arg(json(event));
    }
    if let Some(ledger) = &changes.ledger {
        call.arg("ledger").arg(json(ledger));
    }
    for (lease_id, lease) in &changes.leases {
        if let Some(lease) = lease {
            call.arg("put").arg(lease_id.to_string()).arg(json(lease));
        }
    }
    for (lease_id, waiter) in &changes.waiters {
        match waiter {
            Some(waiter) => call
                .arg("join")
                .arg(lease_id.to_string())
                .arg(waiter.wants.lane())
                .arg(waiter.priority.rank())
                .arg(waiter.seen_at.as_micros())
                .arg(json(waiter)),
            None => call.arg("leave").arg(lease_id.to_string()),
        };
    }
    for wake in &step.wake {
        let award = wake.why == Why::Granted
            && changes.ledger.is_some()
            && matches!(changes.leases.get(&wake.lease_id), Some(Some(_)));
        call.arg(if award { "award" } else { "wake" })
            .arg(&wake.channel.0)
            .arg(letter::write(wake.lease_id, wake.why));
        if award {
            call.arg(wake.lease_id.to_string());
        }
    }
    call
}

fn id_or_nothing(asking: Option<LeaseId>) -> String {
    asking.map(|lease_id| lease_id.to_string()).unwrap_or_default()
}

fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body)
        .unwrap_or_else(|error| unreachable!("records are plain data: {error}"))
}

//! The store in memory: for tests, and as the plainest example of a store.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gpulock_core::{
    Channel, LeaseId, PoolName, Record, TaskBeat, TaskName, TaskRecord, Time, Waiter,
};
use tokio::sync::mpsc;

use super::{
    Cursor, Document, DocumentName, DocumentNews, DocumentSwap, Entry, Followed, Letter, Mailbox,
    Remark, Scope, Store, StoreError, Swapped, TASK_RECORD_CAP, Versions, View, Wanted, Write,
    document, latest_first, letter, send_letters,
};
use crate::clock::wall_time;

/// Events that are kept of each pool.
const JOURNAL_CAP: usize = 10_000;

/// Keeps pools in the memory of this process. Clones share the same pools.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    pools: BTreeMap<PoolName, Shelf>,
    tasks: HashMap<PoolName, HashMap<TaskName, TaskRecord>>,
    /// Each with its version.
    documents: HashMap<DocumentName, (u64, String)>,
    mailboxes: HashMap<String, mpsc::UnboundedSender<String>>,
    opened: u64,
    /// How far the store's clock is ahead of the host's.
    ahead: Duration,
    /// The latest time that it showed: it never goes back.
    latest: Time,
}

#[derive(Debug, Default)]
struct Shelf {
    record: Record,
    versions: Versions,
    journal: VecDeque<Entry>,
    /// How many entries the journal ever had. The number of an entry is its place.
    told: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the store's clock jump forward, so that a test need not wait.
    pub fn advance(&self, span: Duration) {
        self.lock().ahead += span;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&mut self) -> Time {
        self.latest = self.latest.max(wall_time() + self.ahead);
        self.latest
    }

    fn view(&mut self, pool: &PoolName, asking: Option<LeaseId>) -> View {
        let now = self.now();
        let Some(shelf) = self.pools.get_mut(pool) else {
            return View {
                pool: Default::default(),
                versions: Versions::default(),
                now,
                ahead: None,
                incarnation: None,
            };
        };
        let pool = shelf.record.view(asking, now);
        let ahead = asking.and_then(|lease_id| shelf.record.ahead_of(lease_id));
        View { pool, versions: shelf.versions, now, ahead, incarnation: None }
    }

    fn document(&mut self, name: &DocumentName) -> Document {
        let now = self.now();
        match self.documents.get(name) {
            Some((version, text)) => Document { text: text.clone(), version: *version, now },
            None => Document::never_written(now),
        }
    }

    fn mailbox(&mut self, channel: Channel, store: &MemoryStore) -> MemoryMailbox {
        let (sender, letters) = mpsc::unbounded_channel();
        self.mailboxes.insert(channel.0.clone(), sender);
        MemoryMailbox { channel, letters, store: store.clone() }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        Ok(self.lock().view(pool, asking))
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        let mut state = self.lock();
        let changes = &write.step.changes;
        let now = state.now();
        let in_time = write.is_in_time(now);
        let present = state.pools.get(write.pool).map(|shelf| shelf.versions).unwrap_or_default();
        let leased = changes.unless_leased.is_some_and(|lease_id| {
            state.pools.get(write.pool).is_some_and(|shelf| shelf.record.is_leased(lease_id))
        });
        if leased || !in_time || !write.expected.still_hold(present, changes.reads) {
            return Ok(Swapped::Conflict(Box::new(state.view(write.pool, write.asking))));
        }
        let shelf = state.pools.entry(write.pool.clone()).or_default();
        shelf.record.apply(changes);
        shelf.versions = shelf.versions.after(changes);
        for event in &write.step.events {
            shelf.told += 1;
            let cursor = Cursor { major: shelf.told, minor: 0 };
            shelf.journal.push_back(Entry { cursor, event: event.clone() });
        }
        let excess = shelf.journal.len().saturating_sub(JOURNAL_CAP);
        shelf.journal.drain(..excess);
        send_letters(&write.step.wake, |channel, letter| {
            if let Some(mailbox) = state.mailboxes.get(&channel.0) {
                // A closed mailbox belongs to a client that is gone.
                let _ = mailbox.send(letter.to_owned());
            }
        });
        Ok(Swapped::Written { versions: write.expected.after(changes), now })
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        let mut state = self.lock();
        state.opened += 1;
        let channel = Channel(format!("memory-{}", state.opened));
        Ok(Box::new(state.mailbox(channel, self)))
    }

    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError> {
        Ok(Box::new(self.lock().mailbox(channel.clone(), self)))
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        let state = self.lock();
        Ok(state.pools.get(pool).map(|shelf| shelf.record.waiters(limit)).unwrap_or_default())
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        let state = self.lock();
        let journal =
            state.pools.get(pool).into_iter().flat_map(|shelf| shelf.journal.iter().rev());
        let of_task = journal.filter(|entry| wanted.includes(&entry.event));
        Ok(of_task.take(wanted.limit).cloned().collect())
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        let state = self.lock();
        let Some(shelf) = state.pools.get(pool) else {
            return Ok(Followed { entries: Vec::new(), is_gapless: after == Cursor::START });
        };
        let first_kept = shelf.told - shelf.journal.len() as u64 + 1;
        let is_known = after.minor == 0 && after.major <= shelf.told;
        let later = shelf.journal.iter().filter(|entry| entry.cursor > after);
        Ok(Followed {
            entries: later.take(limit).cloned().collect(),
            is_gapless: is_known && after.major + 1 >= first_kept,
        })
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        let mut state = self.lock();
        let now = state.now();
        let tasks = state.tasks.entry(pool.clone()).or_default();
        let before = tasks.get(&beat.task_id).map(|record| record.started_at);
        let record = TaskRecord::after(beat.clone(), before, now);
        if before.is_none() && tasks.len() >= TASK_RECORD_CAP {
            let most_silent = tasks.values().min_by_key(|record| record.updated_at);
            if let Some(task_id) = most_silent.map(|record| record.task_id.clone()) {
                tasks.remove(&task_id);
            }
        }
        tasks.insert(beat.task_id.clone(), record.clone());
        Ok(record)
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        let state = self.lock();
        let mut records: Vec<_> =
            state.tasks.get(pool).into_iter().flat_map(|tasks| tasks.values().cloned()).collect();
        latest_first(&mut records);
        Ok(records)
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        let mut state = self.lock();
        Ok(state.tasks.get_mut(pool).is_some_and(|tasks| tasks.remove(task_id).is_some()))
    }

    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        let mut state = self.lock();
        let version = state.documents.get(name).map_or(0, |(version, _)| *version);
        Ok(match version == known {
            true => DocumentNews::Unchanged { now: state.now() },
            false => DocumentNews::Changed(state.document(name)),
        })
    }

    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        document::require_fits(name, text)?;
        let mut state = self.lock();
        let present = state.documents.get(name).map_or(0, |(version, _)| *version);
        if present != expected {
            return Ok(DocumentSwap::Conflict(state.document(name)));
        }
        let now = state.now();
        let version = document::next_version(present, now);
        state.documents.insert(name.clone(), (version, text.to_owned()));
        Ok(DocumentSwap::Written { version, now })
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        Ok(self.lock().pools.keys().cloned().collect())
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    async fn examine(&self) -> Vec<Remark> {
        vec![Remark::warning("store", "it is forgotten when this process ends").hint("for tests")]
    }
}

#[derive(Debug)]
struct MemoryMailbox {
    channel: Channel,
    letters: mpsc::UnboundedReceiver<String>,
    store: MemoryStore,
}

#[async_trait]
impl Mailbox for MemoryMailbox {
    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn next(&mut self) -> Result<Letter, StoreError> {
        while let Some(text) = self.letters.recv().await {
            if let Some(letter) = letter::read(text.as_bytes()) {
                return Ok(letter);
            }
        }
        Err(StoreError::Unavailable {
            place: "memory:".to_owned(),
            reason: "it was closed".to_owned(),
        })
    }
}

impl Drop for MemoryMailbox {
    fn drop(&mut self) {
        self.store.lock().mailboxes.remove(&self.channel.0);
    }
}

//! A store that fails when it is told to: for tests of what happens then.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use gpulock_core::{Channel, LeaseId, PoolName, Step, TaskBeat, TaskName, TaskRecord, Waiter};

use super::{
    Cursor, DocumentName, DocumentNews, DocumentSwap, Entry, Followed, Mailbox, Remark, Scope,
    Store, StoreError, Swapped, View, Wanted, Write,
};

/// Any store, with faults. Clones share the plan of faults and count them together.
#[derive(Clone)]
pub struct FaultyStore {
    store: Arc<dyn Store>,
    trouble: Arc<Mutex<Trouble>>,
}

/// A call that may meet a fault.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// A pool is read, on behalf of this request.
    Read(Option<LeaseId>),
    /// A step is written.
    Write(&'a Step),
    /// A document is written.
    WriteDocument(&'a DocumentName),
    /// Anything else.
    Other,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not reach the store.
    Unavailable,
    /// The store does it, but the answer is lost.
    LostReply,
    /// Somebody else was first. Calls other than writes do not meet this.
    Conflict,
    /// It is written, but nobody is woken. Only the writes of steps meet this.
    LostWakeUps,
    /// It takes so long to reach the store.
    Delay(Duration),
}

/// How often things go wrong, each from 0 to 1; at most one fault meets a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// Of [`Fault::Unavailable`].
    pub unavailable: f64,
    /// Of [`Fault::LostReply`].
    pub lost_reply: f64,
    /// Of [`Fault::Conflict`].
    pub conflict: f64,
    /// Of [`Fault::LostWakeUps`].
    pub lost_wake_ups: f64,
    /// Of [`Fault::Delay`].
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

type Plan = Box<dyn FnMut(Call<'_>) -> Option<Fault> + Send>;

struct Trouble {
    plan: Plan,
    met: u64,
}

impl FaultyStore {
    /// The store, without faults so far.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let trouble = Trouble { plan: Box::new(|_| None), met: 0 };
        Self { store, trouble: Arc::new(Mutex::new(trouble)) }
    }

    /// From now on this decides which calls meet which fault.
    pub fn plan(&self, plan: impl FnMut(Call<'_>) -> Option<Fault> + Send + 'static) {
        self.with_trouble(|trouble| trouble.plan = Box::new(plan));
    }

    /// From now on chance decides, the same way for the same seed and order of calls.
    pub fn leave_to_chance(&self, seed: u64, odds: Odds) {
        let mut dice = Rng::with_seed(seed);
        self.plan(move |_| odds.throw(&mut dice));
    }

    /// From now on no call reaches the store.
    pub fn go_away(&self) {
        self.plan(|_| Some(Fault::Unavailable));
    }

    /// No more faults.
    pub fn heal(&self) {
        self.plan(|_| None);
    }

    /// How many calls met a fault so far.
    pub fn faults_met(&self) -> u64 {
        self.with_trouble(|trouble| trouble.met)
    }

    fn fault_for(&self, call: Call<'_>) -> Option<Fault> {
        self.with_trouble(|trouble| {
            let fault = (trouble.plan)(call).filter(|fault| match fault {
                Fault::Conflict => matches!(call, Call::Write(_) | Call::WriteDocument(_)),
                Fault::LostWakeUps => matches!(call, Call::Write(_)),
                _ => true,
            });
            trouble.met += u64::from(fault.is_some());
            fault
        })
    }

    async fn ask<T>(
        &self,
        call: Call<'_>,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.fault_for(call);
        through(fault, asked).await
    }

    fn with_trouble<T>(&self, look: impl FnOnce(&mut Trouble) -> T) -> T {
        look(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Odds {
    fn throw(&self, dice: &mut Rng) -> Option<Fault> {
        let delay = Fault::Delay(self.longest_delay.mul_f64(dice.f64()));
        let faults = [
            (self.unavailable, Fault::Unavailable),
            (self.lost_reply, Fault::LostReply),
            (self.conflict, Fault::Conflict),
            (self.lost_wake_ups, Fault::LostWakeUps),
            (self.delay, delay),
        ];
        let mut thrown = dice.f64();
        let met = faults.into_iter().find(|(odds, _)| {
            thrown -= odds;
            thrown < 0.0
        });
        met.map(|(_, fault)| fault)
    }
}

async fn through<T>(
    fault: Option<Fault>,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match fault {
        Some(Fault::Unavailable) => Err(away("it was told to be away")),
        Some(Fault::LostReply) => {
            asked.await?;
            Err(away("its reply was lost"))
        }
        Some(Fault::Delay(span)) => {
            tokio::time::sleep(span).await;
            asked.await
        }
        Some(Fault::Conflict | Fault::LostWakeUps) | None => asked.await,
    }
}

fn away(reason: &str) -> StoreError {
    StoreError::Unavailable { place: "with faults".to_owned(), reason: reason.to_owned() }
}

#[async_trait]
impl Store for FaultyStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        self.ask(Call::Read(asking), self.store.read(pool, asking)).await
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        let fault = self.fault_for(Call::Write(write.step));
        match fault {
            Some(Fault::Conflict) => {
                let present = self.store.read(write.pool, write.asking).await?;
                Ok(Swapped::Conflict(Box::new(present)))
            }
            Some(Fault::LostWakeUps) => {
                let step = Step { wake: Vec::new(), ..write.step.clone() };
                self.store.swap(Write { step: &step, ..write }).await
            }
            other => through(other, self.store.swap(write)).await,
        }
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        self.ask(Call::Other, self.store.open_mailbox()).await
    }

    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError> {
        self.ask(Call::Other, self.store.reopen_mailbox(channel)).await
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        self.ask(Call::Other, self.store.waiters(pool, limit)).await
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        self.ask(Call::Other, self.store.history(pool, wanted)).await
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        self.ask(Call::Other, self.store.follow(pool, after, limit)).await
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        self.ask(Call::Other, self.store.put_task(pool, beat)).await
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        self.ask(Call::Other, self.store.tasks(pool)).await
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        self.ask(Call::Other, self.store.remove_task(pool, task_id)).await
    }

    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        self.ask(Call::Other, self.store.document_since(name, known)).await
    }

    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        match self.fault_for(Call::WriteDocument(name)) {
            Some(Fault::Conflict) => Ok(DocumentSwap::Conflict(self.store.document(name).await?)),
            other => through(other, self.store.swap_document(name, expected, text)).await,
        }
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        self.ask(Call::Other, self.store.pools()).await
    }

    fn scope(&self) -> Scope {
        self.store.scope()
    }

    async fn examine(&self) -> Vec<Remark> {
        self.store.examine().await
    }

    fn hold_still(&self) {
        self.store.hold_still();
    }

    fn go_on(&self) {
        self.store.go_on();
    }
}

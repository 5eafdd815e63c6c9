//! The rules on a store: read, step, swap, and again if somebody else was first.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gpulock_core::{Command, LeaseId, Parts, Pool, PoolName, Refusal, Reply, Time};

use crate::clock::BootTime;
use crate::store::{Award, Incarnation, Store, StoreError, Swapped, Versions, View, Write};

/// One pool of one store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: PoolName,
    /// How long a lease may run that the store has forgotten.
    longest_forgotten: Duration,
    known: Arc<Mutex<Option<Known>>>,
}

/// The picture after this client's last write.
#[derive(Debug)]
struct Known {
    pool: Arc<Pool>,
    versions: Versions,
    incarnation: Option<Incarnation>,
    now: Time,
    at: BootTime,
}

/// What a command led to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    /// The pool after the step.
    pub(crate) pool: Arc<Pool>,
    /// The store's time of the step.
    pub(crate) now: Time,
    /// How many wait before the request on whose behalf this was.
    pub(crate) ahead: Option<u64>,
    /// The next moment at which a lease ends by itself.
    pub(crate) next_deadline: Option<Time>,
    /// Just before the store was asked: a lease runs at least from here.
    pub(crate) sent_at: BootTime,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// How long to bear with a store that does not answer, and whom to tell.
pub(crate) struct Patience<'a> {
    pub(crate) until: BootTime,
    pub(crate) tell: &'a (dyn Fn(Option<&StoreError>) + Send + Sync),
}

impl Patience<'_> {
    /// Tries again until the store answers or patience ends.
    pub(crate) async fn bear<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, StepError>>,
    {
        let mut pause = Duration::from_millis(20);
        let mut troubled = false;
        loop {
            match attempt().await {
                Err(StepError::Store(error)) if error.is_transient() => {
                    if self.until.left().is_zero() {
                        return Err(error.into());
                    }
                    troubled = true;
                    (self.tell)(Some(&error));
                    tokio::time::sleep(jittered(pause).min(self.until.left())).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                settled => {
                    if troubled {
                        (self.tell)(None);
                    }
                    return settled;
                }
            }
        }
    }
}

impl Stored {
    /// `longest_forgotten`: how long a lease may run that the store has forgotten.
    pub(crate) fn new(store: Arc<dyn Store>, pool: PoolName, longest_forgotten: Duration) -> Self {
        Self { store, pool, longest_forgotten, known: Arc::default() }
    }

    /// Carries out one command.
    pub(crate) async fn step(
        &self,
        command: &Command,
        asking: Option<LeaseId>,
    ) -> Result<Outcome, StepError> {
        let sent_at = BootTime::now();
        let (mut outcome, mut again) = self.settle(command, asking, sent_at).await?;
        // More came free than the rules could see at once: let them look again.
        while again {
            let tick = Command::Tick { sight: None };
            let (rest, more) = self.settle(&tick, asking, sent_at).await?;
            outcome.pool = rest.pool;
            again = more;
        }
        Ok(outcome)
    }

    /// The same, trying again while the store does not answer.
    pub(crate) async fn step_patiently(
        &self,
        command: &Command,
        asking: Option<LeaseId>,
        patience: &Patience<'_>,
    ) -> Result<Outcome, StepError> {
        patience.bear(|| self.step(command, asking)).await
    }

    /// The present picture, trying again while the store does not answer.
    pub(crate) async fn read_patiently(&self, patience: &Patience<'_>) -> Result<View, StepError> {
        patience.bear(async || Ok(self.store.read(&self.pool, None).await?)).await
    }

    /// Picks up a grant that came with a letter: one call instead of two. The letter shows
    /// no more of the pool than that lease, which is all that picking it up depends on.
    ///
    /// `None` if it takes a look at the whole pool after all.
    pub(crate) async fn pick_up(&self, command: &Command, award: Award) -> Option<Outcome> {
        let Award { lease, mut ledger, version } = award;
        if let Some(inventory) = &mut ledger.inventory {
            inventory.gpus.retain(|gpu| lease.gpus.contains(&gpu.index));
        }
        let mut pool = Pool { ledger, leases: vec![lease.clone()], ..Pool::default() };
        let step = pool.step(lease.acquired_at, command.clone()).ok()?;
        let reads_more = step.changes.reads != Parts { leases: true, queue: false };
        if reads_more || step.changes.is_empty() || step.changes.ledger.is_some() {
            return None;
        }
        let expected = Versions { leases: version, queue: 0 };
        let write =
            Write { pool: &self.pool, expected, step: &step, asking: None, incarnation: None };
        let sent_at = BootTime::now();
        let Ok(Swapped::Written { now, .. }) = self.store.swap(write).await else { return None };
        let next_deadline = step.next_deadline;
        let pool = Arc::new(pool);
        Some(Outcome { reply: step.reply, pool, now, ahead: None, next_deadline, sent_at })
    }

    /// Steps and swaps until nobody else was first.
    ///
    /// It begins with the picture that this client last wrote, if it has one: then it takes
    /// one call to the store instead of two. A picture from memory may be out of date, so
    /// only a swap, which finds that out, may follow from it.
    async fn settle(
        &self,
        command: &Command,
        asking: Option<LeaseId>,
        sent_at: BootTime,
    ) -> Result<(Outcome, bool), StepError> {
        let mut remembered = self.recall();
        let mut view = None;
        let mut conflicts = 0;
        loop {
            let is_fresh = remembered.is_none();
            let present = match (remembered.take(), view.take()) {
                (Some(view), _) | (None, Some(view)) => view,
                (None, None) => self.store.read(&self.pool, asking).await?,
            };
            let View { mut pool, mut versions, mut now, ahead, incarnation } = present;
            let resume = self.resume(&pool, incarnation.as_ref());
            refuse_if_closed(&pool, now, command, incarnation.as_ref())?;
            let queue = if conflicts > 1 { stand_in_line(command, &pool) } else { None };
            let is_prelude = resume.is_some() || queue.is_some();
            let command = resume.or(queue).unwrap_or_else(|| command.clone());
            let step = match pool.step(now, command) {
                Ok(step) => step,
                Err(refusal) if is_fresh => return Err(refusal.into()),
                Err(_) => continue,
            };
            let writes = !step.changes.is_empty() || !step.events.is_empty();
            if !writes && !is_fresh {
                continue;
            }
            if writes {
                let write = Write {
                    pool: &self.pool,
                    expected: versions,
                    step: &step,
                    asking,
                    incarnation: incarnation.as_ref(),
                };
                match self.store.swap(write).await? {
                    Swapped::Written { versions: raised, now: written_at } => {
                        (versions, now) = (raised, written_at);
                    }
                    Swapped::Conflict(present) => {
                        view = Some(*present);
                        conflicts += 1;
                        back_off(conflicts).await;
                        continue;
                    }
                }
            }
            if is_prelude {
                (remembered, conflicts) = (None, 0);
                continue;
            }
            let pool = Arc::new(pool);
            if writes {
                self.remember(&pool, versions, incarnation, now);
            }
            let next_deadline = step.next_deadline;
            let outcome = Outcome { reply: step.reply, pool, now, ahead, next_deadline, sent_at };
            return Ok((outcome, step.again));
        }
    }

    /// Only a picture without a queue is worth keeping: in any other, what this client knows
    /// is not all that counts.
    fn remember(
        &self,
        pool: &Arc<Pool>,
        versions: Versions,
        incarnation: Option<Incarnation>,
        now: Time,
    ) {
        let (at, pool) = (BootTime::now(), Arc::clone(pool));
        let known = (pool.queue_len == 0).then_some(Known { pool, versions, incarnation, now, at });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn recall(&self) -> Option<View> {
        let Known { pool, versions, incarnation, now, at } =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let pool = Arc::unwrap_or_clone(pool);
        Some(View { pool, versions, now: now + at.elapsed(), ahead: None, incarnation })
    }

    /// What has to be said first if the store lives in another life than the pool knows of.
    fn resume(&self, pool: &Pool, incarnation: Option<&Incarnation>) -> Option<Command> {
        let Incarnation { id, since, .. } = incarnation?;
        (pool.ledger.incarnation.as_ref() != Some(id)).then(|| Command::Resume {
            incarnation: id.clone(),
            closed_until: *since + self.longest_forgotten,
        })
    }
}

/// What makes a request heard that others keep forestalling; `None` if it does not want to
/// wait, or is heard already.
fn stand_in_line(command: &Command, pool: &Pool) -> Option<Command> {
    let Command::Acquire(request) = command else { return None };
    let is_known =
        pool.waiter(request.lease_id).is_some() || pool.lease(request.lease_id).is_some();
    (request.patience.is_some() && !is_known).then(|| Command::Queue(request.clone()))
}

/// Turns a new request down while the pool is closed, where requests shall not wait for that.
fn refuse_if_closed(
    pool: &Pool,
    now: Time,
    command: &Command,
    incarnation: Option<&Incarnation>,
) -> Result<(), Refusal> {
    let refuses = incarnation.is_some_and(|incarnation| !incarnation.waits);
    match (command, pool.closed_for(now)) {
        (Command::Acquire(request), Some(left))
            if refuses && pool.lease(request.lease_id).is_none() =>
        {
            Err(Refusal::Closed { left })
        }
        _ => Ok(()),
    }
}

/// Full jitter from the second conflict on: the first retry already knows the present state.
async fn back_off(conflicts: u32) {
    if conflicts > 1 {
        let longest = Duration::from_micros(100) * 2_u32.pow(conflicts.min(8));
        tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
    }
}

/// `span`, up to a quarter longer.
pub(crate) fn jittered(span: Duration) -> Duration {
    span.mul_f64(1.0 + fastrand::f64() / 4.0)
}

//! The rules on a store: read, step, swap, and again if somebody else was first.

use std::sync::Arc;
use std::time::Duration;

use gpulock_core::{Command, LeaseId, Pool, PoolName, Refusal, Reply, Time};

use crate::clock::BootTime;
use crate::store::{Store, StoreError, Swapped, View, Write};

/// One pool of one store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: PoolName,
}

/// What a command led to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    /// The pool after the step.
    pub(crate) pool: Pool,
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

impl Stored {
    /// Carries out one command.
    pub(crate) async fn step(
        &self,
        command: &Command,
        asking: Option<LeaseId>,
    ) -> Result<Outcome, StepError> {
        let sent_at = BootTime::now();
        let view = self.store.read(&self.pool, asking).await?;
        let (mut outcome, again) = self.settle(command, asking, view, sent_at).await?;
        // More came free than the rules could see at once: let them look again.
        let mut again = again;
        while again {
            let view = self.store.read(&self.pool, asking).await?;
            let tick = Command::Tick { sight: None };
            let (rest, more) = self.settle(&tick, asking, view, sent_at).await?;
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
        let mut pause = Duration::from_millis(20);
        let mut troubled = false;
        loop {
            match self.step(command, asking).await {
                Err(StepError::Store(error)) if error.is_transient() => {
                    if patience.until.left().is_zero() {
                        return Err(error.into());
                    }
                    troubled = true;
                    (patience.tell)(Some(&error));
                    tokio::time::sleep(jittered(pause).min(patience.until.left())).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                settled => {
                    if troubled {
                        (patience.tell)(None);
                    }
                    return settled;
                }
            }
        }
    }

    /// Steps and swaps until nobody else was first.
    async fn settle(
        &self,
        command: &Command,
        asking: Option<LeaseId>,
        view: View,
        sent_at: BootTime,
    ) -> Result<(Outcome, bool), StepError> {
        let mut view = view;
        let mut conflicts = 0;
        loop {
            let View { mut pool, versions, now, ahead } = view;
            let step = pool.step(now, command.clone())?;
            if !step.changes.is_empty() || !step.events.is_empty() {
                let write = Write { pool: &self.pool, expected: versions, step: &step, asking };
                if let Swapped::Conflict(present) = self.store.swap(write).await? {
                    view = *present;
                    conflicts += 1;
                    back_off(conflicts).await;
                    continue;
                }
            }
            let next_deadline = step.next_deadline;
            let outcome = Outcome { reply: step.reply, pool, now, ahead, next_deadline, sent_at };
            return Ok((outcome, step.again));
        }
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

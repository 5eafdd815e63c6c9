//! Taking a failed request back, so that nothing of it stays in the store: no place in the
//! queue, and no lease that was granted while its answer was lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gpulock_core::{CancelReason, Command, LeaseId, Refusal};

use crate::client::{Asking, Client};
use crate::error::Error;
use crate::stored::{StepError, Stored, jittered};

/// How long whoever waited is kept waiting until it is out of the queue.
const LEAVING: Duration = Duration::from_secs(1);

impl Client {
    /// Takes back what a request has left that failed with `error`. A store that does not
    /// answer hears of it in the background, as soon as it does.
    pub(crate) async fn withdraw(&self, asking: &Asking, error: &Error) {
        let request = asking.request();
        let waited = request.patience.is_some();
        let reason = match error {
            // It was told that it got nothing.
            Error::NotAcquired(_) if !waited => return,
            // It keeps its place.
            Error::NotAcquired(_) if request.comes_back => return,
            // What there is belongs to another run.
            Error::Duplicate(_) => return,
            Error::Refused(Refusal::NoInventory) => return,
            Error::NotAcquired(_) => CancelReason::TimedOut,
            _ => CancelReason::GaveUp,
        };
        let polls = asking.polls.load(Ordering::Relaxed);
        let gone = Gone { lease_id: request.lease_id, run: request.owner.run, reason, polls };
        self.inner.unsettled.send_modify(|count| *count += 1);
        let withdrawal = withdraw_until_settled(self.clone(), gone);
        let settled = self.inner.engine.handle().spawn(withdrawal);
        if waited {
            // Not settled in time: it goes on by itself.
            let _ = tokio::time::timeout(LEAVING, settled).await;
        }
    }

    /// Takes a request that nobody makes any more out of the queue, or gives back the grant
    /// that was kept for it. What another run holds or waits for stays as it is.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn cancel(&self, lease_id: LeaseId) -> Result<(), Error> {
        let command =
            Command::Cancel { lease_id, run: None, reason: CancelReason::GaveUp, polls: 0 };
        let patience = self.inner.patience(&|_| {});
        self.inner.stored.step_patiently(&command, Some(lease_id), &patience).await?;
        Ok(())
    }
}

/// A request that is no longer made.
#[derive(Clone, Copy)]
struct Gone {
    lease_id: LeaseId,
    run: Option<u64>,
    reason: CancelReason,
    polls: u32,
}

async fn withdraw_until_settled(client: Client, gone: Gone) {
    let mut pause = Duration::from_millis(20);
    while let Err(error) = withdraw(&client.inner.stored, gone).await {
        let in_vain = matches!(&error, StepError::Store(error) if !error.is_transient());
        if in_vain {
            // Its place in the queue lapses by itself.
            break;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
    client.inner.unsettled.send_modify(|count| *count -= 1);
}

async fn withdraw(stored: &Stored, gone: Gone) -> Result<(), StepError> {
    let Gone { lease_id, run, reason, polls } = gone;
    let cancel = Command::Cancel { lease_id, run, reason, polls };
    let outcome = stored.step(&cancel, Some(lease_id)).await?;
    // A lease in use, as far as the store knows; but nobody ever heard of it.
    if let Some(lease) = outcome.pool.lease(lease_id).filter(|lease| lease.owner.run == run) {
        stored.step(&Command::Release(lease.reference()), None).await?;
    }
    Ok(())
}

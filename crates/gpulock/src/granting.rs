//! Asking on behalf of a caller that looks after its lease itself, such as one of the HTTP API.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gpulock_core::{
    Command, Lease, LeaseId, LeaseRef, Owner, Progress, Renewal, Reply, SeizeMode, StopRequest,
};
use tokio::sync::{oneshot, watch};

use crate::client::{Asking, Client};
use crate::error::Error;
use crate::request::{Prepared, RequestBuilder};
use crate::wait::{WaitState, tell_trouble};

/// A request on behalf of another, under way. Awaiting it gives the record of the lease, and
/// nothing is done here to keep it alive. Dropping it calls the request off: it leaves the
/// queue, and a grant that comes at this moment is given back.
#[derive(Debug)]
pub struct Granting {
    lease_id: LeaseId,
    progress: watch::Receiver<WaitState>,
    answer: oneshot::Receiver<Result<Lease, Error>>,
    /// Tells that the answer was taken. One that lies ready and is never looked at is not.
    taken: Option<oneshot::Sender<()>>,
    kept: Kept,
    /// Dropped to call it off.
    _call_off: oneshot::Sender<()>,
}

/// What the caller wants kept until nothing is done about the request any more. Whoever asks and
/// whoever works for it both hold it, so that it is gone before the answer is.
#[derive(Clone)]
struct Kept(Arc<Mutex<Option<Box<dyn Send>>>>);

impl RequestBuilder {
    /// Begins to ask on behalf of `owner`. A lease that is there with the same id is the
    /// answer. `kept` is dropped when nothing is done about this request any more: just before
    /// the answer is given, or when it was called off and nothing of it is left.
    ///
    /// # Errors
    /// [`Error::Start`] when the system gives no random numbers.
    pub fn grant_to(self, owner: Owner, kept: impl Send + 'static) -> Result<Granting, Error> {
        let Prepared { client, mut asking, progress, .. } = self.prepare()?;
        if let Command::Acquire(request) = &mut asking.command {
            request.owner = Owner { run: request.owner.run, ..owner };
        }
        let lease_id = asking.request().lease_id;
        let (call_off, called_off) = oneshot::channel();
        let (tell, answer) = oneshot::channel();
        let (taken, is_taken) = oneshot::channel();
        let kept = Kept(Arc::new(Mutex::new(Some(Box::new(kept)))));
        let until_the_end = kept.clone();
        let handle = client.inner.engine.handle().clone();
        handle.spawn(async move {
            let granted = client.grant(asking, called_off).await;
            let new = match &granted {
                Ok((lease, true)) => Some(lease.reference()),
                _ => None,
            };
            let is_told = tell.send(granted.map(|(lease, _)| lease)).is_ok();
            let is_heard = is_told && is_taken.await.is_ok();
            // If the store does not answer, it ends at its deadline.
            if let (Some(lease), false) = (new, is_heard) {
                let _ = client.release_for(lease).await;
            }
            until_the_end.let_go();
        });
        let taken = Some(taken);
        Ok(Granting { lease_id, progress, answer, taken, kept, _call_off: call_off })
    }
}

impl Granting {
    /// The id that the lease will have.
    pub fn lease_id(&self) -> LeaseId {
        self.lease_id
    }

    /// What is known about the wait, as it changes.
    pub fn progress(&self) -> watch::Receiver<WaitState> {
        self.progress.clone()
    }
}

impl Kept {
    fn let_go(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(..)")
    }
}

impl Future for Granting {
    type Output = Result<Lease, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.answer).poll(context));
        if let Some(taken) = self.taken.take() {
            self.kept.let_go();
            let _ = taken.send(());
        }
        // Nobody answers only when the runtime ends.
        Poll::Ready(told.unwrap_or(Err(Error::CalledOff)))
    }
}

impl Client {
    /// The lease, and whether it is new.
    async fn grant(
        &self,
        mut asking: Asking,
        mut called_off: oneshot::Receiver<()>,
    ) -> Result<(Lease, bool), Error> {
        let view = {
            let tell = tell_trouble(&asking.state);
            self.inner.stored.read_patiently(&asking.patience(&tell)).await?
        };
        let is_new = view.pool.lease(asking.request().lease_id).is_none();
        let granted = self.wait_for_grant(&mut asking, &mut called_off).await?;
        Ok((granted.lease, is_new))
    }

    /// A heartbeat of a lease that somebody else holds: how long it lives now, and whether its
    /// holder shall stop. `None` if it is not, or no longer, the current one.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn renew_for(
        &self,
        lease: LeaseRef,
        progress: Option<Progress>,
    ) -> Result<Option<(Duration, Option<StopRequest>)>, Error> {
        let command = Command::Renew(vec![Renewal { lease, progress }]);
        let patience = self.inner.patience(&|_| {});
        let outcome = self.inner.stored.step_patiently(&command, None, &patience).await?;
        let Reply::Renewed(answers) = outcome.reply else {
            unreachable!("a heartbeat is answered with {:?}", outcome.reply)
        };
        let held = answers.into_iter().find_map(|answer| answer.held);
        Ok(held.map(|(deadline, stop)| (deadline.since(outcome.now), stop)))
    }

    /// Gives back a lease that somebody else holds. `false` if it was not, or no longer, the
    /// current one; nothing has changed then.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn release_for(&self, lease: LeaseRef) -> Result<bool, Error> {
        self.is_current(&Command::Release(lease)).await
    }

    /// Takes a lease away from its holder on behalf of `by`, as [`Client::seize`] does.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn seize_for(
        &self,
        by: &str,
        lease: LeaseRef,
        reason: &str,
        mode: SeizeMode,
    ) -> Result<bool, Error> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        self.is_current(&Command::Seize { lease, by, reason, mode }).await
    }
}

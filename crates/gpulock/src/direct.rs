//! The short way of a caller that may block: one call to the store, from its own thread.
//!
//! The long way goes through the client's thread and back, which takes as long as the call
//! itself. The short way is tried when nothing is in the way, is given up as soon as
//! something is, and leaves nothing undecided: whatever became of it, the long way asks again
//! under the same name.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gpulock_core::{Command, LeaseId, PoolName, Reply};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::client::{Asking, Client};
use crate::heartbeat::NewLease;
use crate::lease::Lease;
use crate::store::Store;
use crate::stored::{Outcome, Stored};
use crate::wait::{Grant, runs_from};

/// What the short way may take. It cannot be called off, so this is not long.
const AT_MOST: Duration = Duration::from_millis(100);

/// How long to wait awake for an answer.
const AWAKE: Duration = Duration::from_micros(100);

/// The way to the store from the threads of callers, one at a time.
#[derive(Debug)]
pub(crate) struct Direct {
    /// `None` only while it is dropped.
    runtime: Mutex<Option<Runtime>>,
    stored: Stored,
}

impl Direct {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        pool: PoolName,
        longest_forgotten: Duration,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            runtime: Mutex::new(Some(runtime)),
            stored: Stored::new(store, pool, longest_forgotten),
        })
    }

    /// Carries out a command. `None`: somebody else is on the way, it takes too long, or it
    /// failed; it may have been carried out all the same.
    pub(crate) fn step(&self, command: &Command, asking: Option<LeaseId>) -> Option<Outcome> {
        if Handle::try_current().is_ok() {
            return None;
        }
        let runtime = self.runtime.try_lock().ok()?;
        let step = self.stored.step(command, asking);
        let answer = async {
            tokio::select! {
                answer = tokio::time::timeout(AT_MOST, step) => answer,
                never = stay_awake() => match never {},
            }
        };
        runtime.as_ref()?.block_on(answer).ok()?.ok()
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last one who drops a client may be at work on another runtime.
        runtime.into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Keeps the thread awake for a moment: an answer that comes soon finds it so. To be put to
/// sleep and woken takes about as long as the answer.
async fn stay_awake() -> Infallible {
    let began = Instant::now();
    while began.elapsed() < AWAKE {
        // The server may need this very core.
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
    std::future::pending().await
}

impl Client {
    /// Asks once; gives the lease if it is granted at once.
    pub(crate) fn obtain_directly(&self, asking: &mut Asking) -> Option<Lease> {
        let inner = &self.inner;
        let direct = inner.direct.as_ref()?;
        let post = inner.post_if_open().filter(|_| inner.older_keys.is_none())?;
        asking.listens_at(post.channel.clone());
        let lease_id = asking.request().lease_id;
        let outcome = direct.step(&asking.command, Some(lease_id))?;
        let Reply::Granted(lease) = outcome.reply else { return None };
        if !self.knows_configured_gpus(outcome.pool.ledger.inventory.as_ref()) {
            direct.step(&Command::Release(lease.reference()), None);
            return None;
        }
        let runs_from = runs_from(&lease, outcome.now, outcome.sent_at);
        let grant = Grant { lease, pool: outcome.pool, runs_from };
        Some(self.hold(grant, asking))
    }

    /// Begins to keep a grant alive.
    pub(crate) fn hold(&self, grant: Grant, asking: &Asking) -> Lease {
        let state = self.inner.keeper.keep(NewLease {
            lease: grant.lease.reference(),
            term: grant.lease.term,
            interval: asking.interval,
            runs_from: grant.runs_from,
        });
        Lease::new(self.clone(), grant, state, asking.bounds.began.elapsed())
    }
}

impl Lease {
    /// Gives the lease back in one call to the store from this thread.
    ///
    /// # Errors
    /// The lease, if that could not be done or confirmed: [`Lease::release`] does it then.
    pub fn release_directly(mut self) -> Result<(), Self> {
        let inner = &self.client().inner;
        let Some(direct) = inner.direct.as_ref().filter(|_| inner.older_keys.is_none()) else {
            return Err(self);
        };
        // First the heartbeats end, then the lease is released.
        inner.keeper.let_go(self.reference());
        match direct.step(&Command::Release(self.reference()), None) {
            Some(Outcome { reply: Reply::Done, .. }) => {
                self.forget();
                Ok(())
            }
            _ => {
                self.doubt();
                Err(self)
            }
        }
    }
}

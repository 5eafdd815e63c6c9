//! A lease in the hands of its holder.

use std::sync::Arc;
use std::time::Duration;

use gpulock_core::{
    Command, Ending, Event, Gpu, GpuIndex, LeaseId, LeaseRef, ProcessGroup, Progress, Reply,
    StopRequest, TaskName, Token, What,
};
use tokio::sync::{oneshot, watch};

use crate::client::Client;
use crate::clock::BootTime;
use crate::error::Error;
use crate::heartbeat::{Health, LeaseState};
use crate::legacy::HeldKeys;
use crate::store::{StoreError, Wanted};
use crate::stored::{StepError, Stored, jittered};
use crate::wait::Grant;

/// The right to use some GPUs. Heartbeats keep it alive in the background; dropping it
/// gives it back.
///
/// A lease can be lost: the holder must stop using the GPUs before
/// [`LeaseState::deadline`] unless heartbeats move it on. [`Lease::state`] tells, and
/// [`Lease::watch`] can be awaited.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    pub(crate) record: Arc<gpulock_core::Lease>,
    gpus: Vec<Gpu>,
    pub(crate) waited: Duration,
    state: watch::Receiver<LeaseState>,
    /// Set while it is held, for older workers.
    pub(crate) keys: HeldKeys,
    is_released: bool,
    /// It may have been released already, unheard.
    is_in_doubt: bool,
}

impl Lease {
    pub(crate) fn new(
        client: Client,
        grant: Grant,
        state: watch::Receiver<LeaseState>,
        waited: Duration,
    ) -> Self {
        let cards = grant.pool.ledger.inventory.iter().flat_map(|inventory| &inventory.gpus);
        let gpus = cards.filter(|card| grant.lease.gpus.contains(&card.index)).cloned().collect();
        let (record, keys) = (Arc::new(grant.lease), HeldKeys::default());
        let (is_released, is_in_doubt) = (false, false);
        Self { client, record, gpus, waited, state, keys, is_released, is_in_doubt }
    }

    /// Its identity.
    pub fn id(&self) -> LeaseId {
        self.record.lease_id
    }

    /// Its fencing token: larger than that of every earlier lease of the pool. Whoever
    /// guards something that only the holder may touch refuses smaller ones.
    pub fn token(&self) -> Token {
        self.record.token
    }

    /// What names it beyond doubt.
    pub fn reference(&self) -> LeaseRef {
        self.record.reference()
    }

    /// What the work is called.
    pub fn task(&self) -> &TaskName {
        &self.record.task
    }

    /// The GPUs, in rising order.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The numbers of the GPUs, in rising order.
    pub fn gpu_indices(&self) -> &[GpuIndex] {
        &self.record.gpus
    }

    /// How long it took to get.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How it is doing now.
    pub fn state(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    /// How it is doing, as it changes.
    pub fn watch(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// Whether it is lost: then the GPUs may already be somebody else's.
    pub fn is_lost(&self) -> bool {
        matches!(self.state.borrow().health, Health::Lost(_))
    }

    /// Returns when it is lost.
    pub async fn lost(&self) {
        self.until(|state| matches!(state.health, Health::Lost(_))).await;
    }

    /// The request to stop, if somebody made one.
    pub fn stop_requested(&self) -> Option<StopRequest> {
        self.state.borrow().stop.clone()
    }

    /// Returns when somebody asks the holder to stop.
    pub async fn asked_to_stop(&self) {
        self.until(|state| state.stop.is_some()).await;
    }

    /// Calls `tell` at every change of state, on the client's own thread, until the lease
    /// is given back.
    pub fn on_change(&self, mut tell: impl FnMut(&LeaseState) + Send + 'static) {
        let mut state = self.state.clone();
        self.client.inner.engine.handle().spawn(async move {
            while state.changed().await.is_ok() {
                tell(&state.borrow_and_update().clone());
            }
        });
    }

    /// Fails if the lease is lost.
    ///
    /// # Errors
    /// [`Error::Lost`] with the reason.
    pub fn check(&self) -> Result<(), Error> {
        match self.state.borrow().health {
            Health::Lost(loss) => Err(Error::Lost(loss.to_string())),
            Health::Held | Health::Danger => Ok(()),
        }
    }

    /// Tells how far the work is: `percent` from 0 to 100, and a word for people. It goes
    /// out with a heartbeat, now.
    pub fn progress(&self, percent: f32, message: impl Into<String>) {
        let basis_points = (percent.clamp(0.0, 100.0) * 100.0).round() as u16;
        let progress = Progress { basis_points, message: message.into() };
        self.client.inner.keeper.tell_progress(self.reference(), progress);
    }

    /// How it ended, if it did and the journal still knows.
    pub async fn ending(&self) -> Option<Ending> {
        let events = history_of(&self.client.inner.stored, &self.record.task).await.ok()?;
        events.into_iter().find_map(|event| match event.what {
            What::Ended { token, how, .. } if token == self.token() => Some(how),
            _ => None,
        })
    }

    /// Says which process group does the work of a
    /// [supervised](crate::RequestBuilder::supervised) lease, just before it begins.
    ///
    /// # Errors
    /// [`Error::Lost`] if the claim comes too late: then nothing may be started.
    pub async fn claim(&self, group: ProcessGroup) -> Result<(), Error> {
        let sent_at = BootTime::now();
        let command = Command::Claim { lease: self.reference(), group };
        let inner = &self.client.inner;
        let patience = inner.patience(&|_| {});
        let outcome = inner.stored.step_patiently(&command, None, &patience).await?;
        if !matches!(outcome.reply, Reply::Granted(_)) {
            return Err(Error::Lost("it was claimed too late".to_owned()));
        }
        inner.keeper.extended(self.reference(), sent_at);
        Ok(())
    }

    /// Gives the lease back and waits for the store's word, for as long as the client bears
    /// with a store that does not answer. After that the client goes on trying by itself.
    ///
    /// # Errors
    /// [`Error::Lost`] if it was lost before, [`Error::Store`] if the store did not confirm, or
    /// answered with an error.
    pub async fn release(mut self) -> Result<(), Error> {
        let patience = self.client.inner.options.store_patience;
        match tokio::time::timeout(patience, self.begin_release()).await {
            Ok(Ok(Ok(Settled::Released))) => Ok(()),
            Ok(Ok(Ok(Settled::WasLost))) => {
                Err(Error::Lost("it had ended before it was released".to_owned()))
            }
            Ok(Ok(Err(error))) => Err(Error::Store(error)),
            Ok(Err(_)) | Err(_) => Err(Error::Store(StoreError::Unavailable {
                place: "of this lease".to_owned(),
                reason: "it did not confirm the release".to_owned(),
            })),
        }
    }

    /// Ends the lease because this process is about to end and may use the GPUs until then:
    /// they go on when it is gone. Where nobody can see that, or where it still lives after
    /// [`Options::stop_grace`](crate::Options::stop_grace), they go on then.
    ///
    /// # Errors
    /// [`Error::Lost`] if it was lost before, [`Error::Store`] if the store cannot be used.
    pub async fn retire(mut self) -> Result<(), Error> {
        self.is_released = true;
        let Client { inner } = self.client.clone();
        inner.keeper.let_go(self.reference());
        let keys = std::mem::take(&mut self.keys);
        let lives_on = release_later(self.client.clone(), Arc::clone(&self.record), keys);
        inner.engine.handle().spawn(lives_on);
        let (command, patience) = (Command::Retire(self.reference()), inner.patience(&|_| {}));
        let outcome = inner.stored.step_patiently(&command, None, &patience).await?;
        match outcome.reply {
            Reply::Done => Ok(()),
            _ => Err(Error::Lost("it had ended before it was given back".to_owned())),
        }
    }

    /// Ends the heartbeats without giving the lease back: its GPUs stay taken until it has
    /// run out and its processes are gone.
    pub fn abandon(mut self) {
        self.is_released = true;
        self.client.inner.keeper.let_go(self.reference());
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// It was released.
    pub(crate) fn forget(&mut self) {
        self.is_released = true;
    }

    /// It may have been released.
    pub(crate) fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    fn begin_release(&mut self) -> oneshot::Receiver<Answer> {
        self.is_released = true;
        // First the heartbeats end, then the lease is released, then it is forgotten.
        self.client.inner.keeper.let_go(self.reference());
        let (settled, receiver) = oneshot::channel();
        let name = Named::from(&*self.record);
        let keys = std::mem::take(&mut self.keys);
        let release = Release { name, keys, is_in_doubt: self.is_in_doubt };
        let release = release.until_settled(self.client.clone(), settled);
        self.client.inner.unsettled.send_modify(|count| *count += 1);
        self.client.inner.engine.handle().spawn(release);
        receiver
    }

    async fn until(&self, reached: impl FnMut(&LeaseState) -> bool) {
        let mut state = self.state.clone();
        if state.wait_for(reached).await.is_err() {
            // It was given back and will never change again.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let patience = self.client.inner.options.store_patience;
        let settled = self.begin_release();
        // Where the caller may be kept waiting, it sees the GPU given back.
        self.client.inner.engine.block_on(async move {
            // Unconfirmed in time: the client goes on trying by itself.
            let _ = tokio::time::timeout(patience, settled).await;
        });
    }
}

/// What is heard of a release: what became of it, or the store's objection.
type Answer = Result<Settled, StoreError>;

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Released,
    /// The lease had ended before. The store now knows that its holder is done with it.
    WasLost,
}

impl Client {
    /// Gives back a lease by its name, for a holder that no longer has it in hand. `false` if
    /// it had ended otherwise before.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn release_named(&self, lease: LeaseRef, task: &TaskName) -> Result<bool, Error> {
        let name = Named { lease, task: task.clone() };
        // An attempt of the holder itself may have got through unheard.
        Ok(release_again(&self.inner.stored, &name).await? == Settled::Released)
    }
}

/// A lease by its name, and where the journal has it.
#[derive(Clone, Debug)]
struct Named {
    lease: LeaseRef,
    task: TaskName,
}

impl From<&gpulock_core::Lease> for Named {
    fn from(record: &gpulock_core::Lease) -> Self {
        Self { lease: record.reference(), task: record.task.clone() }
    }
}

/// The release of a lease.
struct Release {
    name: Named,
    /// Freed before, for older workers.
    keys: HeldKeys,
    /// It may have been released already, unheard.
    is_in_doubt: bool,
}

impl Release {
    /// Says that the work is over until the store has heard it. Until then the GPU of a lease
    /// that ran out counts as in use, because this process lives.
    async fn until_settled(mut self, client: Client, settled: oneshot::Sender<Answer>) {
        self.keys.free().await;
        let (mut pause, mut settled) = (Duration::from_millis(20), Some(settled));
        let outcome = loop {
            let answer = match std::mem::replace(&mut self.is_in_doubt, true) {
                true => release_again(&client.inner.stored, &self.name).await,
                false => release(&client.inner.stored, &self.name).await,
            };
            match answer {
                Ok(outcome) => break outcome,
                // Its record is gone with the store.
                Err(StepError::Store(StoreError::Replaced(_)) | StepError::Refused(_)) => {
                    break Settled::WasLost;
                }
                Err(StepError::Store(error)) => {
                    if !error.is_transient()
                        && let Some(settled) = settled.take()
                    {
                        let _ = settled.send(Err(error));
                    }
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        };
        self.keys.free().await;
        // Whoever released it may not have waited so long.
        let _ = settled.map(|settled| settled.send(Ok(outcome)));
        client.inner.unsettled.send_modify(|count| *count -= 1);
    }
}

/// Says that the work is over if this process lives on although it was about to end.
async fn release_later(client: Client, record: Arc<gpulock_core::Lease>, mut keys: HeldKeys) {
    tokio::time::sleep(client.inner.options.stop_grace).await;
    keys.free().await;
    let name = Named::from(&*record);
    // It may have been freed meanwhile; naming it then would be a violation.
    while release_again(&client.inner.stored, &name).await.is_err() {
        tokio::time::sleep(jittered(Duration::from_secs(1))).await;
    }
}

async fn release(stored: &Stored, name: &Named) -> Result<Settled, StepError> {
    let outcome = stored.step(&Command::Release(name.lease), None).await?;
    Ok(if outcome.reply == Reply::Done { Settled::Released } else { Settled::WasLost })
}

/// Releases after an attempt whose answer is missing. If the lease is gone, that attempt
/// may have ended it, which the journal knows; naming it once more would be a violation.
async fn release_again(stored: &Stored, name: &Named) -> Result<Settled, StepError> {
    let view = stored.store.read(&stored.pool, None).await?;
    let is_current = view.pool.leases.iter().any(|lease| lease.reference() == name.lease);
    // That attempt may get through even now.
    if is_current && release(stored, name).await? == Settled::Released {
        return Ok(Settled::Released);
    }
    let events = history_of(stored, &name.task).await?;
    let was_released = events.iter().any(|event| {
        matches!(&event.what, What::Ended { token, how: Ending::Released, .. } if *token == name.lease.token)
    });
    Ok(if was_released { Settled::Released } else { Settled::WasLost })
}

/// What happened lately to tasks of this name.
pub(crate) async fn history_of(stored: &Stored, task: &TaskName) -> Result<Vec<Event>, StoreError> {
    let wanted = Wanted { limit: 1_000, task: Some(task.clone()) };
    let entries = stored.store.history(&stored.pool, &wanted).await?;
    Ok(entries.into_iter().map(|entry| entry.event).collect())
}

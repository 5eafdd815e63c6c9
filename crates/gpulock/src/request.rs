//! Asking for GPUs.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};
use std::time::Duration;

use gpulock_core::{Command, GpuRef, LeaseId, Owner, Priority, Request, TaskName, Term, Wish};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::client::{Asking, Client};
use crate::clock::BootTime;
use crate::error::Error;
use crate::lease::Lease;
use crate::wait::{Bounds, Polling, WaitState};

/// A request that is being put together.
#[derive(Debug)]
#[must_use = "nothing is asked before `acquire` or `start`"]
pub struct RequestBuilder {
    client: Client,
    task: TaskName,
    wish: Wish,
    priority: Priority,
    term: Term,
    interval: Duration,
    /// `None`: for ever.
    max_wait: Option<Duration>,
    waits: bool,
    unseen: Duration,
    polling: Polling,
    store_patience: Duration,
    supervised: bool,
    comes_back: bool,
    /// `None`: a random one.
    lease_id: Option<LeaseId>,
    run: Option<u64>,
    inside: Vec<LeaseId>,
    is_watched: bool,
}

impl RequestBuilder {
    pub(crate) fn new(client: Client, task: TaskName) -> Self {
        let options = &client.inner.options;
        Self {
            task,
            wish: Wish::Any(1),
            priority: Priority::Normal,
            term: Term::Heartbeats(options.heartbeat_timeout),
            interval: options.heartbeat_interval,
            max_wait: Some(options.max_wait),
            waits: true,
            unseen: options.polling.longest * 3,
            polling: options.polling.clone(),
            store_patience: options.store_patience,
            supervised: false,
            comes_back: false,
            lease_id: None,
            run: None,
            inside: options.inside.clone(),
            is_watched: false,
            client,
        }
    }

    /// Any so many GPUs, all at once.
    pub fn any(mut self, count: u32) -> Self {
        self.wish = Wish::Any(count);
        self
    }

    /// Exactly these GPUs, all at once.
    pub fn named(mut self, gpus: Vec<GpuRef>) -> Self {
        self.wish = Wish::Named(gpus);
        self
    }

    /// Before those of lower priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Gives up after so long. Without this it waits as long as the client's options say.
    pub fn max_wait(mut self, span: Duration) -> Self {
        self.max_wait = Some(span);
        self
    }

    /// Does not wait at all, neither for a GPU nor for the store.
    pub fn no_wait(mut self) -> Self {
        (self.waits, self.store_patience) = (false, Duration::ZERO);
        self
    }

    /// Looks again after so long when nobody wakes it, instead of what the client's options
    /// say.
    pub fn polls_after(mut self, first: Duration) -> Self {
        self.polling.first = first;
        self.polling.longest = self.polling.longest.max(first);
        self
    }

    /// Asks once. If the GPUs are not free it fails with [`Error::NotAcquired`] and keeps its
    /// place in the queue so long for whoever asks again with the same
    /// [lease id](Self::lease_id), be it another process. If its turn comes meanwhile, the
    /// grant is kept until then.
    pub fn comes_back_within(mut self, span: Duration) -> Self {
        (self.comes_back, self.unseen, self.max_wait) = (true, span, Some(Duration::ZERO));
        self
    }

    /// With this id, for a request that others may make too: a task queue can deliver one
    /// task more than once. `run` tells those apart. While one of them holds or waits, the
    /// others fail with [`Error::Duplicate`].
    pub fn lease_id(mut self, lease_id: LeaseId, run: u64) -> Self {
        (self.lease_id, self.run) = (Some(lease_id), Some(run));
        self
    }

    /// With this id, which the caller has chosen at random and tells nobody else: then asking
    /// again is safe.
    pub fn own_id(mut self, lease_id: LeaseId) -> Self {
        self.lease_id = Some(lease_id);
        self
    }

    /// Made inside these leases too: it is refused if it would have to wait for one of them.
    pub fn inside(mut self, leases: impl IntoIterator<Item = LeaseId>) -> Self {
        self.inside.extend(leases);
        self
    }

    /// Somebody will look at [`Acquiring::progress`], from the first moment on.
    pub fn watched(mut self) -> Self {
        self.is_watched = true;
        self
    }

    /// How long the waiter may go unseen before it drops out of the queue.
    pub fn drops_out_after(mut self, unseen: Duration) -> Self {
        self.unseen = unseen;
        self
    }

    /// Heartbeats so far apart, and how long the lease lives without one.
    pub fn heartbeats(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.interval, self.term) = (interval, Term::Heartbeats(timeout));
        self
    }

    /// Heartbeats so far apart.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// A lease of fixed length, without heartbeats.
    pub fn fixed_term(mut self, span: Duration) -> Self {
        self.term = Term::Fixed(span);
        self
    }

    /// Bears so long with a store that does not answer.
    pub fn store_patience(mut self, span: Duration) -> Self {
        self.store_patience = span;
        self
    }

    /// The work will run in a process group of its own. The lease is not in use, and is
    /// taken back after the pool's claim time, until [`Lease::claim`] names the group.
    pub fn supervised(mut self) -> Self {
        self.supervised = true;
        self
    }

    /// Asks, and waits until the GPUs are granted. Not on a client that works on the
    /// caller's runtime, see [`ClientBuilder::on`](crate::ClientBuilder::on).
    ///
    /// # Errors
    /// [`Error::NotAcquired`] when the GPUs did not become free in time, [`Error::Refused`]
    /// when they never can, [`Error::Store`] when the store cannot be used.
    pub fn acquire(self) -> Result<Lease, Error> {
        let client = self.client.clone();
        let acquiring = self.start()?;
        client.inner.engine.block_on(acquiring).unwrap_or(Err(Error::CalledOff))
    }

    /// Begins to ask. The answer is awaited; dropping it calls the request off.
    ///
    /// # Errors
    /// [`Error::Start`] when the system gives no random numbers.
    pub fn start(self) -> Result<Acquiring, Error> {
        Ok(self.prepare()?.start())
    }

    /// Begins to ask, from a thread that may block for a moment: if the client has a
    /// [direct way](crate::ClientBuilder::direct) and the GPUs are free, the lease is there at
    /// once.
    ///
    /// # Errors
    /// [`Error::Start`] when the system gives no random numbers.
    pub fn begin(self) -> Result<Begun, Error> {
        let mut prepared = self.prepare()?;
        Ok(match prepared.client.obtain_directly(&mut prepared.asking) {
            Some(lease) => Begun::Acquired(Box::new(lease)),
            None => Begun::Waiting(prepared.start()),
        })
    }

    pub(crate) fn prepare(self) -> Result<Prepared, Error> {
        let began = BootTime::now();
        let until = self.max_wait.map(|span| began + span);
        let (state, progress) = watch::channel(WaitState::default());
        let watcher = self.is_watched.then(|| progress.clone());
        let lease_id = self.lease_id.map_or_else(new_lease_id, Ok)?;
        let client = self.client;
        // While it waits for the key of an older worker, the lease lives by heartbeats.
        let supervised = self.supervised && client.inner.older_keys.is_none();
        let owner = Owner { run: self.run, ..client.inner.owner().clone() };
        let asking = Asking {
            command: Command::Acquire(Request {
                lease_id,
                task: self.task,
                owner,
                wish: self.wish,
                priority: self.priority,
                term: self.term,
                supervised,
                patience: self.waits.then_some(self.unseen),
                comes_back: self.comes_back,
                channel: None,
                polls: 0,
                inside: self.inside,
            }),
            bounds: Bounds { began, until, store_patience: self.store_patience },
            interval: self.interval,
            polling: self.polling,
            polls: AtomicU32::new(0),
            state,
        };
        Ok(Prepared { client, asking, progress, watcher })
    }
}

/// A request that can be made.
pub(crate) struct Prepared {
    pub(crate) client: Client,
    pub(crate) asking: Asking,
    pub(crate) progress: watch::Receiver<WaitState>,
    watcher: Option<watch::Receiver<WaitState>>,
}

impl Prepared {
    fn start(self) -> Acquiring {
        let Self { client, asking, progress, watcher } = self;
        let (call_off, called_off) = oneshot::channel();
        let lease_id = asking.request().lease_id;
        let answer = client.inner.engine.handle().spawn(client.clone().obtain(asking, called_off));
        Acquiring { lease_id, progress, _watcher: watcher, answer, call_off }
    }
}

/// What came of beginning to ask.
#[derive(Debug)]
pub enum Begun {
    /// The GPUs were free.
    Acquired(Box<Lease>),
    /// It takes more than one question.
    Waiting(Acquiring),
}

/// A request under way. Awaiting it gives the lease; dropping it calls the request off.
#[derive(Debug)]
pub struct Acquiring {
    lease_id: LeaseId,
    progress: watch::Receiver<WaitState>,
    /// Counts as one who looks.
    _watcher: Option<watch::Receiver<WaitState>>,
    answer: JoinHandle<Result<Lease, Error>>,
    /// Dropped to call it off.
    call_off: oneshot::Sender<()>,
}

impl Acquiring {
    /// The id that the lease will have.
    pub fn lease_id(&self) -> LeaseId {
        self.lease_id
    }

    /// Calls the request off and waits until it is out of the queue, or for a second if the
    /// store does not answer.
    pub async fn call_off(self) {
        let Self { answer, call_off, .. } = self;
        drop(call_off);
        // Should it have been granted at this moment, dropping the lease gives it back.
        let _ = answer.await;
    }

    /// What the waiter knows about its wait, as it changes.
    pub fn progress(&self) -> watch::Receiver<WaitState> {
        self.progress.clone()
    }
}

impl Future for Acquiring {
    type Output = Result<Lease, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The task ends early only when its runtime does.
        Pin::new(&mut self.answer).poll(context).map(|ended| ended.unwrap_or(Err(Error::CalledOff)))
    }
}

fn new_lease_id() -> Result<LeaseId, Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Error::Start(std::io::Error::other(error)))?;
    Ok(LeaseId::from_bits(u128::from_be_bytes(bits)))
}

//! A client of one pool: where requests start and leases are kept alive.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use gpulock_core::{
    Channel, Command, Counters, GpuRef, Inventory, InventorySource, LeaseId, LeaseRef, Owner,
    PoolName, Refusal, Reply, Request, SeizeMode, Settings, Subject, TaskName,
};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, oneshot, watch};

use crate::clock::BootTime;
use crate::config::{Config, Gpus, OnStoreError};
use crate::direct::Direct;
use crate::engine::Engine;
use crate::error::Error;
use crate::gpus;
use crate::heartbeat::Keeper;
use crate::lease::Lease;
use crate::post::Post;
use crate::process;
use crate::request::RequestBuilder;
use crate::status::PoolStatus;
use crate::store::{LockKeys, Scope, Store, StoreError, Wanted};
use crate::stored::{Patience, Stored};
use crate::wait::{Bounds, Grant, Polling, Wait, WaitState, tell_trouble};
use crate::witness::Witness;

/// Asks for GPUs of one pool and keeps leases alive. Clones are the same client.
///
/// A client works on a thread of its own, so heartbeats go on whatever the caller does;
/// with [`ClientBuilder::on`] it works on the caller's tokio runtime instead, and the
/// blocking methods must not be used.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What makes a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    store: Arc<dyn Store>,
    direct: Option<Arc<dyn Store>>,
    options: Options,
    runtime: Option<Handle>,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which pool.
    pub pool: PoolName,
    /// Which GPUs the pool has, if the configuration says so; `None`: ask the driver.
    pub gpus: Option<Vec<GpuRef>>,
    /// How a waiter looks again when nobody wakes it.
    pub polling: Polling,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a lease lives without a heartbeat.
    pub heartbeat_timeout: Duration,
    /// How long a request waits unless it says otherwise.
    pub max_wait: Duration,
    /// How long to bear with a store that does not answer.
    pub store_patience: Duration,
    /// From SIGTERM to SIGKILL, for what a dead `gpulock run` left behind.
    pub stop_grace: Duration,
    /// How long a granted waiter has to pick its grant up.
    pub claim_time: Duration,
    /// Name and version of the program, for people.
    pub client_name: String,
    /// Leases inside which this process runs.
    pub inside: Vec<LeaseId>,
    /// Respect the lock keys of older workers in the store's database, and set them while a
    /// GPU is held.
    pub legacy_keys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pool: PoolName::default(),
            gpus: None,
            polling: Polling::default(),
            heartbeat_interval: Duration::from_secs(10),
            heartbeat_timeout: Duration::from_secs(30),
            max_wait: Duration::from_secs(1_800),
            store_patience: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            claim_time: Duration::from_secs(10),
            client_name: concat!("gpulock ", env!("CARGO_PKG_VERSION")).to_owned(),
            inside: Vec::new(),
            legacy_keys: false,
        }
    }
}

impl From<&Config> for Options {
    /// What a configuration says, for the default pool; leases inside which this process
    /// runs are those of `GPULOCK_LEASE_ID`.
    fn from(config: &Config) -> Self {
        let lock = &config.gpu_lock;
        let heartbeat = &config.gpu_lock_monitor.heartbeat;
        let around = std::env::var("GPULOCK_LEASE_ID");
        Self {
            gpus: match &config.gpus {
                Gpus::Auto => None,
                Gpus::These(gpus) => Some(gpus.clone()),
            },
            polling: Polling {
                first: lock.poll_interval,
                longest: lock.longest_pause(),
                doubles: lock.exponential_backoff,
                wake_ups: lock.use_event_driven,
            },
            heartbeat_interval: heartbeat.interval,
            heartbeat_timeout: heartbeat.timeout,
            max_wait: lock.max_wait_time,
            store_patience: match lock.on_store_error {
                OnStoreError::Wait => lock.max_wait_time.max(lock.store_patience),
                OnStoreError::Fail | OnStoreError::RunUnlocked => lock.store_patience,
            },
            stop_grace: lock.stop_grace,
            claim_time: lock.claim_time,
            inside: around.iter().filter_map(|id| id.parse().ok()).collect(),
            legacy_keys: config.compat.legacy_keys,
            ..Self::default()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) stored: Stored,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) engine: Engine,
    /// `None` where every caller takes the way through the engine.
    pub(crate) direct: Option<Direct>,
    /// `None` where older workers do not matter.
    pub(crate) older_keys: Option<Arc<dyn LockKeys>>,
    owner: Owner,
    post: OnceCell<Arc<Post>>,
    /// Counts down to nothing when the last unfinished release is settled.
    pub(crate) unsettled: watch::Sender<usize>,
    keeping: tokio::task::AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl ClientBuilder {
    /// With these settings.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// On the caller's runtime, which must have I/O and time enabled.
    #[must_use]
    pub fn on(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// With a way to the store from the threads of callers, which [`RequestBuilder::begin`] and
    /// [`Lease::release_directly`] take: `store` is the same store, opened once more if it
    /// keeps a connection.
    #[must_use]
    pub fn direct(mut self, store: Arc<dyn Store>) -> Self {
        self.direct = Some(store);
        self
    }

    /// Starts the client.
    ///
    /// # Errors
    /// [`Error::Start`] if no thread can be started, [`Error::NoLockKeys`] if older workers
    /// cannot have keys beside this store.
    pub fn build(self) -> Result<Client, Error> {
        let Options { pool, heartbeat_timeout, .. } = &self.options;
        let older_keys = match self.options.legacy_keys {
            true => Some(self.store.lock_keys().ok_or(Error::NoLockKeys)?),
            false => None,
        };
        let direct = self
            .direct
            .map(|store| Direct::new(store, pool.clone(), *heartbeat_timeout))
            .transpose()
            .map_err(Error::Start)?;
        let stored = Stored::new(self.store, pool.clone(), *heartbeat_timeout);
        let keeper = Keeper::new(stored.clone());
        let engine = match self.runtime {
            Some(handle) => Engine::Callers(handle),
            None => Engine::own().map_err(Error::Start)?,
        };
        let keeping = engine.handle().spawn(Arc::clone(&keeper).run()).abort_handle();
        let mut owner = process::this_owner(&self.options.client_name);
        owner.is_remote = stored.store.scope() == Scope::Network;
        let (unsettled, _) = watch::channel(0);
        let (options, post) = (self.options, OnceCell::new());
        let inner = Inner {
            options,
            stored,
            keeper,
            engine,
            direct,
            older_keys,
            owner,
            post,
            unsettled,
            keeping,
        };
        Ok(Client { inner: Arc::new(inner) })
    }
}

impl Client {
    /// A client of the default pool of a store.
    pub fn builder(store: Arc<dyn Store>) -> ClientBuilder {
        ClientBuilder { store, direct: None, options: Options::default(), runtime: None }
    }

    /// A request for any one GPU, to be refined.
    pub fn request(&self, task: TaskName) -> RequestBuilder {
        RequestBuilder::new(self.clone(), task)
    }

    /// Who holds and who waits, as everybody sees it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn status(&self) -> Result<PoolStatus, Error> {
        let stored = &self.inner.stored;
        let view = stored.store.read(&stored.pool, None).await?;
        let waiters = stored.store.waiters(&stored.pool, usize::MAX >> 1).await?;
        Ok(PoolStatus::new(&stored.pool, &view, &waiters))
    }

    /// What happened, the latest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn history(&self, wanted: &Wanted) -> Result<Vec<gpulock_core::Event>, Error> {
        let stored = &self.inner.stored;
        let entries = stored.store.history(&stored.pool, wanted).await?;
        Ok(entries.into_iter().map(|entry| entry.event).collect())
    }

    /// Takes a lease away from its holder. `false` if it was no longer the current one;
    /// nothing has changed then.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn seize(
        &self,
        lease: LeaseRef,
        reason: &str,
        mode: SeizeMode,
    ) -> Result<bool, Error> {
        let Owner { user, host, .. } = &self.inner.owner;
        self.seize_for(&format!("{user}@{host}"), lease, reason, mode).await
    }

    /// Asks the holder of a lease to stop. `false` if it was no longer the current one.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn ask_to_stop(&self, lease: LeaseRef, reason: &str) -> Result<bool, Error> {
        self.is_current(&Command::AskToStop { lease, reason: reason.to_owned() }).await
    }

    /// Asks the driver (or the configuration) again which GPUs the pool has, and writes it
    /// down.
    ///
    /// # Errors
    /// If the driver does not answer or the store cannot be used.
    pub async fn refresh_gpus(&self) -> Result<Inventory, Error> {
        self.configure(&self.inner.patience(&|_| {})).await
    }

    /// Looks at the processes of this host that hold or wait, and tells the store of those
    /// that are gone. How many those were.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let stored = &self.inner.stored;
        let patience = self.inner.patience(&|_| {});
        let view = stored.read_patiently(&patience).await?;
        let waiters = stored.store.waiters(&stored.pool, usize::MAX >> 1).await?;
        let (sight, scope) = (self.inner.owner.sight().cloned(), stored.store.scope());
        let gone = Witness::new(sight, scope, self.inner.options.stop_grace)
            .find_gone(&view.pool, &waiters, view.now);
        for seen in &gone {
            let asking = match seen.subject {
                Subject::Waiter(lease_id) => Some(lease_id),
                Subject::Lease(_) => None,
            };
            stored.step_patiently(&Command::Observe(seen.clone()), asking, &patience).await?;
        }
        Ok(gone.len())
    }

    /// The running sums of the pool.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn counters(&self) -> Result<Counters, Error> {
        let stored = &self.inner.stored;
        Ok(stored.store.read(&stored.pool, None).await?.pool.ledger.counters)
    }

    /// Waits until nothing is left to be said to the store, for at most `patience`.
    /// `false` if something is.
    pub async fn settle(&self, patience: Duration) -> bool {
        let mut unsettled = self.inner.unsettled.subscribe();
        let settled = unsettled.wait_for(|count| *count == 0);
        matches!(tokio::time::timeout(patience, settled).await, Ok(Ok(_)))
    }

    pub(crate) async fn is_current(&self, command: &Command) -> Result<bool, Error> {
        let patience = self.inner.patience(&|_| {});
        let outcome = self.inner.stored.step_patiently(command, None, &patience).await?;
        Ok(outcome.reply == Reply::Done)
    }

    /// Waits for a grant and keeps it alive. See [`RequestBuilder`].
    pub(crate) async fn obtain(
        self,
        mut asking: Asking,
        mut called_off: oneshot::Receiver<()>,
    ) -> Result<Lease, Error> {
        let granted = self.wait_for_grant(&mut asking, &mut called_off).await?;
        let mut lease = self.hold(granted, &asking);
        if self.inner.older_keys.is_some()
            && let Err(error) =
                Box::pin(self.take_older_keys(&mut lease, &asking, &mut called_off)).await
        {
            // What the store does not hear of now, the client goes on telling it.
            let _ = lease.release().await;
            return Err(error);
        }
        Ok(lease)
    }

    /// Waits for a grant in a pool that may not know its GPUs yet.
    pub(crate) async fn wait_for_grant(
        &self,
        asking: &mut Asking,
        called_off: &mut oneshot::Receiver<()>,
    ) -> Result<Grant, Error> {
        self.match_configured_gpus(asking).await?;
        let post = self.inner.post().await;
        asking.listens_at(post.channel.clone());
        match self.attempt(asking, &post, called_off).await {
            Err(Error::Refused(Refusal::NoInventory)) => {
                self.configure(&asking.patience(&tell_trouble(&asking.state))).await?;
                self.attempt(asking, &post, called_off).await
            }
            answered => answered,
        }
    }

    /// Asks until there is an answer; `called_off` ends that when its other end is dropped.
    async fn attempt(
        &self,
        asking: &Asking,
        post: &Post,
        called_off: &mut oneshot::Receiver<()>,
    ) -> Result<Grant, Error> {
        let Inner { options, stored, owner, .. } = &*self.inner;
        let scope = stored.store.scope();
        let wait = Wait {
            stored,
            post,
            polling: &asking.polling,
            request: asking.request(),
            command: &asking.command,
            bounds: asking.bounds,
            witness: Witness::new(owner.sight().cloned(), scope, options.stop_grace),
            other_run: None,
            polls: &asking.polls,
            state: &asking.state,
        };
        // On the heap: as part of this future it would be moved over the stack again and again.
        let granted = Box::pin(wait.run(called_off)).await;
        if let Err(error) = &granted {
            self.withdraw(asking, error).await;
        }
        granted
    }

    /// A list of GPUs in the configuration decides, whatever the pool says so far.
    async fn match_configured_gpus(&self, asking: &Asking) -> Result<(), Error> {
        if self.inner.options.gpus.is_none() {
            return Ok(());
        }
        let tell = tell_trouble(&asking.state);
        let view = self.inner.stored.read_patiently(&asking.patience(&tell)).await?;
        if !self.knows_configured_gpus(view.pool.ledger.inventory.as_ref()) {
            self.configure(&asking.patience(&tell)).await?;
        }
        Ok(())
    }

    /// Whether the pool has the GPUs that the configuration lists, if it lists any.
    pub(crate) fn knows_configured_gpus(&self, inventory: Option<&Inventory>) -> bool {
        let Some(configured) = &self.inner.options.gpus else { return true };
        inventory.is_some_and(|inventory| {
            inventory.source == InventorySource::Configuration
                && inventory.gpus.len() == configured.len()
                && configured.iter().all(|gpu| inventory.find(gpu).is_some())
        })
    }

    async fn configure(&self, patience: &Patience<'_>) -> Result<Inventory, Error> {
        let inventory = gpus::inventory(self.inner.options.gpus.clone()).await?;
        let settings =
            Settings { claim_time: self.inner.options.claim_time, ..Settings::default() };
        let command = Command::Configure { inventory: inventory.clone(), settings };
        self.inner.stored.step_patiently(&command, None, patience).await?;
        Ok(inventory)
    }
}

/// One request on its way.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Asks for it: an acquire.
    pub(crate) command: Command,
    pub(crate) bounds: Bounds,
    /// Between two heartbeats of the lease.
    pub(crate) interval: Duration,
    pub(crate) polling: Polling,
    /// How often it has looked again because nobody woke it.
    pub(crate) polls: AtomicU32,
    pub(crate) state: watch::Sender<WaitState>,
}

impl Asking {
    pub(crate) fn request(&self) -> &Request {
        match &self.command {
            Command::Acquire(request) => request,
            other => unreachable!("a request is asked for by {other:?}"),
        }
    }

    /// Wake-ups for it come here.
    pub(crate) fn listens_at(&mut self, place: Option<Channel>) {
        if let Command::Acquire(request) = &mut self.command {
            request.channel = place;
        }
    }

    pub(crate) fn patience<'a>(
        &self,
        tell: &'a (dyn Fn(Option<&StoreError>) + Send + Sync),
    ) -> Patience<'a> {
        Patience { until: BootTime::now() + self.bounds.store_patience, tell }
    }
}

impl Inner {
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The mailbox of this client, if it was opened.
    pub(crate) fn post_if_open(&self) -> Option<&Post> {
        self.post.get().map(|post| &**post)
    }

    /// The mailbox of this client, opened when it is first needed.
    async fn post(&self) -> Arc<Post> {
        let open = async || match self.options.polling.wake_ups {
            true => Arc::new(Post::open(&*self.stored.store, Arc::clone(&self.keeper)).await),
            false => Arc::new(Post::closed()),
        };
        Arc::clone(self.post.get_or_init(open).await)
    }

    pub(crate) fn patience<'a>(
        &self,
        tell: &'a (dyn Fn(Option<&StoreError>) + Send + Sync),
    ) -> Patience<'a> {
        Patience { until: BootTime::now() + self.options.store_patience, tell }
    }
}

//! Which of several daemons on one store acts: the one that holds a lease in a pool of their
//! own. The others stand by in its queue, so they take over as any waiter does.

use std::sync::Arc;
use std::time::Duration;

use gpulock::config::Config;
use gpulock::core::{GpuIndex, GpuRef, LeaseRef, PoolName, SeizeMode, TaskName, Token};
use gpulock::store::Store;
use gpulock::{Client, Lease, LeaseStateName, Options};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The pool in which daemons elect one that acts. It has one place, and no GPU.
pub(crate) const MONITOR_POOL: &str = "gpulock-monitor";

/// Longer than any program runs.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Before trying again after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// A candidate for the one place.
#[derive(Debug)]
pub(crate) struct Leadership {
    client: Client,
    leads: watch::Sender<bool>,
    /// Between two looks at whether the one that acts hangs.
    look: Duration,
}

impl Leadership {
    /// A candidate, which does not stand yet.
    ///
    /// # Errors
    /// If the client cannot be started.
    pub(crate) fn new(store: Arc<dyn Store>, config: &Config) -> Result<Self, gpulock::Error> {
        let options = Options {
            pool: monitor_pool(),
            gpus: Some(vec![GpuRef::Index(GpuIndex(0))]),
            max_wait: FOR_EVER,
            inside: Vec::new(),
            legacy_keys: false,
            ..Options::from(config)
        };
        let runtime = tokio::runtime::Handle::current();
        let client = Client::builder(store).options(options).on(runtime).build()?;
        let look = config.gpu_lock_monitor.heartbeat.interval;
        Ok(Self { client, leads: watch::Sender::new(false), look })
    }

    /// A client of the pool of the daemons.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether this daemon acts.
    pub(crate) fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// The same, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Stands for the place while `wanted`, until `shutdown`; then gives it back.
    pub(crate) async fn stand(
        &self,
        mut wanted: watch::Receiver<bool>,
        shutdown: &CancellationToken,
    ) {
        loop {
            let may_stand = async { wanted.wait_for(|wanted| *wanted).await.map(drop) };
            if !matches!(shutdown.run_until_cancelled(may_stand).await, Some(Ok(()))) {
                return;
            }
            let standing = async {
                tokio::select! {
                    lease = self.elected() => lease,
                    () = self.pass_over_who_hangs() => None,
                    _ = wanted.wait_for(|wanted| !*wanted) => None,
                }
            };
            let Some(elected) = shutdown.run_until_cancelled(standing).await else { return };
            let Some(lease) = elected else { continue };
            self.leads.send_replace(true);
            tracing::info!(token = lease.token().value(), "this monitor acts from now on");
            tokio::select! {
                () = lease.lost() => tracing::warn!("this monitor has lost its lease and stands by"),
                _ = wanted.wait_for(|wanted| !*wanted) => {}
                () = shutdown.cancelled() => {}
            }
            self.leads.send_replace(false);
            if let Err(error) = lease.release().await {
                tracing::warn!("the monitor's place could not be given back: {error}");
            }
        }
    }

    /// The lease of a daemon that hangs is over, but its process is there, so its place would
    /// stay taken. It is taken away from it: when such a daemon goes on, it finds that out with
    /// its next heartbeat, and a round that it makes before does no harm, because every level
    /// acts once.
    async fn pass_over_who_hangs(&self) {
        loop {
            tokio::time::sleep(self.look).await;
            let Ok(status) = self.client.status().await else { continue };
            let hung = status.leases.iter().filter(|one| one.state == LeaseStateName::Draining);
            for lease in hung {
                let named =
                    LeaseRef { lease_id: lease.lease_id, token: Token::from_value(lease.token) };
                let mode = SeizeMode::IgnoreProcesses;
                if let Ok(true) = self.client.seize(named, "it hangs", mode).await {
                    tracing::warn!("the monitor on {} hangs and is passed over", lease.host);
                }
            }
        }
    }

    /// Waits for the place; `None` if that has to begin anew.
    async fn elected(&self) -> Option<Lease> {
        let task: TaskName = "gpulock serve".parse().ok()?;
        let answer = match self.client.request(task).start() {
            Ok(asking) => asking.await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(lease) => Some(lease),
            Err(error) => {
                tracing::warn!("this monitor cannot stand for election: {error}");
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}

/// The name of the pool of the daemons.
pub(crate) fn monitor_pool() -> PoolName {
    MONITOR_POOL.parse().expect("a name that is one")
}

//! `gpulock serve`: the monitor, and the HTTP API.

mod alerts;
mod api;
mod application;
mod audit;
mod auth;
mod body;
mod connection;
mod failures;
mod figures;
mod given_up;
mod guard;
mod health;
mod hosts;
mod input;
mod job_mapping;
mod journal;
mod leadership;
mod logging;
mod mailboxes;
pub(crate) mod metrics;
mod monitor;
mod notes;
pub(crate) mod openapi;
mod picture;
mod problem;
mod server;
mod settings;
mod signals;
mod signs;
mod socket;
mod statistics;
#[cfg(test)]
mod tests;
mod watchdog;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use gpulock::config::Config;
use gpulock::core::health::Issue;
use gpulock::core::{Ending, PoolName, What};
use gpulock::store::{Entry, Store, StoreError};
use gpulock::{Client, Error, Options};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{Cli, Serve};
use crate::commands::history::sentence;
use crate::exit::{Code, Failure};
use crate::session::Session;
use alerts::Alerts;
use api::Waits;
use application::application;
use guard::{Guard, Policy};
use health::Readiness;
use job_mapping::JobMapping;
use journal::Journal;
use leadership::Leadership;
pub(crate) use leadership::monitor_pool;
pub(crate) use logging::begin as begin_to_log;
use mailboxes::Mailboxes;
use monitor::Monitor;
use picture::{Picture, Pictures};
use server::Limits;
use settings::Settings;

/// The longest time between two looks at who holds which GPU.
const JOBS_LOOK: Duration = Duration::from_secs(5);

/// How many clients are kept.
const MOST_CLIENTS: usize = 1_000;

/// Clients by pool, made as a configuration says.
#[derive(Debug, Default)]
struct Clients {
    config: Option<Arc<Config>>,
    by_pool: HashMap<PoolName, Client>,
}

/// Everything that monitor and API share.
#[derive(Debug)]
pub(crate) struct Daemon {
    store: Arc<dyn Store>,
    settings: Settings,
    /// The pool of those who name none.
    pool: PoolName,
    host: String,
    clients: Mutex<Clients>,
    pictures: Arc<Pictures>,
    journal: Journal,
    leadership: Leadership,
    monitor: Monitor,
    alerts: Alerts,
    /// Requests that wait for GPUs or for news.
    waits: Waits,
    /// Of clients whose store this daemon is.
    mailboxes: Mailboxes,
    /// Ends streams and waits when the daemon does.
    shutdown: CancellationToken,
}

impl Daemon {
    fn start(cli: &Cli, session: &Session, shutdown: CancellationToken) -> Result<Self, Failure> {
        let store = session.connect()?;
        Ok(Self {
            settings: Settings::new(cli.clone(), session),
            pool: session.pool.clone(),
            host: gpulock::process::host(),
            clients: Mutex::default(),
            pictures: Arc::new(Pictures::new(Arc::clone(&store))),
            journal: Journal::new(Arc::clone(&store)),
            leadership: Leadership::new(Arc::clone(&store), session.config())?,
            monitor: Monitor::default(),
            alerts: Alerts::new(Arc::clone(&store), session.config(), &gpulock::process::host())?,
            waits: Waits::default(),
            mailboxes: Mailboxes::new(Arc::clone(&store), shutdown.clone()),
            shutdown,
            store,
        })
    }

    /// The pools of the store, without that of the daemons.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        let mut pools = self.store.pools().await?;
        pools.retain(|pool| *pool != monitor_pool());
        Ok(pools)
    }

    /// A client of a pool.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn client(&self, pool: &PoolName) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.settings.current();
        // Those of an older configuration, or for too many names that callers made up.
        let is_current = clients.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config));
        if !is_current || clients.by_pool.len() >= MOST_CLIENTS {
            *clients = Clients { config: Some(Arc::clone(&config)), by_pool: HashMap::new() };
        }
        if let Some(client) = clients.by_pool.get(pool) {
            return Ok(client.clone());
        }
        let options = Options::from(&*config);
        let options = Options {
            // Those of another host are not known here.
            gpus: options.gpus.filter(|_| *pool == self.pool),
            pool: pool.clone(),
            inside: Vec::new(),
            client_name: concat!("gpulock serve ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..options
        };
        let runtime = tokio::runtime::Handle::current();
        let client =
            Client::builder(Arc::clone(&self.store)).options(options).on(runtime).build()?;
        clients.by_pool.insert(pool.clone(), client.clone());
        Ok(client)
    }

    fn tell_beginning(&self, address: Option<SocketAddr>) {
        let place = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!("gpulock serve {} answers at http://{place}", env!("CARGO_PKG_VERSION"));
    }

    /// Tells the pool of this host its GPUs, if nobody has: then it can be looked at before the
    /// first request.
    async fn learn_gpus(&self) {
        let learnt = async {
            let view = self.store.read(&self.pool, None).await?;
            match view.pool.ledger.inventory {
                Some(_) => Ok(()),
                None => self.client(&self.pool)?.refresh_gpus().await.map(drop),
            }
        };
        if let Err(error) = learnt.await {
            tracing::warn!("the GPUs of pool {} are not known yet: {error}", self.pool);
        }
    }

    /// Keeps the folder for dcgm-exporter, if there is to be one.
    async fn map_jobs(&self, shutdown: &CancellationToken) {
        let Some(folder) = self.settings.current().server.job_mapping_dir.clone() else { return };
        let mut mapping = JobMapping::new(folder);
        let mut news = self.journal.ends();
        while !shutdown.is_cancelled() {
            if let Ok(picture) = self.pictures.of(&self.pool).await {
                let task = |id| picture.view.pool.lease(id).map(|lease| lease.task.to_string());
                let gpus = picture.status.gpus.iter();
                let tasks: Vec<_> = gpus.map(|gpu| (gpu.id, gpu.lease_id.and_then(task))).collect();
                let gpus: Vec<_> =
                    tasks.iter().map(|(gpu, task)| (*gpu, task.as_deref())).collect();
                if let Err(error) = mapping.update(&gpus) {
                    tracing::warn!("server.job_mapping_dir cannot be kept: {error}");
                }
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(JOBS_LOOK) => {}
                () = shutdown.cancelled() => {}
            }
        }
        if let Err(error) = mapping.clear() {
            tracing::warn!("server.job_mapping_dir cannot be cleared: {error}");
        }
    }

    /// Something has happened in a pool.
    fn hear(&self, pool: &PoolName, entry: &Entry) {
        self.monitor.hear(entry);
        let event = &entry.event;
        let task = event.party.as_ref().map(|party| party.task.to_string()).unwrap_or_default();
        match &event.what {
            _ if !self.leadership.leads() => {}
            What::Overdue { .. } | What::StillDraining { .. } | What::Incident { .. } => {
                tracing::warn!(%pool, "{task} {}", sentence(event));
                self.note_given_up(pool, event);
            }
            What::Ended { how, .. } if *how != Ending::Released => {
                tracing::warn!(%pool, "{task} {}", sentence(event));
            }
            _ => tracing::debug!(%pool, "{task} {}", sentence(event)),
        }
    }

    /// What is wrong with a pool.
    pub(crate) async fn issues(&self, picture: &Picture) -> Vec<Issue> {
        let thresholds = statistics::thresholds(&self.settings.current().gpu_lock_monitor);
        let recent = self.recent_outcomes(picture).await;
        picture.view.pool.issues(picture.view.now, &picture.waiters, recent, &thresholds)
    }
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// If it may not or cannot listen, or the store cannot be opened.
pub(crate) async fn serve(what: &Serve, cli: &Cli, session: &Session) -> Result<Code, Failure> {
    logging::begin(what.log);
    let shutdown = CancellationToken::new();
    let stopping = signals::until_told_to_stop(shutdown.clone())?;
    let hang_ups = signals::hang_ups();
    let config = session.config();
    auth::may_listen(&config.server, what.insecure_no_auth)?;
    let guard = Guard::new(policy(config)?);
    let listener = listen(config.server.listen).await?;
    let daemon = Arc::new(Daemon::start(cli, session, shutdown.clone())?);
    daemon.tell_beginning(listener.local_addr().ok());
    let limits = Limits::default();
    let app = application(routes(&daemon), guard.clone(), &limits);
    let (wanted, wants) = watch::channel(false);
    watchdog::tell_ready();
    tokio::join!(
        server::serve(listener, app, limits, shutdown.clone()),
        monitor::run(&daemon, wanted, &shutdown),
        daemon.leadership.stand(wants, &shutdown),
        daemon.journal.follow(&shutdown, |pool, entry| daemon.hear(pool, entry)),
        daemon.learn_gpus(),
        daemon.map_jobs(&shutdown),
        alerts::run(&daemon, &shutdown),
        alerts::keep_switch(&daemon, &shutdown),
        daemon.settings.follow(&shutdown, hang_ups, |config| {
            let policy = policy(config)?;
            daemon.alerts.replace(config)?;
            guard.replace(policy);
            Ok(())
        }),
        stopping,
    );
    tracing::info!("gpulock serve has ended");
    Ok(Code::Ok)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Code::NotAllowed, format!("{address} cannot be listened on: {error}")).hint(
            "another gpulock serve may be running; --listen ADDRESS:PORT chooses another place",
        )
    })
}

/// Who may ask, as the configuration says.
fn policy(config: &Config) -> Result<Policy, Failure> {
    let (policy, warnings) = Policy::load(&config.server)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(policy)
}

/// Everything that can be asked.
fn routes(daemon: &Arc<Daemon>) -> Router {
    let asked = Arc::clone(daemon);
    let ready = Readiness::new(Arc::new(move || {
        let daemon = Arc::clone(&asked);
        Box::pin(async move {
            let read = daemon.store.read(&daemon.pool, None).await;
            read.map(drop).map_err(|error| error.to_string())
        })
    }));
    let api = Router::from(api::routes()).with_state(Arc::clone(daemon));
    api.merge(Router::from(health::routes()).with_state(ready))
}

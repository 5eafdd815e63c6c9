//! What the tests share: a server that can be killed and started again, and clients of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use gpulock::core::{GpuIndex, GpuRef, PoolName, TaskName};
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Mailbox, Store, View};
use gpulock::{Client, Options, Polling, connect};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::super::{Lent, routes};
use crate::daemon::application::application;
use crate::daemon::guard::{Guard, Policy};
use crate::daemon::mailboxes::{Limits, Mailboxes};
use crate::daemon::picture::Pictures;
use crate::daemon::server;

/// Longer than anything takes that a test waits for.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// So long that it never passes while a test runs.
const AGES: Duration = Duration::from_secs(3_600);

/// A server of its own runtime: when it is dropped, everything in it ends at once.
pub(super) struct Served {
    runtime: Option<Runtime>,
    pub(super) address: SocketAddr,
}

impl Served {
    /// Lends this store on a free port.
    pub(super) fn lending(store: Arc<dyn Store>) -> Self {
        Self::start(application_of(store), None)
    }

    /// The same with other limits, until `shutdown`.
    pub(super) fn within(
        store: Arc<dyn Store>,
        shutdown: &CancellationToken,
        limits: Limits,
    ) -> Self {
        Self::start(app(store, shutdown, limits), None)
    }

    /// Serves `app`, on a free port or on this one.
    pub(super) fn start(app: Router, address: Option<SocketAddr>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = match address {
            Some(address) => listen_again(address),
            None => gpulock_testbed::listen(),
        };
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let shutdown = CancellationToken::new();
            server::serve(listener, app, server::Limits::default(), shutdown).await;
        });
        Self { runtime: Some(runtime), address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn connect(&self) -> Arc<dyn Store> {
        connect(&self.url()).unwrap()
    }
}

/// Its last listener may not be gone yet.
fn listen_again(address: SocketAddr) -> std::net::TcpListener {
    let mut listener = None;
    gpulock_testbed::wait_until("nobody listens there any more", || {
        listener = std::net::TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// The routes alone, on this store.
pub(super) fn app(store: Arc<dyn Store>, shutdown: &CancellationToken, limits: Limits) -> Router {
    let mailboxes = Mailboxes::within(Arc::clone(&store), shutdown.clone(), limits);
    let pictures = Arc::new(Pictures::new(Arc::clone(&store)));
    routes::<Lent>().with_state(Lent { store, pictures, mailboxes }).into()
}

/// The routes without anything around them.
pub(super) fn bare(store: Arc<dyn Store>) -> Router {
    app(store, &CancellationToken::new(), Limits::default())
}

/// The routes with everything that the server has around them.
pub(super) fn application_of(store: Arc<dyn Store>) -> Router {
    let app = app(store, &CancellationToken::new(), Limits::default());
    application(app, Guard::new(Policy::default()), &server::Limits::default())
}

/// A file that several stores can be opened on.
pub(super) struct File(tempfile::TempDir);

impl File {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.0.path().join("gpulock.db")).unwrap())
    }
}

/// A client of a pool with GPU 0 that hears of things by wake-ups alone.
pub(super) fn client(store: Arc<dyn Store>) -> Client {
    let options = Options {
        gpus: Some(vec![GpuRef::Index(GpuIndex(0))]),
        polling: Polling { first: AGES, longest: AGES, doubles: false, wake_ups: true },
        heartbeat_interval: AGES,
        heartbeat_timeout: AGES * 3,
        max_wait: AGES,
        ..Options::default()
    };
    Client::builder(store).options(options).build().unwrap()
}

pub(super) fn task(name: &str) -> TaskName {
    name.parse().unwrap()
}

/// Runs a future to its end; one that takes too long fails the test.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LONG, work).await });
    ended.expect("waited in vain")
}

pub(super) async fn view(store: &Arc<dyn Store>) -> View {
    store.read(&PoolName::default(), None).await.unwrap()
}

/// Waits until so many wait.
pub(super) fn until_queued(store: &Arc<dyn Store>, count: usize) {
    gpulock_testbed::wait_until("they wait", || {
        let waiters = block_on(store.waiters(&PoolName::default(), 1_000)).unwrap();
        waiters.len() == count
    });
}

/// Opens a mailbox and hears of it at the store, so that nothing is lost from here on.
pub(super) async fn mailbox(store: &Arc<dyn Store>) -> Box<dyn Mailbox> {
    store.open_mailbox().await.unwrap()
}

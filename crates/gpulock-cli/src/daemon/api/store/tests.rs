//! The library's HTTP store against a daemon that runs in this process.

mod answers;
mod outages;
mod promises;
mod served;
mod tls;
mod tokens;
mod wake_ups;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use gpulock::conformance::StoreUnderTest;
use gpulock::core::{GpuIndex, GpuRef};
use gpulock::store::http::HttpStore;
use gpulock::store::{Letter, Store, StoreError};
use gpulock::{Client, Options, Polling};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::Cli;
use crate::daemon::application::application;
use crate::daemon::guard::{Guard, Policy};
use crate::daemon::server::{self, Limits};
use crate::daemon::{Daemon, routes};
use crate::session::Session;

/// Longer than anything takes that a test waits for.
const LONG: Duration = Duration::from_secs(60);

gpulock::conformance_tests!(over_memory, || async { under_test("memory:", None).await });

gpulock::conformance_tests!(over_sqlite, || async {
    let folder = TempDir::new().unwrap();
    let url = url_of(folder.path());
    under_test(&url, Some(folder)).await
});

async fn under_test(url: &str, folder: Option<TempDir>) -> StoreUnderTest {
    let daemon = Running::start(url, Policy::default(), None).await;
    let (store, second) = (daemon.store(), daemon.store());
    StoreUnderTest::new(store, second).guarded_by((daemon, folder))
}

fn url_of(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("gpulock.db").display())
}

/// A daemon under way. It answers, and has no monitor.
struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Running {
    async fn start(url: &str, policy: Policy, address: Option<SocketAddr>) -> Self {
        let cli = Cli::parse_from(["gpulock", "--store", url, "serve"]);
        let session = Session::load(&cli).unwrap();
        let shutdown = CancellationToken::new();
        let daemon = Arc::new(Daemon::start(&cli, &session, shutdown.clone()).unwrap());
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits::default();
        let app = application(routes(&daemon), Guard::new(policy), &limits);
        let serving = tokio::spawn(server::serve(listener, app, limits, shutdown.clone()));
        Self { address, shutdown, serving: Some(serving) }
    }

    /// A client's view of its store.
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(HttpStore::open(&format!("http://{}", self.address)).unwrap())
    }

    /// Ends it as a signal would.
    async fn stop(mut self) {
        self.shutdown.cancel();
        self.serving.take().unwrap().await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

fn on_runtime(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async { tokio::time::timeout(LONG, test).await.unwrap() });
}

fn client(store: Arc<dyn Store>, poll: Duration) -> Client {
    let options = Options {
        gpus: Some(vec![GpuRef::Index(GpuIndex(0))]),
        polling: Polling { first: poll, longest: poll, ..Polling::default() },
        ..Options::default()
    };
    let runtime = tokio::runtime::Handle::current();
    Client::builder(store).options(options).on(runtime).build().unwrap()
}

#[test]
fn a_release_wakes_a_waiter_at_another_client() {
    on_runtime(async {
        let daemon = Running::start("memory:", Policy::default(), None).await;
        // If it were not woken it would not look again within the time of this test.
        let never = Duration::from_secs(3_600);
        let (one, other) = (client(daemon.store(), never), client(daemon.store(), never));
        let held = one.request("one".parse().unwrap()).start().unwrap().await.unwrap();
        let waiting = other.request("other".parse().unwrap()).start().unwrap();
        let mut progress = waiting.progress();
        progress.wait_for(|state| state.ahead.is_some()).await.unwrap();
        held.release().await.unwrap();
        let next = waiting.await.unwrap();
        next.release().await.unwrap();
    });
}

#[test]
fn a_waiter_outlives_a_restart_of_the_daemon() {
    on_runtime(async {
        let folder = TempDir::new().unwrap();
        let url = url_of(folder.path());
        let daemon = Running::start(&url, Policy::default(), None).await;
        let address = daemon.address;
        let soon = Duration::from_millis(200);
        let (one, other) = (client(daemon.store(), soon), client(daemon.store(), soon));
        let held = one.request("one".parse().unwrap()).start().unwrap().await.unwrap();
        let waiting = other.request("other".parse().unwrap()).start().unwrap();
        let mut progress = waiting.progress();
        progress.wait_for(|state| state.ahead.is_some()).await.unwrap();
        daemon.stop().await;
        progress.wait_for(|state| state.store_trouble.is_some()).await.unwrap();
        let _daemon = Running::start(&url, Policy::default(), Some(address)).await;
        held.release().await.unwrap();
        waiting.await.unwrap().release().await.unwrap();
    });
}

#[test]
fn a_mailbox_whose_stream_broke_says_so_and_goes_on() {
    on_runtime(async {
        let daemon = Running::start("memory:", Policy::default(), None).await;
        let address = daemon.address;
        let mut mailbox = daemon.store().open_mailbox().await.unwrap();
        daemon.stop().await;
        let again = tokio::spawn(async move {
            let letter = mailbox.next().await;
            (mailbox, letter)
        });
        let _daemon = Running::start("memory:", Policy::default(), Some(address)).await;
        let (_, letter) = again.await.unwrap();
        assert_eq!(letter.unwrap(), Letter::SomeMayBeLost);
    });
}

#[test]
fn a_daemon_that_is_away_is_an_unavailable_store() {
    on_runtime(async {
        let daemon = Running::start("memory:", Policy::default(), None).await;
        let store = daemon.store();
        store.pools().await.unwrap();
        daemon.stop().await;
        let error = store.pools().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.is_transient());
    });
}

#[test]
fn a_wrong_token_is_refused_in_words_and_never_shown() {
    on_runtime(async {
        let mut config = gpulock::config::Config::default();
        let sources = gpulock::config::Sources {
            flags: vec![("server.tokens".to_owned(), "read:r3ad,operate:0perate".to_owned())],
            ..gpulock::config::Sources::default()
        };
        config.server = gpulock::config::Config::load(&sources).unwrap().config.server;
        let (policy, _) = Policy::load(&config.server).unwrap();
        let daemon = Running::start("memory:", policy, None).await;
        let store = |token: &str| HttpStore::open(&format!("http://:{token}@{}", daemon.address));
        store("0perate").unwrap().pools().await.unwrap();
        store("r3ad").unwrap().pools().await.unwrap();
        let error = store("wr0ng").unwrap().pools().await.unwrap_err().to_string();
        assert!(error.contains("the token in the URL") && !error.contains("wr0ng"), "{error}");
        let reader: Arc<dyn Store> = Arc::new(store("r3ad").unwrap());
        let asking = client(reader, Duration::from_secs(1));
        let refused = asking.request("one".parse().unwrap()).start().unwrap().await.unwrap_err();
        assert!(refused.to_string().contains("`operate`"), "{refused}");
    });
}

//! The locks that are used from Rust, made alike.

use std::time::Duration;

use gpulock::{Client, Lease, Options};
use rslock::{LockGuard, LockManager};

/// One lock, ready to be asked for. Clones share a connection.
#[derive(Clone, Debug)]
pub(crate) enum Lock {
    Gpulock { client: Client },
    Rslock { manager: LockManager, key: String, ttl: Duration },
}

/// A lock in hand.
#[derive(Debug)]
pub(crate) enum Held {
    Gpulock(Lease),
    Rslock(LockGuard),
}

impl Lock {
    pub(crate) async fn open(peer: &str, url: &str, key: &str, ttl: Duration) -> Self {
        match peer {
            "gpulock" => {
                let store = gpulock::connect(url).unwrap();
                one_gpu(store.clone(), key).await;
                Self::Gpulock { client: client(store, options(key, ttl)) }
            }
            "rslock" => {
                let manager = LockManager::new(vec![url]);
                Self::Rslock { manager, key: key.to_owned(), ttl }
            }
            other => panic!("no lock in Rust is called {other}"),
        }
    }

    pub(crate) async fn acquire(&self) -> Held {
        match self {
            Self::Gpulock { client } => {
                Held::Gpulock(client.request(task()).start().unwrap().await.unwrap())
            }
            Self::Rslock { manager, key, ttl } => {
                Held::Rslock(manager.acquire(key.as_bytes(), *ttl).await.unwrap())
            }
        }
    }
}

impl Held {
    pub(crate) async fn release(self) {
        match self {
            Self::Gpulock(lease) => lease.release().await.unwrap(),
            Self::Rslock(guard) => guard.release().await,
        }
    }
}

/// Gives the pool one GPU, whatever this machine has.
pub(crate) async fn one_gpu(store: std::sync::Arc<dyn gpulock::store::Store>, pool: &str) {
    let only = gpulock::core::GpuRef::Index(gpulock::core::GpuIndex(0));
    let options = Options { gpus: Some(vec![only]), ..options(pool, Duration::from_secs(60)) };
    client(store, options).refresh_gpus().await.unwrap();
}

pub(crate) fn options(pool: &str, ttl: Duration) -> Options {
    Options {
        pool: pool.parse().unwrap(),
        heartbeat_interval: ttl / 3,
        heartbeat_timeout: ttl,
        ..Options::default()
    }
}

/// A client on this runtime, as in a server.
pub(crate) fn client(store: std::sync::Arc<dyn gpulock::store::Store>, options: Options) -> Client {
    let here = tokio::runtime::Handle::current();
    Client::builder(store).options(options).on(here).build().unwrap()
}

pub(crate) fn task() -> gpulock::core::TaskName {
    "bench".parse().unwrap()
}

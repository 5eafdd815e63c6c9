//! The store behind a running `gpulock serve`: pools on another host without a server of their
//! own. The rules run here; the daemon only hands reads and writes on to its own store.

mod address;
mod mailbox;
mod trouble;
pub mod wire;

use async_trait::async_trait;
use gpulock_core::{LeaseId, PoolName, TaskBeat, TaskName, TaskRecord, Waiter};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{
    Cursor, Entry, Followed, Mailbox, Remark, Scope, Store, StoreError, Swapped, View, Wanted,
    Write,
};
use address::Address;
use wire::{
    Asking, FORMAT, FORMAT_HEADER, Forgetting, Forgotten, WireEntries, WireFollowed, WirePools,
    WireSwapped, WireTasks, WireView, WireWaiters, WireWrite,
};

/// A store behind a daemon.
#[derive(Clone, Debug)]
pub struct HttpStore {
    address: Address,
}

impl HttpStore {
    /// The store behind the daemon at this URL, `http://HOST:8788` or `https://…`. The token
    /// stands as its password (`http://:TOKEN@HOST:8788`), or in `GPULOCK_HTTP_TOKEN`, or in the
    /// file that `GPULOCK_HTTP_TOKEN_FILE` names. `?ca=FILE` adds a certificate authority.
    ///
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if it is none.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { address: Address::read(url, |name| std::env::var(name).ok())? })
    }

    /// A call of the daemon's store.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.address.request(method, path)
    }

    fn of_pool(&self, method: Method, pool: &PoolName, what: &str) -> RequestBuilder {
        self.request(method, &format!("pools/{pool}/{what}"))
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, StoreError> {
        let answer = request.header(FORMAT_HEADER, FORMAT).send().await;
        let answer = answer.map_err(|error| trouble::unreachable(&self.address, &error))?;
        let status = answer.status();
        let body = answer.bytes().await;
        let body = body.map_err(|error| trouble::unreachable(&self.address, &error))?;
        if !status.is_success() {
            return Err(trouble::refused(&self.address, status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| trouble::odd(&self.address, &error))
    }

    async fn tell<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        body: &impl Serialize,
    ) -> Result<T, StoreError> {
        let body = serde_json::to_vec(body).map_err(|error| trouble::odd(&self.address, &error))?;
        self.ask(request.header("content-type", "application/json").body(body)).await
    }

    fn understood<T, E: std::fmt::Display>(&self, read: Result<T, E>) -> Result<T, StoreError> {
        read.map_err(|error| trouble::odd(&self.address, &error))
    }
}

#[async_trait]
impl Store for HttpStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        let view: WireView = match asking {
            None => self.ask(self.of_pool(Method::GET, pool, "picture")).await?,
            // To be asked for stamps the waiter, so it is a change.
            Some(lease_id) => {
                let asks = self.of_pool(Method::POST, pool, "picture");
                self.tell(asks, &Asking { lease_id }).await?
            }
        };
        self.understood(view.try_into())
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        let swap = self.of_pool(Method::POST, write.pool, "swap");
        let swapped: WireSwapped = self.tell(swap, &WireWrite::from(write)).await?;
        self.understood(swapped.try_into())
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        Ok(Box::new(mailbox::Stream::open(self.address.clone()).await?))
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        let waiters = self.of_pool(Method::GET, pool, "waiters");
        let waiters: WireWaiters = self.ask(with(waiters, [("limit", limit.to_string())])).await?;
        Ok(waiters.items.into_iter().map(Waiter::from).collect())
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        let task = wanted.task.as_ref().map(|task| ("task", task.to_string()));
        let options = [Some(("limit", wanted.limit.to_string())), task];
        let history =
            with(self.of_pool(Method::GET, pool, "history"), options.into_iter().flatten());
        let entries: WireEntries = self.ask(history).await?;
        Ok(entries.items.into_iter().map(Entry::from).collect())
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        let options = [("after", after.to_string()), ("limit", limit.to_string())];
        let followed: WireFollowed =
            self.ask(with(self.of_pool(Method::GET, pool, "journal"), options)).await?;
        Ok(followed.into())
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        self.tell(self.of_pool(Method::POST, pool, "tasks"), beat).await
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        let tasks: WireTasks = self.ask(self.of_pool(Method::GET, pool, "tasks")).await?;
        Ok(tasks.items)
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        let task_id = task_id.clone();
        let forgets = self.of_pool(Method::POST, pool, "tasks/forget");
        let forgotten: Forgotten = self.tell(forgets, &Forgetting { task_id }).await?;
        Ok(forgotten.was_there)
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        let pools: WirePools = self.ask(self.request(Method::GET, "pools")).await?;
        Ok(pools.items)
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    async fn examine(&self) -> Vec<Remark> {
        let mut remarks =
            vec![Remark::good("store", format!("a daemon at {}", self.address.shown))];
        if self.address.is_open() {
            remarks.push(
                Remark::warning(
                    "connection",
                    "everybody on the way can read the token and the leases",
                )
                .hint("put a proxy with TLS before the daemon and say https://"),
            );
        }
        match self.pools().await {
            Ok(pools) => {
                remarks.push(Remark::good(
                    "daemon",
                    format!("it answers, and has {} pools", pools.len()),
                ));
            }
            Err(error) => {
                let remark = Remark::bad("daemon", error.to_string());
                remarks.push(match error.hint() {
                    Some(hint) => remark.hint(hint),
                    None => remark,
                });
            }
        }
        remarks
    }
}

fn with(
    request: RequestBuilder,
    options: impl IntoIterator<Item = (&'static str, String)>,
) -> RequestBuilder {
    request.query(&options.into_iter().collect::<Vec<_>>())
}

//! The store behind a running `gpulock serve`, which relays to a store of its own: pools on
//! another host without a server of their own.
//!
//! - **The rules run here.** The daemon hands on what it is asked and knows nothing of the
//!   request behind it. Its clock and its promises are those of its own store.
//! - **Wake-ups** come as lines of one answer that does not end. When it breaks, the mailbox is
//!   opened again at the same address, also at a daemon that was started anew.
//! - **A few connections** for each process, however many leases and waiters it has: one for
//!   the mailbox, and one for each call that runs at the same time, mostly one.
//! - **An answer that is lost** leaves open what was done, as with any store.

mod address;
mod link;
mod mailbox;
mod tls;
mod token;
mod trouble;
pub mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use gpulock_core::{Channel, LeaseId, PoolName, TaskBeat, TaskName, TaskRecord, Waiter};

use crate::store::{
    Cursor, DocumentName, DocumentNews, DocumentSwap, Entry, Followed, Mailbox, Remark, Scope,
    Store, StoreError, Swapped, View, Wanted, Write, document,
};
use address::Address;
use link::Link;
use wire::{
    Asking, Forgetting, Forgotten, WireDocumentNews, WireDocumentSwap, WireDocumentWrite,
    WireEntries, WireFollowed, WirePools, WireRemarks, WireSwapped, WireTasks, WireView,
    WireWaiters, WireWrite,
};

/// A store behind a daemon.
#[derive(Debug)]
pub struct HttpStore {
    link: Arc<Link>,
}

impl HttpStore {
    /// The store behind the daemon at this URL, `http://HOST:8788` or `https://…`. The token
    /// stands as its password (`http://:TOKEN@HOST:8788`), or in `GPULOCK_HTTP_TOKEN`, or in the
    /// file that `GPULOCK_HTTP_TOKEN_FILE` names. The first call connects.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if URL or token make no sense.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, |name| std::env::var(name).ok())
    }

    /// The same in this environment.
    ///
    /// # Errors
    /// As [`HttpStore::open`].
    pub fn open_with(
        url: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        Ok(Self { link: Arc::new(Link::new(Address::parse(url, environment)?)) })
    }

    fn understood<T, E: std::fmt::Display>(&self, read: Result<T, E>) -> Result<T, StoreError> {
        read.map_err(|error| self.link.misread(&error))
    }
}

#[async_trait]
impl Store for HttpStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        let path = of_pool(pool, "picture");
        let view: WireView = match asking {
            None => self.link.get(&path, &[]).await?,
            // To be asked for stamps the waiter, so it is a change.
            Some(lease_id) => self.link.post(&path, &Asking { lease_id }).await?,
        };
        self.understood(view.try_into())
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        let path = of_pool(write.pool, "swap");
        let swapped: WireSwapped = self.link.post(&path, &WireWrite::from(write)).await?;
        self.understood(swapped.try_into())
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        Ok(Box::new(mailbox::Stream::open(Arc::clone(&self.link), None).await?))
    }

    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError> {
        Ok(Box::new(mailbox::Stream::open(Arc::clone(&self.link), Some(channel)).await?))
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        let options = [("limit", limit.to_string())];
        let waiters: WireWaiters = self.link.get(&of_pool(pool, "waiters"), &options).await?;
        Ok(waiters.items.into_iter().map(Waiter::from).collect())
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        let task = wanted.task.as_ref().map(|task| ("task", task.to_string()));
        let options = [Some(("limit", wanted.limit.to_string())), task];
        let options: Vec<_> = options.into_iter().flatten().collect();
        let entries: WireEntries = self.link.get(&of_pool(pool, "history"), &options).await?;
        Ok(entries.items.into_iter().map(Entry::from).collect())
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        let options = [("after", after.to_string()), ("limit", limit.to_string())];
        let followed: WireFollowed = self.link.get(&of_pool(pool, "journal"), &options).await?;
        Ok(followed.into())
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        self.link.post(&of_pool(pool, "tasks"), beat).await
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        let tasks: WireTasks = self.link.get(&of_pool(pool, "tasks"), &[]).await?;
        Ok(tasks.items)
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        let forgetting = Forgetting { task_id: task_id.clone() };
        let path = of_pool(pool, "tasks/forget");
        let forgotten: Forgotten = self.link.post(&path, &forgetting).await?;
        Ok(forgotten.was_there)
    }

    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        let options = [("known", known.to_string())];
        let news: WireDocumentNews = self.link.get(&format!("documents/{name}"), &options).await?;
        self.understood(news.try_into())
    }

    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        document::require_fits(name, text)?;
        let write = WireDocumentWrite { expected: expected.to_string(), text: text.to_owned() };
        let swap: WireDocumentSwap =
            self.link.post(&format!("documents/{name}/swap"), &write).await?;
        self.understood(swap.try_into())
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        let pools: WirePools = self.link.get("pools", &[]).await?;
        Ok(pools.items)
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    async fn examine(&self) -> Vec<Remark> {
        let mut remarks = match self.link.get::<WireRemarks>("examination", &[]).await {
            Ok(found) => {
                let daemon = Remark::good("server", format!("{} answers", self.link.place()));
                let behind = found.items.into_iter().map(|remark| remark.into_remark("its store"));
                std::iter::once(daemon).chain(behind).collect()
            }
            Err(error) => {
                let remark = Remark::bad("server", error.to_string());
                vec![match error.hint() {
                    Some(hint) => remark.hint(hint),
                    None => remark,
                }]
            }
        };
        if self.link.is_open() {
            remarks.push(
                Remark::warning(
                    "connection",
                    "everybody on the way can read the token and the leases",
                )
                .hint("put a proxy with TLS before the daemon and say https://"),
            );
        }
        remarks
    }
}

fn of_pool(pool: &PoolName, what: &str) -> String {
    format!("pools/{pool}/{what}")
}

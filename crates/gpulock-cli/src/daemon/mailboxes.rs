//! Mailboxes of clients that come over HTTP: each is one of the daemon's store, and stays for a
//! while when its reader's connection breaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gpulock::core::Channel;
use gpulock::store::{Letter, Mailbox, Store, StoreError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

/// So many clients may listen.
const MOST: usize = 1_000;

/// For how long a mailbox waits for its reader.
const KEPT: Duration = Duration::from_secs(60);

/// A mailbox that one reader at a time has in hand.
type Shared = Arc<AsyncMutex<Box<dyn Mailbox>>>;

/// All mailboxes, by the names under which their readers come back.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    open: Arc<Mutex<HashMap<String, Shared>>>,
}

/// A mailbox in the hands of its reader.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Under this name its reader may come back; nobody else knows it.
    pub(crate) name: String,
    /// The address that requests carry.
    pub(crate) channel: Channel,
    /// `None` only while it is dropped.
    mailbox: Option<OwnedMutexGuard<Box<dyn Mailbox>>>,
    open: Arc<Mutex<HashMap<String, Shared>>>,
}

impl Mailboxes {
    /// The mailbox with this name, or a new one. `Ok(None)`: there are as many as may be.
    ///
    /// # Errors
    /// If the store gives none.
    pub(crate) async fn read(
        &self,
        store: &Arc<dyn Store>,
        name: Option<&str>,
    ) -> Result<Option<Reading>, StoreError> {
        let known = name.and_then(|name| Some((name.to_owned(), self.find(name)?)));
        let (name, shared) = match known {
            Some(known) => known,
            None if self.count() >= MOST => return Ok(None),
            None => {
                let mailbox = store.open_mailbox().await?;
                let name = random_name()?;
                let shared = Arc::new(AsyncMutex::new(mailbox));
                lock(&self.open).insert(name.clone(), Arc::clone(&shared));
                (name, shared)
            }
        };
        // Its last reader may not have noticed yet that its connection is gone.
        let Ok(mailbox) = timeout(KEPT, shared.lock_owned()).await else { return Ok(None) };
        let channel = mailbox.channel();
        Ok(Some(Reading { name, channel, mailbox: Some(mailbox), open: Arc::clone(&self.open) }))
    }

    fn find(&self, name: &str) -> Option<Shared> {
        lock(&self.open).get(name).cloned()
    }

    fn count(&self) -> usize {
        lock(&self.open).len()
    }
}

impl Reading {
    /// The next letter.
    ///
    /// # Errors
    /// If the store gives no more.
    pub(crate) async fn next(&mut self) -> Result<Letter, StoreError> {
        match &mut self.mailbox {
            Some(mailbox) => mailbox.next().await,
            None => Ok(Letter::SomeMayBeLost),
        }
    }
}

impl Drop for Reading {
    /// The mailbox waits for its reader to come back.
    fn drop(&mut self) {
        self.mailbox = None;
        let (name, open) = (std::mem::take(&mut self.name), Arc::clone(&self.open));
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let mut open = lock(&open);
            // Whoever reads it holds it locked.
            let is_left = open.get(&name).is_some_and(|shared| shared.try_lock().is_ok());
            if is_left {
                open.remove(&name);
            }
        });
    }
}

fn random_name() -> Result<String, StoreError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| StoreError::Unavailable {
        place: "random numbers of the system".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

fn lock(
    open: &Mutex<HashMap<String, Shared>>,
) -> std::sync::MutexGuard<'_, HashMap<String, Shared>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One mailbox for all requests and leases of a process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpulock_core::{Channel, LeaseId, Why};
use tokio::sync::Notify;

use crate::heartbeat::Keeper;
use crate::store::{Letter, Mailbox, Store};

type Bells = HashMap<LeaseId, Arc<Notify>>;

/// Hands each wake-up to the request or lease that it is about.
#[derive(Debug)]
pub(crate) struct Post {
    /// Where requests and leases of this process are woken; `None` if they only poll.
    pub(crate) channel: Option<Channel>,
    bells: Arc<Mutex<Bells>>,
    delivery: Option<tokio::task::JoinHandle<()>>,
}

impl Post {
    /// Opens the mailbox. Wake-ups are a hint: where none can be had, waiters poll.
    pub(crate) async fn open(store: &dyn Store, keeper: Arc<Keeper>) -> Self {
        let bells = Arc::default();
        let Ok(mailbox) = store.open_mailbox().await else {
            return Self { channel: None, bells, delivery: None };
        };
        let channel = Some(mailbox.channel());
        let delivery = Some(tokio::spawn(deliver(mailbox, Arc::clone(&bells), keeper)));
        Self { channel, bells, delivery }
    }

    /// Waiters of this process only poll.
    pub(crate) fn closed() -> Self {
        Self { channel: None, bells: Arc::default(), delivery: None }
    }

    /// A bell that rings at each wake-up for this request or lease.
    pub(crate) fn bell(&self, lease_id: LeaseId) -> Arc<Notify> {
        Arc::clone(lock(&self.bells).entry(lease_id).or_default())
    }

    /// Nobody listens for this one any more.
    pub(crate) fn forget(&self, lease_id: LeaseId) {
        lock(&self.bells).remove(&lease_id);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(delivery) = &self.delivery {
            delivery.abort();
        }
    }
}

async fn deliver(mut mailbox: Box<dyn Mailbox>, bells: Arc<Mutex<Bells>>, keeper: Arc<Keeper>) {
    while let Ok(letter) = mailbox.next().await {
        match letter {
            Letter::WakeUp(lease_id, why) => {
                if why == Why::Stop {
                    // The answer to the next heartbeat says who asked and why.
                    keeper.renew_soon(lease_id);
                }
                if let Some(bell) = lock(&bells).get(&lease_id) {
                    bell.notify_one();
                }
            }
            Letter::SomeMayBeLost => {
                keeper.renew_all_soon();
                lock(&bells).values().for_each(|bell| bell.notify_one());
            }
        }
    }
}

fn lock<T>(bells: &Mutex<T>) -> MutexGuard<'_, T> {
    bells.lock().unwrap_or_else(PoisonError::into_inner)
}

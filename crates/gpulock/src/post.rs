//! One mailbox for all requests and leases of a process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpulock_core::{Channel, LeaseId, Why};
use tokio::sync::Notify;

use crate::heartbeat::Keeper;
use crate::store::{Award, Letter, Mailbox, Store};

/// How long the first in line may take until it watches the holders.
const BREATH: Duration = Duration::from_millis(10);

type Bells = HashMap<LeaseId, Arc<Bell>>;

/// Rings for one request or lease.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: Notify,
    /// What came with the last letter.
    award: Mutex<Option<Box<Award>>>,
    /// It will ring in a moment.
    is_wound: AtomicBool,
}

impl Bell {
    /// Returns when it rings, or at once if it has rung since.
    pub(crate) async fn rung(&self) {
        self.rings.notified().await;
    }

    /// Lets it ring in a moment, once for all that asks for it until then: to watch somebody
    /// is less urgent than what whoever was granted does at this moment.
    fn wind(self: &Arc<Self>) {
        if !self.is_wound.swap(true, Ordering::Relaxed) {
            let bell = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(BREATH).await;
                bell.is_wound.store(false, Ordering::Relaxed);
                bell.rings.notify_one();
            });
        }
    }

    /// The grant that came with a letter, once.
    pub(crate) fn take_award(&self) -> Option<Box<Award>> {
        lock(&self.award).take()
    }
}

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
    pub(crate) fn bell(&self, lease_id: LeaseId) -> Arc<Bell> {
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
                    match why {
                        Why::Watch => bell.wind(),
                        Why::Granted | Why::Stop => bell.rings.notify_one(),
                    }
                }
            }
            Letter::Awarded(award) => {
                if let Some(bell) = lock(&bells).get(&award.lease.lease_id) {
                    *lock(&bell.award) = Some(award);
                    bell.rings.notify_one();
                }
            }
            Letter::SomeMayBeLost => {
                keeper.renew_all_soon();
                lock(&bells).values().for_each(|bell| bell.rings.notify_one());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Requests that last: a bounded number waits for GPUs, one for each lease id, and a bounded
//! number listens.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use gpulock::core::LeaseId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many requests may wait for GPUs at a time.
const MOST_WAITERS: usize = 512;

/// So many readers may listen at a time.
const MOST_LISTENERS: usize = 128;

/// Who waits.
#[derive(Debug)]
pub(crate) struct Waits {
    places: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    ids: Arc<Mutex<HashSet<LeaseId>>>,
}

impl Default for Waits {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (places, seats) = (places(MOST_WAITERS), places(MOST_LISTENERS));
        Self { places, seats, ids: Arc::default() }
    }
}

impl Waits {
    /// A place to listen, if there is one.
    pub(crate) fn listen(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// A place to wait, if there is one.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Begins to wait for this lease, if nobody does yet.
    pub(crate) fn begin(&self, lease_id: LeaseId) -> Option<Alone> {
        let is_new = self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(lease_id);
        is_new.then(|| Alone { lease_id, ids: Arc::clone(&self.ids) })
    }
}

/// While it lives, nobody else waits for this lease here.
#[derive(Debug)]
pub(crate) struct Alone {
    lease_id: LeaseId,
    ids: Arc<Mutex<HashSet<LeaseId>>>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lease_id);
    }
}

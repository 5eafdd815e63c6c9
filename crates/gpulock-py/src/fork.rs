//! What becomes of all this in a fork.
//!
//! The parent goes on; the child starts with nothing. It has no native thread, and the locks,
//! sockets and connections that it inherited are the parent's: it must not even drop them.

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::sleep;
use std::time::Duration;

use gpulock::store::Store;
use pyo3::prelude::*;

use crate::failure::Trouble;
use crate::{client, lease, operation, runtime};

/// The stores that this process has open.
static STORES: Mutex<Vec<Weak<dyn Store>>> = Mutex::new(Vec::new());

/// Those that are held still for a fork.
static STILL: Mutex<Vec<Arc<dyn Store>>> = Mutex::new(Vec::new());

/// How many stores are being opened. It and [`FORKING`] change under the interpreter lock, which a
/// fork holds too: no child inherits them half changed.
static OPENING: AtomicUsize = AtomicUsize::new(0);

/// How many forks are about to happen: other threads run between a fork's preparation and itself.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// How many forks lie between the first process and this one: a child far down may have got the
/// number of an ancestor that is gone.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Between two looks whether a store is open at last, or a fork over.
const MOMENT: Duration = Duration::from_millis(1);

/// In which process something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pid: u32,
    generation: u32,
}

impl Home {
    /// This process.
    pub(crate) fn here() -> Self {
        Self { pid: std::process::id(), generation: GENERATION.load(Ordering::Relaxed) }
    }

    /// Fails in a child of the process in which it was made.
    pub(crate) fn require(self, what: &str) -> Result<(), Trouble> {
        match self == Self::here() {
            true => Ok(()),
            false => Err(Trouble::not_owner(what, self.pid)),
        }
    }
}

/// A list of what lives in this process, without keeping it alive.
#[derive(Debug)]
pub(crate) struct Living<T>(Mutex<Vec<Weak<T>>>);

impl<T> Living<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn add(&self, one: &Arc<T>) {
        let mut all = lock(&self.0);
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Arc::downgrade(one));
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn forget(&self) {
        mem::forget(mem::take(&mut *lock(&self.0)));
    }
}

/// Opens a store, not during a fork.
pub(crate) fn open<T: Send>(
    py: Python<'_>,
    connect: impl FnOnce() -> Result<(Arc<dyn Store>, T), Trouble> + Send,
) -> Result<(Arc<dyn Store>, T), Trouble> {
    while FORKING.load(Ordering::Relaxed) > 0 {
        py.detach(|| sleep(MOMENT));
    }
    let opening = Opening::begin();
    let opened = py.detach(connect)?;
    let mut stores = lock(&STORES);
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(&opened.0));
    drop(opening);
    Ok(opened)
}

/// A store is being opened as long as this lives.
struct Opening;

impl Opening {
    fn begin() -> Self {
        OPENING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        OPENING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Holds the native thread still and lets go of what must not be carried over a fork.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    FORKING.fetch_add(1, Ordering::Relaxed);
    // Nothing here may wait under the interpreter lock: what it waits for could need that lock.
    while OPENING.load(Ordering::Relaxed) > 0 {
        py.detach(|| sleep(MOMENT));
    }
    let stores: Vec<_> = lock(&STORES).iter().filter_map(Weak::upgrade).collect();
    py.detach(|| stores.iter().for_each(|store| store.hold_still()));
    lock(&STILL).extend(stores);
}

/// Lets the native thread go on, unless another thread is about to fork too.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    if FORKING.fetch_sub(1, Ordering::Relaxed) == 1 {
        mem::take(&mut *lock(&STILL)).iter().for_each(|store| store.go_on());
    }
}

/// Forgets everything that belongs to the parent.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    FORKING.store(0, Ordering::Relaxed);
    OPENING.store(0, Ordering::Relaxed);
    mem::forget(mem::take(&mut *lock(&STILL)));
    mem::forget(mem::take(&mut *lock(&STORES)));
    runtime::forget();
    operation::forget_all();
    lease::forget_all();
    client::forget_all();
}

/// The statics of this crate are locked only under the interpreter lock, and for no longer than a
/// moment: so none is locked during a fork.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

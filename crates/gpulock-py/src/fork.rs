//! What becomes of all this in a fork.
//!
//! The parent goes on; the child starts with nothing. It has no native thread, and the locks,
//! sockets and connections that it inherited are the parent's: it must not even drop them.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gpulock::store::Store;
use pyo3::prelude::*;

use crate::failure::Trouble;
use crate::{client, lease, operation, runtime};

/// The stores that this process has open.
static STORES: Mutex<Vec<Weak<dyn Store>>> = Mutex::new(Vec::new());

/// Those that are held still for a fork.
static STILL: Mutex<Vec<Arc<dyn Store>>> = Mutex::new(Vec::new());

/// Held while a store is being opened. It is taken under the interpreter lock, which a fork
/// holds too: so none is opened during a fork.
static OPENING: Mutex<()> = Mutex::new(());

/// In which process something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u32);

impl Home {
    /// This process.
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    /// Fails in a child of the process in which it was made.
    pub(crate) fn require(self, what: &str) -> Result<(), Trouble> {
        match self == Self::here() {
            true => Ok(()),
            false => Err(Trouble::not_owner(what, self.0)),
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
pub(crate) fn open<T>(
    py: Python<'_>,
    connect: impl FnOnce() -> Result<(Arc<dyn Store>, T), Trouble> + Send,
) -> Result<(Arc<dyn Store>, T), Trouble>
where
    T: Send,
{
    let _opening = lock(&OPENING);
    let opened = py.detach(connect)?;
    let mut stores = lock(&STORES);
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(&opened.0));
    Ok(opened)
}

/// Holds the native thread still and lets go of what must not be carried over a fork.
#[pyfunction]
pub(crate) fn before_fork() {
    drop(lock(&OPENING));
    let stores: Vec<_> = lock(&STORES).iter().filter_map(Weak::upgrade).collect();
    stores.iter().for_each(|store| store.hold_still());
    *lock(&STILL) = stores;
}

/// Lets the native thread go on.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    mem::take(&mut *lock(&STILL)).iter().for_each(|store| store.go_on());
}

/// Forgets everything that belongs to the parent.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    mem::forget(mem::take(&mut *lock(&STILL)));
    mem::forget(mem::take(&mut *lock(&STORES)));
    runtime::forget();
    operation::forget_all();
    lease::forget_all();
    client::forget_all();
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

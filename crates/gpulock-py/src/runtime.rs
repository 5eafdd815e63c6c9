//! The native thread of this process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::bell::span;
use crate::client;
use crate::failure::Trouble;
use crate::lease;
use crate::operation;

/// The thread, and how to end it.
#[derive(Debug)]
struct Runtime {
    handle: Handle,
    stop: oneshot::Sender<()>,
    /// Hangs up at the thread's end.
    ended: mpsc::Receiver<()>,
}

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// How long the thread has for the step that it is in when it is told to end.
const LAST_STEP: Duration = Duration::from_millis(500);

/// The interpreter is at its end.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Where the native thread of this process takes work; it is started when first needed.
pub(crate) fn handle() -> Result<Handle, Trouble> {
    if is_over() {
        return Err(Trouble::start("the interpreter is at its end"));
    }
    let mut slot = lock(&RUNTIME);
    let runtime = match slot.take() {
        Some(runtime) => runtime,
        None => start().map_err(|error| Trouble::start(&error.to_string()))?,
    };
    Ok(slot.insert(runtime).handle.clone())
}

/// Whether [`shutdown`] was called: nothing may be begun any more.
pub(crate) fn is_over() -> bool {
    IS_OVER.load(Ordering::Relaxed)
}

/// In a child after a fork: the thread is the parent's.
pub(crate) fn forget() {
    std::mem::forget(lock(&RUNTIME).take());
    IS_OVER.store(false, Ordering::Relaxed);
}

/// At the end of the interpreter: gives back every lease, waits at most `patience` seconds for
/// the store, and ends the native thread.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, patience: f64) {
    IS_OVER.store(true, Ordering::Relaxed);
    let Some(runtime) = lock(&RUNTIME).take() else { return };
    // First of all: some live only by what is ended now.
    let clients = client::all();
    let unfinished = operation::end_all();
    lease::give_back_all();
    let patience = span(Some(patience)).unwrap_or_default();
    py.detach(move || {
        let deadline = Instant::now() + patience;
        for operation in unfinished {
            // It fails if there are no descriptors left: then nobody can wait.
            let _ = operation.wait_until(deadline);
        }
        let (told, settled) = mpsc::channel();
        for client in clients {
            let told = told.clone();
            runtime.handle.spawn(async move {
                client.settle(patience).await;
                let _ = told.send(());
            });
        }
        drop(told);
        // Ends with an error when the last of them has told.
        while settled.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        let _ = runtime.stop.send(());
        // A disk that does not answer may hold it up: then the process ends without it.
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = runtime.ended.recv_timeout(left.max(LAST_STEP));
    });
}

fn start() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let (running, ended) = mpsc::channel::<()>();
    std::thread::Builder::new().name("gpulock".to_owned()).spawn(move || {
        leave_signals_to_others();
        let _running = running;
        // Ends also when the other end is dropped, which is no error here.
        let _ = runtime.block_on(stopped);
        // A name that is being looked up may take long.
        runtime.shutdown_timeout(Duration::ZERO);
    })?;
    Ok(Runtime { handle, stop, ended })
}

/// A signal that arrives here would not end a wait of the main thread. Those of a fault in this
/// thread stay.
fn leave_signals_to_others() {
    let mut signals = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT]
    {
        signals.remove(fault);
    }
    // It fails only for arguments that make no sense.
    let _ = signals.thread_block();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

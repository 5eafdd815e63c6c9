//! Something under way on the native thread, and how it comes back to Python.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, OnceLock};

use gpulock::WaitState;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::bell::{Bell, span};
use crate::client::Client;
use crate::failure::{Trouble, misuse};
use crate::fork::{Home, Living, lock};
use crate::lease::Lease;

/// What an operation gives.
pub(crate) enum Gain {
    Nothing,
    Flag(bool),
    Count(usize),
    Text(String),
    Lease(Box<gpulock::Lease>),
}

enum Slot {
    UnderWay,
    Done(Result<Gain, Trouble>),
    Taken,
}

/// What the native thread and Python share of one operation.
pub(crate) struct Shared {
    slot: Mutex<Slot>,
    /// Made when somebody waits.
    bell: OnceLock<Bell>,
    /// Sent to call a request off.
    call_off: Mutex<Option<oneshot::Sender<()>>>,
}

static REQUESTS: Living<Shared> = Living::new();

/// Something under way on the native thread.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Operation {
    shared: ManuallyDrop<Arc<Shared>>,
    progress: ManuallyDrop<Option<watch::Receiver<WaitState>>>,
    /// For the lease that it may give.
    client: Option<Py<Client>>,
    home: Home,
}

impl Operation {
    /// Begins `work` on the native thread.
    pub(crate) fn begin<F>(handle: &Handle, work: F) -> Self
    where
        F: Future<Output = Result<Gain, Trouble>> + Send + 'static,
    {
        let shared = Shared::new(None);
        let told = Arc::clone(&shared);
        handle.spawn(async move { told.finish(work.await) });
        Self::of(shared, None, None)
    }

    /// Waits for what a request gives, until it is called off.
    pub(crate) fn of_request(
        handle: &Handle,
        mut acquiring: gpulock::Acquiring,
        client: Py<Client>,
    ) -> Self {
        let (call_off, called_off) = oneshot::channel();
        let shared = Shared::new(Some(call_off));
        REQUESTS.add(&shared);
        let progress = acquiring.progress();
        let told = Arc::clone(&shared);
        handle.spawn(async move {
            let answer = tokio::select! {
                answer = &mut acquiring => answer.map_err(Trouble::from),
                _ = called_off => {
                    acquiring.call_off().await;
                    Err(Trouble::called_off())
                }
            };
            told.finish(answer.map(|lease| Gain::Lease(Box::new(lease))));
        });
        Self::of(shared, Some(progress), Some(client))
    }

    fn of(
        shared: Arc<Shared>,
        progress: Option<watch::Receiver<WaitState>>,
        client: Option<Py<Client>>,
    ) -> Self {
        let (shared, progress) = (ManuallyDrop::new(shared), ManuallyDrop::new(progress));
        Self { shared, progress, client, home: Home::here() }
    }

    fn here(&self) -> Result<&Shared, Trouble> {
        self.home.require("operation").map(|()| &**self.shared)
    }
}

#[pymethods]
impl Operation {
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.here()?.bell()?.fileno())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let shared = self.here()?;
        if shared.is_done() {
            return Ok(true);
        }
        let bell = shared.bell()?;
        py.detach(|| bell.wait(span(timeout)))?;
        Ok(shared.is_done())
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut slot = lock(&self.here()?.slot);
        let done = match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Done(done) => done,
            Slot::UnderWay => {
                *slot = Slot::UnderWay;
                return Err(misuse("the operation is not done"));
            }
            Slot::Taken => return Err(misuse("the result was taken already")),
        };
        drop(slot);
        match done? {
            Gain::Nothing => Ok(py.None()),
            Gain::Flag(flag) => Ok(flag.into_pyobject(py)?.to_owned().into_any().unbind()),
            Gain::Count(count) => Ok(count.into_pyobject(py)?.into_any().unbind()),
            Gain::Text(text) => Ok(text.into_pyobject(py)?.into_any().unbind()),
            Gain::Lease(lease) => {
                let client = self.client.as_ref().map(|client| client.clone_ref(py));
                let client = client.ok_or_else(|| misuse("only a request gives a lease"))?;
                Ok(Py::new(py, Lease::new(*lease, client))?.into_any())
            }
        }
    }

    fn cancel(&self) -> PyResult<()> {
        self.here()?.cancel();
        Ok(())
    }

    fn progress(&self) -> PyResult<Option<Progress>> {
        self.here()?;
        Ok(self.progress.as_ref().map(|state| Progress::from(&*state.borrow())))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        self.shared.cancel();
        // SAFETY: `self` is being dropped, so neither is used again.
        #[expect(unsafe_code, reason = "in a forked child they must not be dropped")]
        unsafe {
            ManuallyDrop::drop(&mut self.shared);
            ManuallyDrop::drop(&mut self.progress);
        }
    }
}

impl Shared {
    fn new(call_off: Option<oneshot::Sender<()>>) -> Arc<Self> {
        let (slot, bell) = (Mutex::new(Slot::UnderWay), OnceLock::new());
        Arc::new(Self { slot, bell, call_off: Mutex::new(call_off) })
    }

    fn finish(&self, done: Result<Gain, Trouble>) {
        let mut slot = lock(&self.slot);
        *slot = Slot::Done(done);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    fn is_done(&self) -> bool {
        !matches!(*lock(&self.slot), Slot::UnderWay)
    }

    /// The bell, which rings when the operation is done.
    fn bell(&self) -> PyResult<&Bell> {
        let slot = lock(&self.slot);
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let new = Bell::new().map_err(PyOSError::new_err)?;
        let bell = self.bell.get_or_init(|| new);
        if !matches!(*slot, Slot::UnderWay) {
            bell.ring();
        }
        Ok(bell)
    }

    /// Calls a request off, and gives back what it has got.
    fn cancel(&self) {
        if let Some(call_off) = lock(&self.call_off).take() {
            // It fails if the request is done.
            let _ = call_off.send(());
        }
        let mut slot = lock(&self.slot);
        if let Slot::Done(Ok(Gain::Lease(_))) = &*slot {
            *slot = Slot::Done(Err(Trouble::called_off()));
        }
    }
}

/// Calls off every request of this process.
pub(crate) fn cancel_all() {
    REQUESTS.all().iter().for_each(|request| request.cancel());
}

/// In a child after a fork.
pub(crate) fn forget_all() {
    REQUESTS.forget();
}

/// How a request is waiting.
#[pyclass(frozen, get_all, module = "gpulock._gpulock")]
pub(crate) struct Progress {
    ahead: Option<u64>,
    holders: String,
    expected: Option<f64>,
    closed_for: Option<f64>,
    store_trouble: Option<String>,
}

impl From<&WaitState> for Progress {
    fn from(state: &WaitState) -> Self {
        let holders: Vec<_> = state.holders.iter().map(ToString::to_string).collect();
        Self {
            ahead: state.ahead,
            holders: holders.join("; "),
            expected: state.expected.map(|span| span.as_secs_f64()),
            closed_for: state.closed_for.map(|span| span.as_secs_f64()),
            store_trouble: state.store_trouble.clone(),
        }
    }
}

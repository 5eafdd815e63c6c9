//! A lease in the hands of Python.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};

use gpulock::{Health, LeaseState as State};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::bell::{Bell, span};
use crate::client::Client;
use crate::failure::{Trouble, misuse};
use crate::fork::{Home, Living, lock};
use crate::operation::{Gain, Operation, Work};
use crate::runtime;

/// The lease until it is given back.
type Held = Mutex<Option<gpulock::Lease>>;

static LEASES: Living<Held> = Living::new();

/// A lease in the hands of its holder.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Lease {
    held: ManuallyDrop<Arc<Held>>,
    state: ManuallyDrop<watch::Receiver<State>>,
    #[pyo3(get)]
    client: Py<Client>,
    #[pyo3(get)]
    lease_id: String,
    #[pyo3(get)]
    token: u64,
    #[pyo3(get)]
    task: String,
    #[pyo3(get)]
    gpus: Vec<u32>,
    #[pyo3(get)]
    visible_devices: String,
    #[pyo3(get)]
    waited: f64,
    home: Home,
}

impl Lease {
    pub(crate) fn new(lease: gpulock::Lease, client: Py<Client>) -> Self {
        let names = lease.gpus().iter().map(|gpu| match &gpu.uuid {
            Some(uuid) => uuid.clone(),
            None => gpu.index.to_string(),
        });
        let (lease_id, token) = (lease.id().to_string(), lease.token().value());
        let visible_devices = names.collect::<Vec<_>>().join(",");
        let gpus = lease.gpu_indices().iter().map(|gpu| gpu.0).collect();
        let (task, waited) = (lease.task().to_string(), lease.waited().as_secs_f64());
        let state = ManuallyDrop::new(lease.watch());
        let held = Arc::new(Mutex::new(Some(lease)));
        LEASES.add(&held);
        let (held, home) = (ManuallyDrop::new(held), Home::here());
        Self { held, state, client, lease_id, token, task, gpus, visible_devices, waited, home }
    }

    fn here(&self) -> Result<&Held, Trouble> {
        self.home.require("lease").map(|()| &**self.held)
    }

    /// The lease, which is given back now.
    fn take(&self) -> PyResult<gpulock::Lease> {
        lock(self.here()?).take().ok_or_else(|| misuse("the lease was given back already"))
    }
}

#[pymethods]
impl Lease {
    #[getter]
    fn pool(&self) -> String {
        self.client.get().pool().to_owned()
    }

    fn state(&self) -> PyResult<LeaseState> {
        self.here()?;
        Ok(LeaseState::from(&*self.state.borrow()))
    }

    fn watch(&self) -> PyResult<Watch> {
        self.here()?;
        Watch::begin((*self.state).clone())
    }

    fn progress(&self, percent: f64, message: &str) -> PyResult<()> {
        if let Some(lease) = &*lock(self.here()?) {
            lease.progress(percent as f32, message);
        }
        Ok(())
    }

    #[pyo3(signature = (lazily = false))]
    fn release(&self, lazily: bool) -> PyResult<Operation> {
        let work = Work::Release(Box::new(self.take()?));
        let planned = Operation::plan(self.client.get().plan(work), None);
        Ok(if lazily { planned } else { planned.started()? })
    }

    fn retire(&self) -> PyResult<Operation> {
        let lease = self.take()?;
        Ok(Operation::begin(&runtime::handle()?, async move {
            lease.retire().await?;
            Ok(Gain::Nothing)
        }))
    }

    fn abandon(&self) -> PyResult<()> {
        if let Some(lease) = lock(self.here()?).take() {
            lease.abandon();
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        if runtime::is_over() {
            // It was given back then, or its thread is no more.
            std::mem::forget(lock(&self.held).take());
        }
        // SAFETY: `self` is being dropped, so neither is used again.
        #[expect(unsafe_code, reason = "in a forked child they must not be dropped")]
        unsafe {
            ManuallyDrop::drop(&mut self.held);
            ManuallyDrop::drop(&mut self.state);
        }
    }
}

/// Begins to give back every lease of this process.
pub(crate) fn give_back_all() {
    // Dropping a lease on a client that works elsewhere begins its release.
    LEASES.all().iter().for_each(|held| drop(lock(held).take()));
}

/// In a child after a fork.
pub(crate) fn forget_all() {
    LEASES.forget();
}

/// How a lease is doing.
#[pyclass(frozen, get_all, module = "gpulock._gpulock")]
pub(crate) struct LeaseState {
    health: &'static str,
    lost_because: Option<String>,
    stop_reason: Option<String>,
    deadline_in: f64,
}

impl From<&State> for LeaseState {
    fn from(state: &State) -> Self {
        let (health, lost_because) = match state.health {
            Health::Held => ("held", None),
            Health::Danger => ("danger", None),
            Health::Lost(loss) => ("lost", Some(loss.to_string())),
        };
        Self {
            health,
            lost_because,
            stop_reason: state.stop.as_ref().map(|stop| stop.reason.clone()),
            deadline_in: state.deadline.left().as_secs_f64(),
        }
    }
}

/// Tells changes of a lease's state.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Watch {
    state: ManuallyDrop<watch::Receiver<State>>,
    bell: Arc<Bell>,
    ringing: AbortHandle,
    home: Home,
}

impl Watch {
    fn begin(state: watch::Receiver<State>) -> PyResult<Self> {
        let bell = Arc::new(Bell::new().map_err(PyOSError::new_err)?);
        let (mut changes, rings) = (state.clone(), Arc::clone(&bell));
        let ringing = runtime::handle()?.spawn(async move {
            while changes.changed().await.is_ok() {
                rings.ring();
            }
            // The lease was given back: nothing will change any more.
            rings.ring();
        });
        let (state, home) = (ManuallyDrop::new(state), Home::here());
        Ok(Self { state, bell, ringing: ringing.abort_handle(), home })
    }
}

#[pymethods]
impl Watch {
    fn fileno(&self) -> PyResult<i32> {
        self.home.require("watch")?;
        Ok(self.bell.fileno())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.home.require("watch")?;
        Ok(py.detach(|| self.bell.wait(span(timeout)))?)
    }

    fn state(&self) -> PyResult<LeaseState> {
        self.home.require("watch")?;
        self.bell.quiet();
        Ok(LeaseState::from(&*self.state.borrow()))
    }

    fn close(&self) -> PyResult<()> {
        self.home.require("watch")?;
        self.ringing.abort();
        self.bell.ring();
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        self.ringing.abort();
        // SAFETY: `self` is being dropped, so it is not used again.
        #[expect(unsafe_code, reason = "in a forked child it must not be dropped")]
        unsafe {
            ManuallyDrop::drop(&mut self.state);
        }
    }
}

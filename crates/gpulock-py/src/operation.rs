//! Something under way on the native thread, and how it comes back to Python.

use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use gpulock::{Begun, RequestBuilder, WaitState};
use pyo3::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::bell::{Bell, span};
use crate::client::{self, Client};
use crate::failure::{Trouble, misuse};
use crate::fork::{Home, Living, lock};
use crate::lease::Lease;
use crate::runtime;

/// What an operation gives.
pub(crate) enum Gain {
    Nothing,
    Flag(bool),
    Count(usize),
    Text(String),
    Lease(Box<gpulock::Lease>),
}

/// What has not begun.
pub(crate) enum Work {
    Request(Box<RequestBuilder>),
    Release(Box<gpulock::Lease>),
}

/// Work that leaves something to be said to the store, and the client that says it.
pub(crate) struct Plan {
    pub(crate) work: Work,
    pub(crate) client: Arc<gpulock::Client>,
}

enum Slot {
    Planned(Plan),
    UnderWay {
        /// It was called off: what it still gets is given back.
        called_off: bool,
    },
    Done(Result<Gain, Trouble>),
    Taken,
}

impl Slot {
    const UNDER_WAY: Self = Self::UnderWay { called_off: false };
}

/// What the native thread and Python share of one operation.
pub(crate) struct Shared {
    slot: Mutex<Slot>,
    /// Made when somebody waits.
    bell: OnceLock<Bell>,
    /// Sent to call a request off.
    call_off: Mutex<Option<oneshot::Sender<()>>>,
    /// How a request is waiting.
    progress: OnceLock<watch::Receiver<WaitState>>,
}

/// Requests and releases, from the moment they are planned.
static PLANS: Living<Shared> = Living::new();

/// Something under way on the native thread.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Operation {
    shared: ManuallyDrop<Arc<Shared>>,
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
        let this = Self::of(Slot::UNDER_WAY, None);
        let told = Arc::clone(&this.shared);
        handle.spawn(async move { told.finish(work.await) });
        this
    }

    /// Begins with the first wait: directly if that may block, else on the native thread.
    /// `client` is that of a lease to be had.
    pub(crate) fn plan(plan: Plan, client: Option<Py<Client>>) -> Self {
        let this = Self::of(Slot::Planned(plan), client);
        PLANS.add(&this.shared);
        this
    }

    /// Begins now, on the native thread.
    pub(crate) fn started(self) -> Result<Self, Trouble> {
        self.shared.start()?;
        Ok(self)
    }

    fn of(slot: Slot, client: Option<Py<Client>>) -> Self {
        let shared = ManuallyDrop::new(Shared::new(slot));
        Self { shared, client, home: Home::here() }
    }

    fn here(&self) -> Result<&Arc<Shared>, Trouble> {
        self.home.require("operation").map(|()| &*self.shared)
    }
}

#[pymethods]
impl Operation {
    fn fileno(&self) -> PyResult<i32> {
        let shared = self.here()?;
        shared.start()?;
        Ok(shared.bell()?.fileno())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let shared = self.here()?;
        match timeout {
            Some(0.0) => shared.start()?,
            _ => shared.start_directly(py)?,
        }
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
            unfinished @ (Slot::Planned(_) | Slot::UnderWay { .. }) => {
                *slot = unfinished;
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
        Ok(self.here()?.progress.get().map(|state| Progress::from(&*state.borrow())))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        self.shared.cancel();
        // SAFETY: `self` is being dropped, so it is not used again.
        #[expect(unsafe_code, reason = "in a forked child it must not be dropped")]
        unsafe {
            ManuallyDrop::drop(&mut self.shared);
        }
    }
}

impl Shared {
    fn new(slot: Slot) -> Arc<Self> {
        let slot = Mutex::new(slot);
        let (bell, call_off, progress) = Default::default();
        Arc::new(Self { slot, bell, call_off, progress })
    }

    /// `client` lives on until nothing that the work has left is to be said to the store.
    fn spawn<F>(self: &Arc<Self>, client: Arc<gpulock::Client>, work: F) -> Result<(), Trouble>
    where
        F: Future<Output = Result<Gain, Trouble>> + Send + 'static,
    {
        let told = Arc::clone(self);
        runtime::handle()?.spawn(async move {
            told.finish(work.await);
            client::settled(client).await;
        });
        Ok(())
    }

    /// What has not begun; it begins now.
    fn take_plan(&self) -> Option<Plan> {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut *slot, Slot::UNDER_WAY) {
            Slot::Planned(plan) => Some(plan),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Begins on the native thread what has not begun.
    fn start(self: &Arc<Self>) -> Result<(), Trouble> {
        let Some(Plan { work, client }) = self.take_plan() else { return Ok(()) };
        let begun = match work {
            Work::Request(request) => match request.start() {
                Ok(acquiring) => self.follow(acquiring, client),
                Err(error) => Err(error.into()),
            },
            Work::Release(lease) => self.release(*lease, client),
        };
        self.unless_failed(begun)
    }

    /// Does on this thread what has not begun, if that goes quickly.
    fn start_directly(self: &Arc<Self>, py: Python<'_>) -> Result<(), Trouble> {
        let Some(Plan { work, client }) = self.take_plan() else { return Ok(()) };
        let begun = match work {
            Work::Request(request) => match py.detach(|| request.begin()) {
                Ok(Begun::Acquired(lease)) => {
                    self.finish(Ok(Gain::Lease(lease)));
                    Ok(())
                }
                Ok(Begun::Waiting(acquiring)) => self.follow(acquiring, client),
                Err(error) => Err(error.into()),
            },
            Work::Release(lease) => match py.detach(|| lease.release_directly()) {
                Ok(()) => {
                    self.finish(Ok(Gain::Nothing));
                    Ok(())
                }
                Err(lease) => self.release(lease, client),
            },
        };
        self.unless_failed(begun)
    }

    /// What cannot begin is over.
    fn unless_failed(&self, begun: Result<(), Trouble>) -> Result<(), Trouble> {
        begun.inspect_err(|_| self.finish(Err(Trouble::called_off())))
    }

    /// Waits for what a request gives, until it is called off.
    fn follow(
        self: &Arc<Self>,
        mut acquiring: gpulock::Acquiring,
        client: Arc<gpulock::Client>,
    ) -> Result<(), Trouble> {
        let (call_off, called_off) = oneshot::channel();
        *lock(&self.call_off) = Some(call_off);
        if matches!(*lock(&self.slot), Slot::UnderWay { called_off: true }) {
            self.cancel();
        }
        // It is set once, here.
        let _ = self.progress.set(acquiring.progress());
        self.spawn(client, async move {
            let answer = tokio::select! {
                answer = &mut acquiring => answer?,
                _ = called_off => {
                    acquiring.call_off().await;
                    return Err(Trouble::called_off());
                }
            };
            Ok(Gain::Lease(Box::new(answer)))
        })
    }

    fn release(
        self: &Arc<Self>,
        lease: gpulock::Lease,
        client: Arc<gpulock::Client>,
    ) -> Result<(), Trouble> {
        self.spawn(client, async move {
            lease.release().await?;
            Ok(Gain::Nothing)
        })
    }

    fn finish(&self, done: Result<Gain, Trouble>) {
        let mut slot = lock(&self.slot);
        let done = match (&*slot, done) {
            // Whoever drops a lease gives it back.
            (Slot::UnderWay { called_off: true }, Ok(Gain::Lease(_))) => Err(Trouble::called_off()),
            (_, done) => done,
        };
        *slot = Slot::Done(done);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    fn is_done(&self) -> bool {
        matches!(*lock(&self.slot), Slot::Done(_) | Slot::Taken)
    }

    /// The bell, which rings when the operation is done.
    fn bell(&self) -> io::Result<&Bell> {
        let slot = lock(&self.slot);
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let new = Bell::new()?;
        let bell = self.bell.get_or_init(|| new);
        if matches!(*slot, Slot::Done(_) | Slot::Taken) {
            bell.ring();
        }
        Ok(bell)
    }

    /// Calls a request off, and gives back what it has got.
    fn cancel(&self) {
        let mut slot = lock(&self.slot);
        match &mut *slot {
            Slot::UnderWay { called_off } => *called_off = true,
            // Whoever drops a lease gives it back.
            Slot::Done(Ok(Gain::Lease(_))) | Slot::Planned(Plan { work: Work::Request(_), .. }) => {
                *slot = Slot::Done(Err(Trouble::called_off()));
            }
            Slot::Planned(_) | Slot::Done(_) | Slot::Taken => {}
        }
        drop(slot);
        if let Some(call_off) = lock(&self.call_off).take() {
            // It fails if the request is done.
            let _ = call_off.send(());
        }
    }

    /// Waits until it is done, or until `deadline`.
    pub(crate) fn wait_until(&self, deadline: Instant) -> io::Result<()> {
        while !self.is_done() && Instant::now() < deadline {
            self.bell()?.wait(Some(deadline.saturating_duration_since(Instant::now())))?;
        }
        Ok(())
    }
}

/// At the end of the interpreter: begins every release that has not begun, and calls every
/// request off. Those that may not be done yet.
pub(crate) fn end_all() -> Vec<Arc<Shared>> {
    let all = PLANS.all();
    for one in &all {
        one.cancel();
        // What may not begin any more gives its lease back when it is dropped.
        let _ = one.start();
    }
    all
}

/// In a child after a fork.
pub(crate) fn forget_all() {
    PLANS.forget();
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

//! A client of one pool of one store.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gpulock::config::{Config, Origin, Severity, Sources};
use gpulock::core::alert::Urgency;
use gpulock::core::{Incident, LeaseId, LeaseRef, Raised, SeizeMode, TaskName, Token};
use gpulock::store::{Scope, Store, Wanted};
use gpulock::{DefaultPlace, Options, connect};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bell::span;
use crate::failure::Trouble;
use crate::fork::{Home, Living, open};
use crate::heartbeat::{Heartbeat, read_beat};
use crate::operation::{Gain, Operation, Plan, Work};
use crate::request::Asked;
use crate::{runtime, settings};

static CLIENTS: Living<gpulock::Client> = Living::new();

/// A client of one pool of one store.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Client {
    inner: ManuallyDrop<Arc<gpulock::Client>>,
    stores: ManuallyDrop<Stores>,
    asked: Wish,
    config: Box<Config>,
    pool: String,
    store: String,
    #[pyo3(get)]
    config_file: Option<PathBuf>,
    #[pyo3(get)]
    warnings: Vec<String>,
    home: Home,
}

/// How a client was asked for.
#[derive(Clone)]
struct Wish {
    store: Option<String>,
    config: Option<PathBuf>,
    pool: Option<String>,
    client_name: Option<String>,
}

/// A configuration that was read.
#[derive(Clone)]
struct Reading {
    config: Box<Config>,
    file: Option<PathBuf>,
    warnings: Vec<String>,
}

/// A store that was opened for a client.
#[derive(Clone)]
struct Stores {
    store: Arc<dyn Store>,
    /// The same store for the threads of callers.
    direct: Arc<dyn Store>,
    place: String,
}

impl Client {
    /// Reads the configuration and opens the store.
    fn open(py: Python<'_>, asked: Wish) -> PyResult<Self> {
        let reading = py.detach(|| Reading::of(&asked))?;
        Self::connect(py, asked, reading)
    }

    /// Opens the store that a configuration names.
    fn connect(py: Python<'_>, asked: Wish, mut reading: Reading) -> PyResult<Self> {
        let config = reading.config.clone();
        let (_, (stores, notices)) = open(py, move || {
            let (stores, notices) = Stores::open(&config)?;
            Ok((Arc::clone(&stores.store), (stores, notices)))
        })?;
        reading.warnings.extend(notices);
        Self::build(asked, reading, stores)
    }

    fn build(asked: Wish, reading: Reading, stores: Stores) -> PyResult<Self> {
        let handle = runtime::handle()?;
        let Reading { config, file: config_file, warnings } = reading;
        let mut options = Options::from(&*config);
        options.pool = config.pool.parse().map_err(gpulock::Error::Name).map_err(Trouble::from)?;
        options.client_name = asked.client_name.clone().unwrap_or_else(|| {
            concat!("gpulock ", env!("CARGO_PKG_VERSION"), " (Python)").to_owned()
        });
        let pool = options.pool.to_string();
        let builder = gpulock::Client::builder(Arc::clone(&stores.store));
        let builder = builder.options(options).on(handle).direct(Arc::clone(&stores.direct));
        let inner = Arc::new(builder.build().map_err(Trouble::from)?);
        CLIENTS.add(&inner);
        let (inner, store) = (ManuallyDrop::new(inner), stores.place.clone());
        let (stores, home) = (ManuallyDrop::new(stores), Home::here());
        Ok(Self { inner, stores, asked, config, pool, store, config_file, warnings, home })
    }

    /// What it was made from.
    fn reading(&self) -> Reading {
        let (config, file) = (self.config.clone(), self.config_file.clone());
        Reading { config, file, warnings: Vec::new() }
    }

    /// Reads the file again.
    fn read_again(&self, py: Python<'_>) -> PyResult<Reading> {
        let config = self.config_file.clone().or_else(|| self.asked.config.clone());
        let asked = Wish { config, ..self.asked.clone() };
        Ok(py.detach(|| Reading::of(&asked))?)
    }

    pub(crate) fn here(&self) -> Result<&gpulock::Client, Trouble> {
        self.home.require("client").map(|()| &**self.inner)
    }

    /// Something that this client is to do.
    pub(crate) fn plan(&self, work: Work) -> Plan {
        Plan { work, client: Arc::clone(&self.inner) }
    }

    /// Begins something that this client does.
    fn begin<F>(&self, work: impl FnOnce(gpulock::Client) -> F) -> PyResult<Operation>
    where
        F: Future<Output = Result<Gain, gpulock::Error>> + Send + 'static,
    {
        let work = work(self.here()?.clone());
        let handle = runtime::handle()?;
        Ok(Operation::begin(&handle, async move { work.await.map_err(Trouble::from) }))
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (store = None, config = None, pool = None, client_name = None))]
    fn new(
        py: Python<'_>,
        store: Option<String>,
        config: Option<PathBuf>,
        pool: Option<String>,
        client_name: Option<String>,
    ) -> PyResult<Self> {
        Self::open(py, Wish { store, config, pool, client_name })
    }

    #[getter]
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    #[getter]
    fn store(&self) -> &str {
        &self.store
    }

    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        settings::all(py, &self.config)
    }

    #[pyo3(
        signature = (task, gpus, **options),
        text_signature = "($self, task, gpus, *, priority='normal', max_wait=None, forever=False, \
            poll_interval=None, heartbeat_interval=None, heartbeat_timeout=None, fixed_term=None, \
            store_patience=None, inside=None, lease_id=None, run=None, comes_back_within=None, lazily=False)"
    )]
    fn request(
        slf: &Bound<'_, Self>,
        task: &str,
        gpus: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let asked = Asked::read(task, gpus, options)?;
        let lazily = asked.lazily;
        let request = asked.of(slf.get().here()?);
        let plan = slf.get().plan(Work::Request(Box::new(request)));
        let planned = Operation::plan(plan, Some(slf.clone().unbind()));
        Ok(if lazily { planned } else { planned.started()? })
    }

    fn release_named(&self, lease_id: &str, token: u64, task: &str) -> PyResult<Operation> {
        let (lease, task) = (named(lease_id, token)?, task_name(task)?);
        self.begin(
            |client| async move { Ok(Gain::Flag(client.release_named(lease, &task).await?)) },
        )
    }

    fn cancel_named(&self, lease_id: &str) -> PyResult<Operation> {
        let lease_id = id(lease_id)?;
        self.begin(|client| async move {
            client.cancel(lease_id).await?;
            Ok(Gain::Nothing)
        })
    }

    fn report(&self, lease_id: &str, task: &str, kind: &str, error: String) -> PyResult<Operation> {
        let (lease_id, task, incident) = (id(lease_id)?, task_name(task)?, incident(kind)?);
        self.begin(|client| async move {
            client.report(incident, &error, lease_id, task).await;
            Ok(Gain::Nothing)
        })
    }

    #[pyo3(signature = (kind, message, facts, lease))]
    fn raise_alert(
        &self,
        kind: (String, String),
        message: String,
        facts: BTreeMap<String, String>,
        lease: Option<(String, String)>,
    ) -> PyResult<Operation> {
        let (name, level) = kind;
        let urgency =
            level.parse::<Urgency>().map_err(|error| PyValueError::new_err(format!("{error}")))?;
        let alert = Raised { name: task_name(&name)?, urgency, message, facts };
        let named =
            |(lease_id, task): (String, String)| PyResult::Ok((id(&lease_id)?, task_name(&task)?));
        let lease = lease.map(named).transpose()?;
        self.begin(|client| async move {
            client.raise(alert, lease).await;
            Ok(Gain::Nothing)
        })
    }

    fn seize(&self, lease_id: &str, token: u64, reason: String) -> PyResult<Operation> {
        let lease = named(lease_id, token)?;
        self.begin(|client| async move {
            Ok(Gain::Flag(client.seize(lease, &reason, SeizeMode::Drain).await?))
        })
    }

    fn sweep(&self) -> PyResult<Operation> {
        self.begin(|client| async move { Ok(Gain::Count(client.sweep().await?)) })
    }

    fn status(&self) -> PyResult<Operation> {
        self.begin(|client| async move { Ok(Gain::Text(json(&client.status().await?))) })
    }

    fn counters(&self) -> PyResult<Operation> {
        self.begin(|client| async move { Ok(Gain::Text(json(&client.counters().await?))) })
    }

    #[pyo3(signature = (limit = 100, task = None))]
    fn history(&self, limit: usize, task: Option<&str>) -> PyResult<Operation> {
        let wanted = Wanted { limit, task: task.map(task_name).transpose()? };
        self.begin(|client| async move { Ok(Gain::Text(json(&client.history(&wanted).await?))) })
    }

    #[pyo3(
        signature = (task_id, status, **options),
        text_signature = "($self, task_id, status, *, progress=None, message=None, lease_id=None, begins=False)"
    )]
    fn beat(
        &self,
        task_id: &str,
        status: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let beat = read_beat(task_id, status, options)?;
        self.begin(|client| async move {
            client.beat(&beat).await?;
            Ok(Gain::Nothing)
        })
    }

    #[pyo3(
        signature = (task_id, **options),
        text_signature = "($self, task_id, *, progress=None, message=None, lease_id=None, begins=False)"
    )]
    fn keep_task(&self, task_id: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Heartbeat> {
        let beat = read_beat(task_id, "running", options)?;
        let interval = self.config.gpu_lock_monitor.heartbeat.interval;
        Ok(Heartbeat::begin(self.here()?, beat, interval)?)
    }

    fn task_heartbeats(&self) -> PyResult<Operation> {
        self.begin(|client| async move { Ok(Gain::Text(json(&client.task_heartbeats().await?))) })
    }

    fn forget_task(&self, task_id: &str) -> PyResult<Operation> {
        let task_id = task_name(task_id)?;
        self.begin(|client| async move { Ok(Gain::Flag(client.forget_task(&task_id).await?)) })
    }

    fn settle(&self, patience: f64) -> PyResult<Operation> {
        let patience = span(Some(patience)).unwrap_or_default();
        self.begin(move |client| async move { Ok(Gain::Flag(client.settle(patience).await)) })
    }

    fn again(&self, py: Python<'_>) -> PyResult<Self> {
        self.here()?;
        Self::connect(py, self.asked.clone(), self.reading())
    }

    fn renewed(&self, py: Python<'_>) -> PyResult<(Self, Vec<&'static str>)> {
        self.here()?;
        let mut reading = self.read_again(py)?;
        let pinned = reading.pin(&self.config, |_| true);
        Ok((Self::build(self.asked.clone(), reading, (*self.stores).clone())?, pinned))
    }

    #[pyo3(signature = (as_it_was = false))]
    fn inherited(&self, py: Python<'_>, as_it_was: bool) -> PyResult<(Self, Vec<&'static str>)> {
        let mut reading = if as_it_was { self.reading() } else { self.read_again(py)? };
        // A child may be told by variables of its own.
        let from_file = |origin: &Origin| !matches!(origin, Origin::Environment { .. });
        let pinned = reading.pin(&self.config, from_file);
        Ok((Self::connect(py, self.asked.clone(), reading)?, pinned))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        // SAFETY: `self` is being dropped, so it is not used again.
        #[expect(unsafe_code, reason = "in a forked child it must not be dropped")]
        let (client, stores) =
            unsafe { (ManuallyDrop::take(&mut self.inner), ManuallyDrop::take(&mut self.stores)) };
        if let Ok(handle) = runtime::handle() {
            handle.spawn(async move {
                settled(client).await;
                drop(stores);
            });
        }
    }
}

impl Reading {
    fn of(wish: &Wish) -> Result<Self, Trouble> {
        let mut sources = Sources { file: wish.config.clone(), ..Sources::of_process() };
        let flags = [("store", &wish.store), ("pool", &wish.pool)];
        for (key, value) in flags {
            sources.flags.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        let loaded = Config::load(&sources)?;
        let findings = loaded.warnings.iter().filter(|found| found.severity == Severity::Warning);
        let warnings = findings
            .map(|found| format!("{}: {}\nhint: {}", found.place, found.message, found.hint))
            .collect();
        // The process may go to another folder before it reads the file again.
        let file = loaded.file.map(|file| std::path::absolute(&file).unwrap_or(file));
        Ok(Self { config: Box::new(loaded.config), file, warnings })
    }

    /// Keeps store and pool as they were where their new origin is one that `pins`, and says
    /// which of them that has changed.
    fn pin(&mut self, before: &Config, pins: impl Fn(&Origin) -> bool) -> Vec<&'static str> {
        let now = &mut *self.config;
        let mut pinned = Vec::new();
        if now.store != before.store && pins(&now.origin("store")) {
            now.store.clone_from(&before.store);
            pinned.push("store");
        }
        if now.pool != before.pool && pins(&now.origin("pool")) {
            now.pool.clone_from(&before.pool);
            pinned.push("pool");
        }
        pinned
    }
}

impl Stores {
    /// Opens the store, and says who shares it if that could surprise.
    fn open(config: &Config) -> Result<(Self, Option<String>), Trouble> {
        let Some(url) = &config.store else { return Self::default_place() };
        let store = connect(url.reveal())?;
        let direct = match store.scope() {
            // A connection belongs to the threads of one runtime.
            Scope::Network => connect(url.reveal())?,
            _ => Arc::clone(&store),
        };
        Ok((Self { store, direct, place: url.to_string() }, None))
    }

    fn default_place() -> Result<(Self, Option<String>), Trouble> {
        let place = DefaultPlace::find(|name| std::env::var(name).ok());
        place.prepare()?;
        let is_new = !place.path().exists();
        let store = connect(&place.url())?;
        let surprises = is_new || matches!(place, DefaultPlace::Excluded(_));
        let notice = place.notice().filter(|_| surprises);
        Ok((Self { direct: Arc::clone(&store), store, place: place.url() }, notice))
    }
}

/// Keeps a client known to [`all`] until nothing is left that it has to say to the store.
pub(crate) async fn settled(client: Arc<gpulock::Client>) {
    client.settle(Duration::MAX).await;
}

/// The clients of this process.
pub(crate) fn all() -> Vec<Arc<gpulock::Client>> {
    CLIENTS.all()
}

/// In a child after a fork.
pub(crate) fn forget_all() {
    CLIENTS.forget();
}

pub(crate) fn id(text: &str) -> PyResult<LeaseId> {
    text.parse().map_err(|error| PyValueError::new_err(format!("{error}, not {text:?}")))
}

pub(crate) fn task_name(text: &str) -> PyResult<TaskName> {
    text.parse().map_err(|error| PyValueError::new_err(format!("{error}")))
}

fn named(lease_id: &str, token: u64) -> PyResult<LeaseRef> {
    Ok(LeaseRef { lease_id: id(lease_id)?, token: Token::from_value(token) })
}

fn incident(kind: &str) -> PyResult<Incident> {
    match kind {
        "normal_release_failure" => Ok(Incident::NormalReleaseFailure),
        "emergency_release" => Ok(Incident::EmergencyRelease),
        "release_script_error" => Ok(Incident::ReleaseScriptError),
        "critical_failure" => Ok(Incident::CriticalFailure),
        other => Err(PyValueError::new_err(format!("there is no incident {other:?}"))),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Names and numbers always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

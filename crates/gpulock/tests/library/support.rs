//! What the tests share: stores, clients, waiting for conditions, and processes.

use std::any::Any;
use std::env;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gpulock::core::{Counters, GpuIndex, GpuRef, LeaseId, PoolName, TaskName};
use gpulock::store::memory::MemoryStore;
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Store, View, Wanted};
use gpulock::{Client, Options, Polling, connect};
use gpulock_testbed::RedisServer;

/// Longer than anything takes that a test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// So long that it never passes while a test runs.
pub(crate) const AGES: Duration = Duration::from_secs(3_600);

/// A store and the clients that use it.
pub(crate) struct World {
    open: Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>,
    /// For looking from outside.
    pub(crate) store: Arc<dyn Store>,
    /// What must live as long as the store.
    _guard: Box<dyn Any + Send + Sync>,
}

impl World {
    pub(crate) fn memory() -> Self {
        let store = MemoryStore::new();
        Self::of(move || Arc::new(store.clone()))
    }

    /// Every client has a connection of its own.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpulock.db");
        let world = Self::of(move || Arc::new(SqliteStore::open(&path).unwrap()));
        Self { _guard: Box::new(folder), ..world }
    }

    /// Every client has connections of its own.
    pub(crate) fn redis() -> Self {
        let server = RedisServer::start();
        let world = Self::at(trusted(&server));
        Self { _guard: Box::new(server), ..world }
    }

    /// The store behind a URL.
    pub(crate) fn at(url: String) -> Self {
        Self::of(move || connect(&url).unwrap())
    }

    pub(crate) fn of(open: impl Fn() -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        Self { store: open(), open: Box::new(open), _guard: Box::new(()) }
    }

    /// The store, opened once more.
    pub(crate) fn open(&self) -> Arc<dyn Store> {
        (self.open)()
    }

    /// A client of a pool with GPU 0 that hears of things by wake-ups alone.
    pub(crate) fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    pub(crate) fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = patient();
        change(&mut options);
        Client::builder((self.open)()).options(options).build().unwrap()
    }

    pub(crate) fn view(&self) -> View {
        block_on(self.store.read(&PoolName::default(), None)).unwrap()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.view().pool.ledger.counters
    }

    pub(crate) fn history(&self) -> Vec<gpulock::core::Event> {
        let wanted = Wanted { limit: 10_000, task: None };
        let entries = block_on(self.store.history(&PoolName::default(), &wanted)).unwrap();
        entries.into_iter().map(|entry| entry.event).collect()
    }

    pub(crate) fn queue(&self) -> Vec<LeaseId> {
        let waiters = block_on(self.store.waiters(&PoolName::default(), 10_000)).unwrap();
        waiters.iter().map(|waiter| waiter.lease_id).collect()
    }

    pub(crate) fn until_queued(&self, count: usize) {
        until(&format!("{count} wait"), || self.queue().len() == count);
    }

    pub(crate) fn until_free(&self) {
        until("no lease is left", || self.view().pool.leases.is_empty());
    }
}

/// The URL of a server that is taken to have forgotten nothing, although it has only just
/// started.
pub(crate) fn trusted(server: &RedisServer) -> String {
    format!("{}?after_restart=trust", server.url())
}

/// Options of a client that is not woken by any clock while a test runs.
pub(crate) fn patient() -> Options {
    Options {
        gpus: Some(vec![GpuRef::Index(GpuIndex(0))]),
        polling: Polling { first: AGES, longest: AGES, doubles: false, wake_ups: true },
        heartbeat_interval: AGES,
        heartbeat_timeout: AGES * 3,
        max_wait: AGES,
        ..Options::default()
    }
}

pub(crate) fn task(name: &str) -> TaskName {
    name.parse().unwrap()
}

/// Runs a future to its end; one that takes too long fails the test.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LONG, work).await });
    ended.expect("waited in vain")
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Makes each of these functions a test on each kind of store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[test] fn $name() { super::$name($crate::library::support::World::memory()); })*
        }
        mod on_redis {
            $(#[test] fn $name() { super::$name($crate::library::support::World::redis()); })*
        }
        mod on_sqlite {
            $(#[test] fn $name() { super::$name($crate::library::support::World::sqlite()); })*
        }
    };
}
pub(crate) use on_every_store;

/// Says in which test, under which part, and on which store this process runs.
const PART: &str = "GPULOCK_TEST_PART";

/// A process that plays a part in a test: the test itself, run once more. It is killed when
/// it is dropped.
pub(crate) struct Actor(pub(crate) Child);

impl Actor {
    /// Runs the test `name` (with its module) once more, where [`part`] answers `part`.
    pub(crate) fn start(name: &str, part: &str, store: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).stdout(Stdio::null()).stdin(Stdio::null());
        Self(command.env(PART, format!("{part} {}", store.display())).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself, and well.
    pub(crate) fn end(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "a process of the test failed: {status}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which part this process plays, and its store; `None` in the test itself.
pub(crate) fn part() -> Option<(String, PathBuf)> {
    let told = env::var(PART).ok()?;
    let (part, store) = told.split_once(' ')?;
    Some((part.to_owned(), store.into()))
}

/// The name by which the test binary knows a test of this module.
macro_rules! full_name {
    ($test:expr) => {
        format!("{}::{}", module_path!().split_once("::").unwrap().1, $test)
    };
}
pub(crate) use full_name;

/// Runs the test `name` (see [`full_name`]) once more, alone, by way of the command `way`,
/// and there `body`.
pub(crate) fn elsewhere(name: &str, way: &[String], body: impl FnOnce()) {
    const INSIDE: &str = "GPULOCK_TEST_INSIDE";
    if env::var(INSIDE).is_ok_and(|inside| inside == name) {
        return body();
    }
    let mut command = Command::new(&way[0]);
    command.args(&way[1..]).arg(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(INSIDE, name);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{command:?} failed ({}):\n{text}\n{}\n\
         A test that needs a namespace runs as root, or where users may make namespaces \
         (sysctl kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces).",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}

/// A way into namespaces of one's own.
pub(crate) fn unshare(options: &[&str]) -> Vec<String> {
    let rights: &[&str] = match rustix::process::geteuid().is_root() {
        true => &[],
        false => &["--user", "--map-root-user"],
    };
    ["unshare"].iter().chain(rights).chain(options).map(ToString::to_string).collect()
}

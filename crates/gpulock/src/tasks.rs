//! Signs of life of tasks, with or without a GPU: told once, or kept up in the background.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gpulock_core::{LeaseId, Progress, TaskBeat, TaskName, TaskRecord, TaskSign, TaskStatus, Time};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::clock::BootTime;
use crate::error::Error;
use crate::stored::Patience;

/// A task whose signs of life go out again and again, until it is ended or this is dropped.
#[derive(Debug)]
pub struct KeptTask {
    client: Client,
    told: watch::Sender<TaskBeat>,
    trouble: Trouble,
    keeping: JoinHandle<()>,
}

/// What is said of a task at its end.
#[derive(Clone, Debug)]
pub enum LastWord {
    /// That it has ended so, and how far it was.
    Ended(TaskStatus, Option<Progress>),
    /// Nothing: it is forgotten.
    Forget,
}

/// What is remembered of a task and what that means now, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskHeartbeat {
    /// Which task.
    pub task_id: TaskName,
    /// What its silence, or its end, means.
    pub sign: TaskSign,
    /// What it said it was at.
    pub status: TaskStatus,
    /// From 0 to 100, if it told.
    pub progress: Option<f64>,
    /// What it is doing, for people, if it told.
    pub message: Option<String>,
    /// When this run gave its first sign of life, in seconds since the Unix epoch.
    pub started_at: f64,
    /// When it gave the last one.
    pub updated_at: f64,
    /// How long ago that was.
    pub last_heartbeat_seconds_ago: f64,
    /// Where it runs.
    pub host: String,
    /// The process that runs it, if it told.
    pub pid: Option<u32>,
    /// The lease under which it runs, if it told.
    pub lease_id: Option<LeaseId>,
}

/// Why the last sign of life was not written, if it was not.
type Trouble = Arc<Mutex<Option<String>>>;

impl Client {
    /// Tells of a task, and answers with what is remembered of it from now on.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn beat(&self, beat: &TaskBeat) -> Result<TaskRecord, Error> {
        let stored = &self.inner.stored;
        let put = async || Ok(stored.store.put_task(&stored.pool, beat).await?);
        Ok(self.until_next_beat().bear(put).await?)
    }

    /// Goes on telling of a task every `interval`, on this client's thread. What is said here is
    /// first told after the interval, or at once if a run begins with it.
    pub fn keep_task(&self, beat: TaskBeat, interval: Duration) -> KeptTask {
        let begins = beat.begins;
        let (told, mut latest) = watch::channel(beat);
        if begins {
            latest.mark_changed();
        }
        let (client, trouble) = (self.clone(), Trouble::default());
        let keeping = keep(client.clone(), latest, interval, Arc::clone(&trouble));
        let keeping = self.inner.engine.handle().spawn(keeping);
        KeptTask { client, told, trouble, keeping }
    }

    /// What is remembered of the tasks of the pool, the latest sign of life first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn tasks(&self) -> Result<Vec<TaskRecord>, Error> {
        let stored = &self.inner.stored;
        Ok(stored.store.tasks(&stored.pool).await?)
    }

    /// The same with what it means now: a task that was silent for longer than a lease lives
    /// without a heartbeat is dead.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn task_heartbeats(&self) -> Result<Vec<TaskHeartbeat>, Error> {
        let stored = &self.inner.stored;
        let records = self.tasks().await?;
        let view = stored.store.read(&stored.pool, None).await?;
        let is_current = |lease_id| view.pool.lease(lease_id).is_some_and(|lease| !lease.is_over());
        let timeout = self.inner.options.heartbeat_timeout;
        let shown = records.into_iter().map(|record| {
            let sign = record.sign(is_current, view.now, timeout);
            TaskHeartbeat::new(record, sign, view.now)
        });
        Ok(shown.collect())
    }

    /// Forgets a task. `false` if nothing was remembered of it.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn forget_task(&self, task_id: &TaskName) -> Result<bool, Error> {
        let stored = &self.inner.stored;
        let remove = async || Ok(stored.store.remove_task(&stored.pool, task_id).await?);
        Ok(self.until_next_beat().bear(remove).await?)
    }

    /// No sign of life is worth more patience than it takes until the next one.
    fn until_next_beat(&self) -> Patience<'static> {
        let options = &self.inner.options;
        let span = options.store_patience.min(options.heartbeat_interval);
        Patience { until: BootTime::now() + span, tell: &|_| {} }
    }
}

impl KeptTask {
    /// Tells how far the task is, now, without waiting for that.
    pub fn tell(&self, progress: Option<Progress>) {
        self.told.send_modify(|beat| beat.progress = progress);
    }

    /// Why the last sign of life was not written, if it was not. The next one may be.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: after this nothing that was told before reaches the store any more. `false` if
    /// there was nothing to forget.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn end(self, last: LastWord) -> Result<bool, Error> {
        let Self { client, told, keeping, .. } = self;
        let beat = told.borrow().clone();
        drop(told);
        // It panicked only if something in it did, and that was reported there.
        let _ = keeping.await;
        match last {
            LastWord::Ended(status, progress) => {
                client.beat(&TaskBeat { status, progress, begins: false, ..beat }).await?;
                Ok(true)
            }
            LastWord::Forget => client.forget_task(&beat.task_id).await,
        }
    }
}

impl TaskHeartbeat {
    fn new(record: TaskRecord, sign: TaskSign, now: Time) -> Self {
        let TaskRecord { task_id, status, progress, lease, host, pid, started_at, updated_at } =
            record;
        let percent = progress.as_ref().map(|told| f64::from(told.basis_points) / 100.0);
        Self {
            task_id,
            sign,
            status,
            progress: percent,
            message: progress.map(|told| told.message),
            started_at: started_at.as_secs_f64(),
            updated_at: updated_at.as_secs_f64(),
            last_heartbeat_seconds_ago: now.since(updated_at).as_secs_f64(),
            host,
            pid,
            lease_id: lease,
        }
    }
}

/// Tells the latest whenever it has changed and whenever `interval` is over, one at a time.
async fn keep(
    client: Client,
    mut latest: watch::Receiver<TaskBeat>,
    interval: Duration,
    trouble: Trouble,
) {
    let mut begins = latest.borrow().begins;
    loop {
        if let Ok(Err(_)) = tokio::time::timeout(interval, latest.changed()).await {
            return;
        }
        let beat = TaskBeat { begins, ..latest.borrow_and_update().clone() };
        let told = client.beat(&beat).await;
        begins &= told.is_err();
        let because = told.err().map(|error| error.to_string());
        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = because;
    }
}

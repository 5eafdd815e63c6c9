//! Signs of life in a pool: of tasks that send them by themselves, with or without a GPU, and of
//! leases.

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::{
    Cause, Ending, Lease, LeaseId, Phase, TaskRecord, TaskSign, TaskStatus, Term, Time,
};
use gpulock::store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Daemon;
use super::picture::Picture;

/// The last sign of life of a task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Heartbeat {
    /// What the task says of itself.
    status: Status,
    /// How far it is, in percent; `null` if it did not tell.
    progress: Option<f64>,
    /// What it is doing; empty if it did not tell.
    message: String,
    /// When it gave that sign: seconds since the Unix epoch.
    last_heartbeat: f64,
    /// When it began: seconds since the Unix epoch.
    start_time: f64,
    /// The lease that it works under; `null` if it has none.
    lease_id: Option<String>,
    /// Where it runs.
    host: String,
    /// Its process, if anybody can look at it.
    pid: Option<u32>,
}

/// What a task says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It is at work.
    Running,
    /// It has ended well.
    Completed,
    /// It has ended badly.
    Failed,
}

/// All signs of life, by task. Leases stand under the name of their task.
#[derive(Serialize, ToSchema)]
pub(crate) struct Heartbeats {
    /// Signs that are fresh.
    active_tasks: BTreeMap<String, Heartbeat>,
    /// Signs that are older than the heartbeat timeout.
    dead_tasks: BTreeMap<String, Heartbeat>,
    /// Signs of tasks whose lease is no longer the current one.
    orphaned_tasks: BTreeMap<String, Heartbeat>,
    /// How many.
    pub(crate) statistics: HeartbeatStatistics,
}

/// Signs of life, counted.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct HeartbeatStatistics {
    /// Tasks and leases that are not known to have ended.
    pub(crate) total_tasks: usize,
    /// With a fresh sign.
    pub(crate) active_tasks: usize,
    /// Without.
    pub(crate) dead_tasks: usize,
    /// Whose lease is no longer the current one.
    pub(crate) orphaned_tasks: usize,
    /// Leases that have ever ended because no sign came, and tasks that are dead now.
    pub(crate) heartbeat_failures: u64,
}

impl Daemon {
    /// Every sign of life in the pool of a picture.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn signs_of_life(&self, picture: &Picture) -> Result<Heartbeats, StoreError> {
        let records = self.store.tasks(&picture.pool).await?;
        let timeout = self.settings.current().gpu_lock_monitor.heartbeat.timeout;
        let now = picture.view.now;
        let mut found = Heartbeats {
            active_tasks: BTreeMap::new(),
            dead_tasks: BTreeMap::new(),
            orphaned_tasks: BTreeMap::new(),
            statistics: HeartbeatStatistics::default(),
        };
        for record in records {
            let sign = sign_of(&record, picture, timeout);
            found.add(sign, record.task_id.to_string(), Heartbeat::from(record));
        }
        for lease in &picture.view.pool.leases {
            let sign = if is_alive(lease, now) { TaskSign::Active } else { TaskSign::Dead };
            found.add(sign, lease.task.to_string(), Heartbeat::from(lease));
        }
        let recoveries = &picture.view.pool.ledger.counters;
        let lapsed = recoveries.recovered.heartbeat + recoveries.not_recovered.heartbeat;
        found.statistics.heartbeat_failures = lapsed + found.statistics.dead_tasks as u64;
        Ok(found)
    }
}

/// What the last sign of a task means.
pub(crate) fn sign_of(record: &TaskRecord, picture: &Picture, timeout: Duration) -> TaskSign {
    let leases = &picture.view.pool;
    let is_current = |id: LeaseId| leases.lease(id).is_some_and(|lease| !lease.is_over());
    record.sign(is_current, picture.view.now, timeout)
}

/// A lease without heartbeats lives until its deadline; one that its holder did not let run
/// out says nothing about its health.
fn is_alive(lease: &Lease, now: Time) -> bool {
    match &lease.phase {
        Phase::Draining { how, .. } => {
            !matches!(how, Ending::Expired(Cause::Deadline | Cause::HolderDied))
        }
        _ => lease.deadline().is_some_and(|deadline| now < deadline),
    }
}

impl Heartbeats {
    fn add(&mut self, sign: TaskSign, task: String, heartbeat: Heartbeat) {
        let counts = &mut self.statistics;
        let (tasks, count) = match sign {
            TaskSign::Active => (&mut self.active_tasks, &mut counts.active_tasks),
            TaskSign::Dead => (&mut self.dead_tasks, &mut counts.dead_tasks),
            TaskSign::Orphaned => (&mut self.orphaned_tasks, &mut counts.orphaned_tasks),
            TaskSign::Finished => return,
        };
        *count += 1;
        counts.total_tasks += 1;
        let name = match (tasks.contains_key(&task), &heartbeat.lease_id) {
            (true, Some(lease_id)) => format!("{task} ({lease_id})"),
            _ => task,
        };
        tasks.insert(name, heartbeat);
    }
}

impl From<Status> for TaskStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<TaskRecord> for Heartbeat {
    fn from(record: TaskRecord) -> Self {
        let progress = record.progress.as_ref();
        Self {
            status: match record.status {
                TaskStatus::Running => Status::Running,
                TaskStatus::Completed => Status::Completed,
                TaskStatus::Failed => Status::Failed,
            },
            progress: progress.map(|progress| f64::from(progress.basis_points) / 100.0),
            message: progress.map(|progress| progress.message.clone()).unwrap_or_default(),
            last_heartbeat: record.updated_at.as_secs_f64(),
            start_time: record.started_at.as_secs_f64(),
            lease_id: record.lease.map(|id| id.to_string()),
            host: record.host,
            pid: record.pid,
        }
    }
}

impl From<&Lease> for Heartbeat {
    fn from(lease: &Lease) -> Self {
        let progress = lease.progress.as_ref();
        let last_sign = match lease.term {
            Term::Heartbeats(_) => lease.renewed_at(),
            Term::Fixed(_) => lease.acquired_at,
        };
        Self {
            status: Status::Running,
            progress: progress.map(|progress| f64::from(progress.basis_points) / 100.0),
            message: progress.map(|progress| progress.message.clone()).unwrap_or_default(),
            last_heartbeat: last_sign.as_secs_f64(),
            start_time: lease.acquired_at.as_secs_f64(),
            lease_id: Some(lease.lease_id.to_string()),
            host: lease.owner.host.clone(),
            pid: lease.owner.process.as_ref().map(|own| own.process.pid),
        }
    }
}

//! Signs of life: of tasks that send them by themselves, with or without a GPU, and of leases.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use gpulock::core::{
    Cause, Ending, Lease, LeaseId, Phase, Progress, TaskBeat, TaskName, TaskRecord, TaskSign,
    TaskStatus, Term, Time,
};
use gpulock::store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, failed, invalid, percent};
use crate::daemon::Daemon;
use crate::daemon::audit::Caller;
use crate::daemon::input::{Json, Path};
use crate::daemon::picture::Picture;
use crate::daemon::problem::{Kind, Problem};

/// For how long the record of a task that has ended stays.
const REMEMBERED: Duration = Duration::from_secs(3_600);

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

/// All signs of life: active, dead and orphaned.
#[utoipa::path(get, path = "/api/v1/monitoring/heartbeat/all", tag = "heartbeats",
    responses((status = 200, description = "By task.", body = Heartbeats)))]
pub(crate) async fn all(State(api): State<Api>) -> Result<Json<Heartbeats>, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    api.signs_of_life(&picture).await.map(Json).map_err(failed)
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

fn sign_of(record: &TaskRecord, picture: &Picture, timeout: Duration) -> TaskSign {
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

/// The last sign of life of one task.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskHeartbeat {
    /// Which task.
    task_id: String,
    /// `active`, `dead`, `orphaned` or `finished`.
    heartbeat_status: Sign,
    /// The sign.
    #[serde(flatten)]
    heartbeat: Heartbeat,
}

/// How alive a task is.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sign {
    /// Its sign is fresh.
    Active,
    /// Its sign is older than the heartbeat timeout.
    Dead,
    /// Its lease is no longer the current one.
    Orphaned,
    /// It has ended.
    Finished,
}

/// The last sign of life of one task.
#[utoipa::path(get, path = "/api/v1/monitoring/heartbeat/task/{task_id}", tag = "heartbeats",
    params(("task_id" = String, Path, description = "Which task.", min_length = 1, max_length = 256)),
    responses((status = 200, description = "The sign.", body = TaskHeartbeat)))]
pub(crate) async fn task(
    State(api): State<Api>,
    Path(task_id): Path<String>,
) -> Result<Json<TaskHeartbeat>, Problem> {
    let task_id = task_name(&task_id)?;
    let record = record_of(&api, &task_id).await?.ok_or_else(|| unknown(&task_id))?;
    answer(&api, record).await.map(Json)
}

/// A task begins.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Start {
    /// What it is doing.
    #[schema(max_length = 1_000)]
    message: Option<String>,
    /// The lease that it works under.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    lease_id: Option<String>,
    /// Where it runs; the caller's address where it is absent.
    #[schema(max_length = 256)]
    host: Option<String>,
}

/// Begin to send signs of life for a task.
#[utoipa::path(post, path = "/api/v1/monitoring/heartbeat/task/{task_id}/start", tag = "heartbeats",
    request_body = Start,
    params(("task_id" = String, Path, description = "Which task.", min_length = 1, max_length = 256)),
    responses((status = 201, description = "The first sign.", body = TaskHeartbeat)))]
pub(crate) async fn start(
    State(api): State<Api>,
    Path(task_id): Path<String>,
    caller: Caller,
    Json(start): Json<Start>,
) -> Result<(StatusCode, Json<TaskHeartbeat>), Problem> {
    let task_id = task_name(&task_id)?;
    let lease = start.lease_id.map(|id| id.parse()).transpose();
    let lease = lease.map_err(|_| invalid("a lease id has 32 hexadecimal digits"))?;
    let host = start.host.unwrap_or_else(|| caller.peer.ip().to_string());
    let host = host.parse::<TaskName>().map_err(|error| invalid(format!("`host`: {error}")))?;
    let progress = progress_of(None, start.message, None)?;
    let status = TaskStatus::Running;
    let host = host.to_string();
    let beat = TaskBeat { task_id, status, progress, lease, host, pid: None, begins: true };
    let record = api.store.put_task(&api.pool, &beat).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(answer(&api, record).await?)))
}

/// A sign of life. What is absent stays as it was.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Update {
    /// What the task says of itself.
    status: Option<Status>,
    /// How far it is, in percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: Option<f64>,
    /// What it is doing.
    #[schema(max_length = 1_000)]
    message: Option<String>,
}

/// A sign of life of a task; the first one begins it.
#[utoipa::path(put, path = "/api/v1/monitoring/heartbeat/task/{task_id}", tag = "heartbeats",
    request_body = Update,
    params(("task_id" = String, Path, description = "Which task.", min_length = 1, max_length = 256)),
    responses((status = 200, description = "The sign.", body = TaskHeartbeat)))]
pub(crate) async fn update(
    State(api): State<Api>,
    Path(task_id): Path<String>,
    caller: Caller,
    Json(update): Json<Update>,
) -> Result<Json<TaskHeartbeat>, Problem> {
    let task_id = task_name(&task_id)?;
    let known = record_of(&api, &task_id).await?;
    let (before, lease, host, pid) = match known {
        Some(known) => (Some((known.status, known.progress)), known.lease, known.host, known.pid),
        None => (None, None, caller.peer.ip().to_string(), None),
    };
    let (status, progress) = before.unwrap_or((TaskStatus::Running, None));
    let status = update.status.map_or(status, TaskStatus::from);
    let progress = progress_of(update.progress, update.message, progress)?;
    let beat = TaskBeat { task_id, status, progress, lease, host, pid, begins: false };
    let record = api.store.put_task(&api.pool, &beat).await.map_err(failed)?;
    answer(&api, record).await.map(Json)
}

/// Nothing needs to be said.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nothing {}

/// Forget the signs of life of a task.
#[utoipa::path(delete, path = "/api/v1/monitoring/heartbeat/task/{task_id}", tag = "heartbeats",
    request_body = Nothing,
    params(("task_id" = String, Path, description = "Which task.", min_length = 1, max_length = 256)),
    responses((status = 204, description = "They are forgotten.")))]
pub(crate) async fn forget(
    State(api): State<Api>,
    Path(task_id): Path<String>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<StatusCode, Problem> {
    let task_id = task_name(&task_id)?;
    match api.store.remove_task(&api.pool, &task_id).await.map_err(failed)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&task_id)),
    }
}

/// What was forgotten.
#[derive(Serialize, ToSchema)]
pub(crate) struct CleanedUp {
    /// How many tasks.
    removed: usize,
    /// Which.
    tasks: Vec<String>,
}

/// Forget the signs of life of tasks that are dead or orphaned, or have ended long ago. Leases
/// are left alone.
#[utoipa::path(post, path = "/api/v1/monitoring/heartbeat/cleanup", tag = "heartbeats",
    request_body = Nothing,
    responses((status = 200, description = "What was forgotten.", body = CleanedUp)))]
pub(crate) async fn cleanup(
    State(api): State<Api>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Json<CleanedUp>, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    let timeout = api.settings.current().gpu_lock_monitor.heartbeat.timeout;
    let mut tasks = Vec::new();
    for record in api.store.tasks(&api.pool).await.map_err(failed)? {
        let is_over = match sign_of(&record, &picture, timeout) {
            TaskSign::Active => false,
            TaskSign::Dead | TaskSign::Orphaned => true,
            TaskSign::Finished => picture.view.now.since(record.updated_at) > REMEMBERED,
        };
        if is_over && api.store.remove_task(&api.pool, &record.task_id).await.map_err(failed)? {
            tasks.push(record.task_id.to_string());
        }
    }
    Ok(Json(CleanedUp { removed: tasks.len(), tasks }))
}

async fn answer(api: &Api, record: TaskRecord) -> Result<TaskHeartbeat, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    let timeout = api.settings.current().gpu_lock_monitor.heartbeat.timeout;
    let heartbeat_status = match sign_of(&record, &picture, timeout) {
        TaskSign::Active => Sign::Active,
        TaskSign::Dead => Sign::Dead,
        TaskSign::Orphaned => Sign::Orphaned,
        TaskSign::Finished => Sign::Finished,
    };
    let task_id = record.task_id.to_string();
    Ok(TaskHeartbeat { task_id, heartbeat_status, heartbeat: record.into() })
}

async fn record_of(api: &Api, task_id: &TaskName) -> Result<Option<TaskRecord>, Problem> {
    let records = api.store.tasks(&api.pool).await.map_err(failed)?;
    Ok(records.into_iter().find(|record| record.task_id == *task_id))
}

fn progress_of(
    percentage: Option<f64>,
    message: Option<String>,
    before: Option<Progress>,
) -> Result<Option<Progress>, Problem> {
    if message.as_ref().is_some_and(|message| message.chars().count() > 1_000) {
        return Err(invalid("`message` has more than 1000 characters"));
    }
    if percentage.is_none() && message.is_none() {
        return Ok(before);
    }
    let mut progress = before.unwrap_or(Progress { basis_points: 0, message: String::new() });
    if let Some(percentage) = percentage {
        progress.basis_points = percent(percentage)?;
    }
    if let Some(message) = message {
        progress.message = message;
    }
    Ok(Some(progress))
}

fn task_name(text: &str) -> Result<TaskName, Problem> {
    text.parse().map_err(|error| invalid(format!("{error}")))
}

fn unknown(task_id: &TaskName) -> Problem {
    Problem::new(Kind::NotFound, format!("no sign of life is known of the task {task_id}"))
        .hint("GET /api/v1/monitoring/heartbeat/all lists those that are")
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

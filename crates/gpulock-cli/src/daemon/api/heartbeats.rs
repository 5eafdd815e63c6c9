//! Signs of life: of tasks that send them by themselves, with or without a GPU, and of leases.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use gpulock::core::{Progress, TaskBeat, TaskName, TaskRecord, TaskSign, TaskStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, failed, invalid, percent};
use crate::daemon::audit::Caller;
use crate::daemon::input::{Json, Nothing, Path};
use crate::daemon::problem::{Kind, Problem};
use crate::daemon::signs::{Heartbeat, Heartbeats, Status, sign_of};

/// For how long the record of a task that has ended stays.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// All signs of life: active, dead and orphaned.
#[utoipa::path(get, path = "/api/v1/monitoring/heartbeat/all", tag = "heartbeats",
    responses((status = 200, description = "By task.", body = Heartbeats)))]
pub(crate) async fn all(State(api): State<Api>) -> Result<Json<Heartbeats>, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    api.signs_of_life(&picture).await.map(Json).map_err(failed)
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

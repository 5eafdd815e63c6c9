//! How the lock is doing, with the older system's paths and names.

use axum::extract::State;
use gpulock::core::health::{Issue, Severity};
use gpulock::core::{LeaseId, LockKey};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::monitor::{MonitorStatistics, MonitorStatus, TimeoutStatus};
use super::release::{keeper, lock_key_of};
use super::{Api, failed, monitor, timestamp};
use crate::daemon::input::{Json, Query};
use crate::daemon::picture::Picture;
use crate::daemon::problem::Problem;
use crate::daemon::signs::HeartbeatStatistics;
use crate::daemon::statistics::{Exceptions, Statistics};

/// Which GPU.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfLock {
    /// `gpu_lock:0`, or `gpu_lock:POOL/0` in another pool than the default one.
    #[param(default = "gpu_lock:0")]
    lock_key: Option<String>,
}

/// How the lock is doing.
#[derive(Serialize, ToSchema)]
pub(crate) struct LockHealth {
    /// `healthy`, `warning` or `critical`.
    overall_status: OverallStatus,
    /// How many things are wrong.
    issues_count: usize,
    /// What is wrong, the worst first.
    issues: Vec<String>,
    /// Requests that are over.
    total_attempts: u64,
    /// The share that got their GPUs, 0 to 1.
    success_rate: f64,
    /// The share that gave up because their time was over, 0 to 1.
    timeout_rate: f64,
    /// How long a lease was held, in seconds.
    average_execution_time: f64,
    /// The share of the latest requests that got their GPUs, 0 to 1.
    recent_success_rate: f64,
    /// What the work is called that keeps the GPU; `null` if it is free.
    lock_holder: Option<String>,
    /// For how long, in seconds.
    lock_age: Option<f64>,
    /// Whether the store answers. If not, all figures are those of an empty pool.
    store_connected: bool,
    /// Lock keys of leases that are over and whose processes are not known to be gone.
    zombie_locks: Vec<String>,
    /// Lock keys of leases that are held for long.
    long_held_locks: Vec<String>,
    /// When this was so: seconds since the Unix epoch.
    timestamp: f64,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OverallStatus {
    /// Nothing is wrong.
    Healthy,
    /// Somebody should look.
    Warning,
    /// Work stands still.
    Critical,
}

/// How the lock is doing. It answers even if the store does not.
#[utoipa::path(get, path = "/api/v1/monitoring/gpu-lock/health", tag = "monitoring",
    params(OfLock),
    responses((status = 200, description = "The verdict, with reasons.", body = LockHealth)))]
pub(crate) async fn health(
    State(api): State<Api>,
    Query(of): Query<OfLock>,
) -> Result<Json<LockHealth>, Problem> {
    let key = lock_key_of(of.lock_key.as_deref().unwrap_or("gpu_lock:0"))?;
    let picture = match api.pictures.of(&pool_of(&api, &key)).await {
        Ok(picture) => picture,
        Err(error) => return Ok(Json(LockHealth::without_store(&error.to_string()))),
    };
    Ok(Json(health_of(&api, &picture, &key).await))
}

/// A lock key without a pool means that of the daemon.
fn pool_of(api: &Api, key: &LockKey) -> gpulock::core::PoolName {
    match key.pool == gpulock::core::PoolName::default() {
        true => api.pool.clone(),
        false => key.pool.clone(),
    }
}

async fn health_of(api: &Api, picture: &Picture, key: &LockKey) -> LockHealth {
    let statistics = Statistics::new(picture, api.recent_outcomes(picture).await);
    let issues = api.issues(picture).await;
    let keys_of = |lease_id: LeaseId| {
        let keys = picture.status.gpus.iter().filter(move |gpu| gpu.lease_id == Some(lease_id));
        keys.map(|gpu| gpu.lock_key.clone())
    };
    let zombies = issues.iter().filter_map(|issue| match issue {
        Issue::Zombie { lease, .. } => Some(*lease),
        _ => None,
    });
    let long_held = issues.iter().filter_map(|issue| match issue {
        Issue::LongHeld { lease, .. } => Some(*lease),
        _ => None,
    });
    let holder = keeper(picture, key);
    LockHealth {
        overall_status: match issues.iter().map(Issue::severity).max() {
            None => OverallStatus::Healthy,
            Some(Severity::Warning) => OverallStatus::Warning,
            Some(Severity::Critical) => OverallStatus::Critical,
        },
        issues_count: issues.len(),
        issues: issues.iter().map(ToString::to_string).collect(),
        total_attempts: statistics.total_attempts,
        success_rate: statistics.success_rate,
        timeout_rate: statistics.timeout_rate,
        average_execution_time: statistics.average_execution_time,
        recent_success_rate: statistics.recent_success_rate,
        lock_holder: holder.map(|lease| lease.task.to_string()),
        lock_age: holder.map(|lease| picture.view.now.since(lease.acquired_at).as_secs_f64()),
        store_connected: true,
        zombie_locks: zombies.flat_map(keys_of).collect(),
        long_held_locks: long_held.flat_map(keys_of).collect(),
        timestamp: picture.view.now.as_secs_f64(),
    }
}

impl LockHealth {
    fn without_store(error: &str) -> Self {
        Self {
            overall_status: OverallStatus::Critical,
            issues_count: 1,
            issues: vec![error.to_owned()],
            total_attempts: 0,
            success_rate: 1.0,
            timeout_rate: 0.0,
            average_execution_time: 0.0,
            recent_success_rate: 1.0,
            lock_holder: None,
            lock_age: None,
            store_connected: false,
            zombie_locks: Vec::new(),
            long_held_locks: Vec::new(),
            timestamp: timestamp(),
        }
    }
}

/// The lock of one GPU.
#[derive(Serialize, ToSchema)]
pub(crate) struct LockStatus {
    /// Which.
    lock_key: String,
    /// Whether the GPU is kept by a lease.
    is_locked: bool,
    /// What the work is called; `null` if it is free.
    lock_holder: Option<String>,
    /// How long the lease lives without another heartbeat, in seconds; `null` if there is none
    /// or it is over.
    ttl_seconds: Option<f64>,
    /// For how long it has been held, in seconds.
    lock_age: Option<f64>,
    /// `free` or `active`.
    lock_type: LockType,
    /// How the lock is doing.
    health: LockHealth,
    /// How requests and leases have ended.
    statistics: Statistics,
    /// What happened lately, the latest first, each as `gpulock history --json` prints it.
    #[schema(value_type = Vec<Object>)]
    recent_history: Vec<gpulock::core::Event>,
    /// When this was so: seconds since the Unix epoch.
    timestamp: f64,
}

/// Whether a GPU is kept.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LockType {
    /// By nobody.
    Free,
    /// By a lease.
    Active,
}

/// Who holds a GPU, and how its lock has been doing.
#[utoipa::path(get, path = "/api/v1/monitoring/gpu-lock/status", tag = "monitoring",
    params(OfLock),
    responses((status = 200, description = "The lock.", body = LockStatus)))]
pub(crate) async fn status(
    State(api): State<Api>,
    Query(of): Query<OfLock>,
) -> Result<Json<LockStatus>, Problem> {
    let key = lock_key_of(of.lock_key.as_deref().unwrap_or("gpu_lock:0"))?;
    let picture = api.pictures.of(&pool_of(&api, &key)).await.map_err(failed)?;
    let holder = keeper(&picture, &key);
    let now = picture.view.now;
    let recent = api.recent_events(&picture).await;
    Ok(Json(LockStatus {
        lock_key: key.to_string(),
        is_locked: holder.is_some(),
        lock_holder: holder.map(|lease| lease.task.to_string()),
        ttl_seconds: holder
            .and_then(gpulock::core::Lease::deadline)
            .map(|deadline| deadline.since(now).as_secs_f64()),
        lock_age: holder.map(|lease| now.since(lease.acquired_at).as_secs_f64()),
        lock_type: if holder.is_some() { LockType::Active } else { LockType::Free },
        health: health_of(&api, &picture, &key).await,
        statistics: Statistics::new(&picture, api.recent_outcomes(&picture).await),
        recent_history: recent.iter().take(10).cloned().collect(),
        timestamp: now.as_secs_f64(),
    }))
}

/// All figures at once.
#[derive(Serialize, ToSchema)]
pub(crate) struct AllStatistics {
    /// When this was so: seconds since the Unix epoch.
    timestamp: f64,
    /// How requests and leases have ended.
    gpu_lock: Statistics,
    /// The monitor.
    monitor: MonitorFigures,
    /// Signs of life.
    heartbeat: HeartbeatStatistics,
    /// What is overdue.
    timeout: TimeoutStatus,
    /// What went wrong around releases.
    exceptions: Exceptions,
}

/// The monitor in figures.
#[derive(Serialize, ToSchema)]
pub(crate) struct MonitorFigures {
    /// How it is doing.
    monitor_status: MonitorStatus,
    /// What it has done.
    monitor_stats: MonitorStatistics,
}

/// All figures at once.
#[utoipa::path(get, path = "/api/v1/monitoring/statistics", tag = "monitoring",
    responses((status = 200, description = "The figures.", body = AllStatistics)))]
pub(crate) async fn statistics(State(api): State<Api>) -> Result<Json<AllStatistics>, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    let gpu_lock = Statistics::new(&picture, api.recent_outcomes(&picture).await);
    let signs = api.signs_of_life(&picture).await.map_err(failed)?;
    Ok(Json(AllStatistics {
        timestamp: picture.view.now.as_secs_f64(),
        exceptions: gpu_lock.exceptions,
        gpu_lock,
        monitor: MonitorFigures {
            monitor_status: monitor::status_of(&api),
            monitor_stats: monitor::statistics_of(&api, &picture),
        },
        heartbeat: signs.statistics,
        timeout: monitor::timeouts_of(&api, &picture),
    }))
}

//! The monitor and its levels.

use std::time::Duration;

use axum::extract::State;
use gpulock::config::Monitor as MonitorConfig;
use gpulock::core::{LeaseId, Level};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, failed, timestamp};
use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::Json;
use crate::daemon::monitor::levels;
use crate::daemon::notes::Notes;
use crate::daemon::picture::Picture;
use crate::daemon::problem::Problem;

/// How the monitor is doing, whichever daemon acts.
#[derive(Serialize, ToSchema)]
pub(crate) struct MonitorStatus {
    /// `running`, or `stopped` by the configuration or by an operator.
    status: RunState,
    /// Why it is stopped; `null` while it runs.
    stopped_because: Option<String>,
    /// Rounds in which nothing was wrong.
    healthy_checks: u64,
    /// Rounds in which something was.
    unhealthy_checks: u64,
    /// What was wrong last; `null` if nothing ever was.
    last_error: Option<String>,
    /// When a GPU last came free without the help of its holder: seconds since the Unix epoch;
    /// `null` if that was never.
    last_recovery_time: Option<f64>,
    /// When the last round was: seconds since the Unix epoch; `null` if there was none.
    last_check_time: Option<f64>,
    /// On which host the daemon runs that acts; `null` if none does.
    acting_host: Option<String>,
    /// Whether that is this daemon.
    is_acting: bool,
}

/// Whether it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunState {
    /// One daemon acts, or is about to.
    Running,
    /// None does.
    Stopped,
}

/// What the monitor has done.
#[derive(Serialize, ToSchema)]
pub(crate) struct MonitorStatistics {
    /// Rounds.
    total_checks: u64,
    /// Leases that were held for longer than usual.
    warning_count: u64,
    /// Leases that reached the soft timeout.
    soft_timeout_count: u64,
    /// Leases that reached the hard timeout.
    hard_timeout_count: u64,
    /// GPUs that came free without the help of their holders.
    successful_recoveries: u64,
    /// GPUs that did not, and were given up.
    failed_recoveries: u64,
}

/// How the monitor is doing.
#[utoipa::path(get, path = "/api/v1/monitoring/monitor/status", tag = "monitor",
    responses((status = 200, description = "The same from every daemon, but for `is_acting`.", body = MonitorStatus)))]
pub(crate) async fn status(State(api): State<Api>) -> Json<MonitorStatus> {
    Json(status_of(&api))
}

/// How the monitor is doing.
pub(crate) fn status_of(api: &Api) -> MonitorStatus {
    let notes = api.monitor.notes();
    let is_disabled = !api.settings.current().gpu_lock_monitor.enabled;
    let by_configuration = is_disabled.then(|| "gpu_lock_monitor.enabled is false".to_owned());
    let stopped_because = by_configuration.or(notes.stopped);
    let is_acting = api.leadership.leads();
    MonitorStatus {
        status: if stopped_because.is_some() { RunState::Stopped } else { RunState::Running },
        stopped_because,
        healthy_checks: notes.checks.healthy,
        unhealthy_checks: notes.checks.unhealthy,
        last_error: notes.checks.last_error,
        last_recovery_time: notes.checks.last_recovery_time,
        last_check_time: notes.last_check,
        acting_host: notes.acting_host,
        is_acting,
    }
}

/// What the monitor has done in a pool.
pub(crate) fn statistics_of(api: &Api, picture: &Picture) -> MonitorStatistics {
    let checks = api.monitor.notes().checks;
    let counters = &picture.view.pool.ledger.counters;
    MonitorStatistics {
        total_checks: checks.healthy + checks.unhealthy,
        warning_count: counters.warnings,
        soft_timeout_count: counters.soft_timeouts,
        hard_timeout_count: counters.hard_timeouts,
        successful_recoveries: counters.recovered.total(),
        failed_recoveries: counters.not_recovered.total(),
    }
}

/// Whether the monitor makes its rounds.
#[derive(Serialize, ToSchema)]
pub(crate) struct MonitorHealth {
    /// Whether a round was made lately, or the monitor is stopped.
    healthy: bool,
    /// Whether it runs.
    status: RunState,
    /// How long ago the last round was, in seconds; `null` if there was none.
    last_check_seconds_ago: Option<f64>,
    /// What was wrong last; `null` if nothing ever was.
    last_error: Option<String>,
}

/// Whether the monitor makes its rounds.
#[utoipa::path(get, path = "/api/v1/monitoring/monitor/health", tag = "monitor",
    responses((status = 200, description = "The verdict.", body = MonitorHealth)))]
pub(crate) async fn health(State(api): State<Api>) -> Json<MonitorHealth> {
    let status = status_of(&api);
    let interval = api.settings.current().gpu_lock_monitor.monitor_interval;
    let ago = status.last_check_time.map(|then| (timestamp() - then).max(0.0));
    let longest = interval * 2 + Duration::from_secs(5);
    let is_fresh = ago.is_some_and(|ago| ago < longest.as_secs_f64());
    Json(MonitorHealth {
        healthy: is_fresh || status.status == RunState::Stopped,
        status: status.status,
        last_check_seconds_ago: ago,
        last_error: status.last_error,
    })
}

/// Why.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Because {
    /// For people, and for the audit log.
    #[schema(max_length = 1_000)]
    reason: Option<String>,
}

/// Let the monitor run again, on whichever daemon.
#[utoipa::path(post, path = "/api/v1/monitoring/monitor/start", tag = "monitor",
    request_body = Because,
    responses((status = 200, description = "It runs, unless the configuration forbids it.", body = MonitorStatus)))]
pub(crate) async fn start(
    State(api): State<Api>,
    caller: Caller,
    Json(because): Json<Because>,
) -> Result<Json<MonitorStatus>, Problem> {
    switch(&api, &caller, because, true).await
}

/// Stop the monitor on all daemons: no level acts, and no lease is seized. Leases still end at
/// their deadlines.
#[utoipa::path(post, path = "/api/v1/monitoring/monitor/stop", tag = "monitor",
    request_body = Because,
    responses((status = 200, description = "It is stopped.", body = MonitorStatus)))]
pub(crate) async fn stop(
    State(api): State<Api>,
    caller: Caller,
    Json(because): Json<Because>,
) -> Result<Json<MonitorStatus>, Problem> {
    switch(&api, &caller, because, false).await
}

async fn switch(
    api: &Api,
    caller: &Caller,
    because: Because,
    runs: bool,
) -> Result<Json<MonitorStatus>, Problem> {
    let why = because.reason.unwrap_or_default();
    let stopped = (!runs).then(|| format!("stopped by {}: {why}", caller.name));
    let switched = Notes::switch(api.leadership.client(), stopped.clone()).await;
    let what = if runs { "start the monitor" } else { "stop the monitor" };
    let outcome = if switched.is_ok() { "done" } else { "failed" };
    audit::record(caller, Deed { what, on: "monitor", why: &why, outcome });
    switched.map_err(failed)?;
    api.monitor.note_switch(stopped);
    Ok(Json(status_of(api)))
}

/// What is overdue.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimeoutStatus {
    /// Ages at which something is done.
    config: TimeoutConfig,
    /// Leases that have reached one, the longest held first.
    overdue: Vec<OverdueLease>,
    /// Leases that have ever reached the first.
    warning_count: u64,
    /// Leases that have ever reached the second.
    soft_timeout_count: u64,
    /// Leases that have ever reached the third.
    hard_timeout_count: u64,
}

/// A lease that is held for long.
#[derive(Serialize, ToSchema)]
pub(crate) struct OverdueLease {
    /// Which.
    #[schema(value_type = String)]
    lease_id: LeaseId,
    /// What the work is called.
    task: String,
    /// For how long it is held, in seconds.
    age_seconds: f64,
    /// `warning`, `soft` or `hard`.
    #[schema(value_type = String)]
    level: Level,
}

/// Ages of a lease at which something is done, and what; all in seconds.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimeoutConfig {
    /// It is reported.
    warning: f64,
    /// Its holder is asked to stop.
    soft_timeout: f64,
    /// It is taken back.
    hard_timeout: f64,
    /// Whether GPUs are taken back; if not, levels are only reported.
    auto_recovery: bool,
    /// Longest pause between two rounds of the monitor.
    monitor_interval: f64,
    /// How often it is looked again whether a GPU that was taken back is free.
    max_retry: u32,
    /// How far these looks are apart.
    retry_delay: f64,
}

/// What is overdue.
#[utoipa::path(get, path = "/api/v1/monitoring/timeout/status", tag = "monitor",
    responses((status = 200, description = "Levels, and leases that reached them.", body = TimeoutStatus)))]
pub(crate) async fn timeout_status(State(api): State<Api>) -> Result<Json<TimeoutStatus>, Problem> {
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    Ok(Json(timeouts_of(&api, &picture)))
}

/// What is overdue in a pool.
pub(crate) fn timeouts_of(api: &Api, picture: &Picture) -> TimeoutStatus {
    let config = &api.settings.current().gpu_lock_monitor;
    let (levels, view) = (levels(config), &picture.view);
    let held = view.pool.leases.iter().filter(|lease| !lease.is_over());
    let mut overdue: Vec<_> = held
        .filter_map(|lease| {
            let age = view.now.since(lease.acquired_at);
            Some(OverdueLease {
                lease_id: lease.lease_id,
                task: lease.task.to_string(),
                age_seconds: age.as_secs_f64(),
                level: levels.reached(age)?,
            })
        })
        .collect();
    overdue.sort_by(|one, other| other.age_seconds.total_cmp(&one.age_seconds));
    let counters = &view.pool.ledger.counters;
    TimeoutStatus {
        config: TimeoutConfig::new(config),
        overdue,
        warning_count: counters.warnings,
        soft_timeout_count: counters.soft_timeouts,
        hard_timeout_count: counters.hard_timeouts,
    }
}

/// The ages at which something is done.
#[utoipa::path(get, path = "/api/v1/monitoring/timeout/config", tag = "monitor",
    responses((status = 200, description = "As the configuration says.", body = TimeoutConfig)))]
pub(crate) async fn timeout_config(State(api): State<Api>) -> Json<TimeoutConfig> {
    Json(TimeoutConfig::new(&api.settings.current().gpu_lock_monitor))
}

impl TimeoutConfig {
    fn new(config: &MonitorConfig) -> Self {
        Self {
            warning: config.timeout_levels.warning.as_secs_f64(),
            soft_timeout: config.timeout_levels.soft_timeout.as_secs_f64(),
            hard_timeout: config.timeout_levels.hard_timeout.as_secs_f64(),
            auto_recovery: config.auto_recovery,
            monitor_interval: config.monitor_interval.as_secs_f64(),
            max_retry: config.cleanup.max_retry,
            retry_delay: config.cleanup.retry_delay.as_secs_f64(),
        }
    }
}

/// Make a round now in the pool of the configuration: what is due is done. It works on every
/// daemon, and also while the monitor is stopped.
#[utoipa::path(post, path = "/api/v1/monitoring/timeout/check", tag = "monitor",
    request_body = Because,
    responses((status = 200, description = "What is overdue after that.", body = TimeoutStatus)))]
pub(crate) async fn timeout_check(
    State(api): State<Api>,
    caller: Caller,
    Json(because): Json<Because>,
) -> Result<Json<TimeoutStatus>, Problem> {
    let why = because.reason.unwrap_or_default();
    let checked = api.patrol(&api.pool, &api.settings.current()).await;
    let outcome = if checked.is_ok() { "done" } else { "failed" };
    let deed = Deed { what: "check timeouts", on: &api.pool.to_string(), why: &why, outcome };
    audit::record(&caller, deed);
    checked.map_err(failed)?;
    let picture = api.pictures.of(&api.pool).await.map_err(failed)?;
    Ok(Json(timeouts_of(&api, &picture)))
}

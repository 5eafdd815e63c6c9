//! Leases for callers who do without the library: acquire, renew, release.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use gpulock::LeaseStatus;
use gpulock::core::{
    GpuRef, LeaseId, LeaseRef, Owner, PoolName, Priority, Progress, TaskName, Token,
};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::pools::OfPool;
use super::{Api, conflict, ending, failed, invalid, named_pool, percent, span, too_many};
use crate::daemon::audit::Caller;
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::picture::Picture;
use crate::daemon::problem::{Document, Kind, Problem};

/// Leases of a pool.
#[derive(Serialize, ToSchema)]
pub(crate) struct Leases {
    /// Which pool.
    #[schema(value_type = String)]
    pool: PoolName,
    /// The longest held first.
    #[serde(serialize_with = "leases_of")]
    #[schema(value_type = Vec<LeaseStatus>)]
    leases: Arc<Picture>,
}

/// Without a copy: there may be a thousand.
fn leases_of<S: Serializer>(picture: &Arc<Picture>, serializer: S) -> Result<S::Ok, S::Error> {
    picture.status.leases.serialize(serializer)
}

/// Who holds, the longest first.
#[utoipa::path(get, path = "/api/v1/leases", tag = "leases", params(OfPool),
    responses((status = 200, description = "The leases.", body = Leases)))]
pub(crate) async fn leases(
    State(api): State<Api>,
    Query(of): Query<OfPool>,
) -> Result<Json<Leases>, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let leases = api.pictures.of(&pool).await.map_err(failed)?;
    Ok(Json(Leases { pool, leases }))
}

/// One lease.
#[utoipa::path(get, path = "/api/v1/leases/{lease_id}", tag = "leases", params(OfPool,
    ("lease_id" = String, Path, description = "Its identity.", pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, description = "The lease.", body = LeaseStatus)))]
pub(crate) async fn lease(
    State(api): State<Api>,
    Path(lease_id): Path<String>,
    Query(of): Query<OfPool>,
) -> Result<Json<LeaseStatus>, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let lease_id = lease_id_of(&lease_id)?;
    present(&api, &pool, lease_id).await.map(Json)
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acquire {
    /// What the work is called: a label of 1 to 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    task: String,
    /// Certain GPUs by number or UUID, or how many of any; one of any where it is absent.
    gpus: Option<WishedGpus>,
    /// Who goes first.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(low|normal|high|urgent)$")]
    priority: Option<Priority>,
    /// Give up after so many seconds; 0 means not to wait. As the configuration says where it
    /// is absent.
    #[schema(minimum = 0)]
    max_wait_time: Option<f64>,
    /// The lease lives so many seconds after each heartbeat. Where it is absent, it lives for
    /// the `lock_timeout` of the configuration, whatever heartbeats come.
    #[schema(exclusive_minimum = 0)]
    heartbeat_timeout: Option<f64>,
    /// The id that the lease will have, 32 hexadecimal digits chosen at random by the caller:
    /// then asking again is safe.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    lease_id: Option<String>,
    /// In this pool; that of the configuration where it is absent.
    pool: Option<String>,
    /// Where the work runs, for people; the caller's address where it is absent.
    #[schema(max_length = 256)]
    host: Option<String>,
}

/// Certain GPUs, or how many of any.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum WishedGpus {
    /// Any so many.
    Any(u32),
    /// Exactly these, by number or UUID.
    #[schema(value_type = Vec<Object>)]
    These(Vec<GpuName>),
}

/// A GPU by number or UUID.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum GpuName {
    /// Its number.
    Number(u32),
    /// Its UUID.
    Uuid(String),
}

/// Ask for GPUs, and wait until they are there.
///
/// The answer comes when the GPUs are granted or the wait is over. A caller that hangs up has
/// left the queue.
#[utoipa::path(post, path = "/api/v1/leases", tag = "leases", request_body = Acquire,
    responses(
        (status = 201, description = "The lease is the caller's.", body = LeaseStatus),
        (status = 409, description = "The GPUs did not become free in time, or the id belongs to another lease.", body = Document, content_type = "application/problem+json")))]
pub(crate) async fn acquire(
    State(api): State<Api>,
    caller: Caller,
    Json(asked): Json<Acquire>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<LeaseStatus>), Problem> {
    let pool = named_pool(&api, asked.pool.as_deref())?;
    let config = api.settings.current();
    if config.compat.legacy_keys {
        return Err(conflict("leases are not lent over HTTP while `compat.legacy_keys` is on, because older workers would not see them")
            .hint("use the library or `gpulock run`"));
    }
    refuse_unknown_pool(&api, &pool).await?;
    let task: TaskName = asked.task.parse().map_err(unprocessable)?;
    let client = api.client(&pool).map_err(failed)?;
    let mut request = client.request(task.clone());
    request = match asked.gpus {
        None => request.any(1),
        Some(WishedGpus::Any(count)) => request.any(count),
        Some(WishedGpus::These(names)) => request.named(gpus_of(names)?),
    };
    request = request.priority(asked.priority.unwrap_or_default());
    if let Some(seconds) = asked.max_wait_time {
        let wait = span("max_wait_time", seconds)?;
        request = if wait.is_zero() { request.no_wait() } else { request.max_wait(wait) };
    }
    request = match asked.heartbeat_timeout {
        None => request.fixed_term(config.gpu_lock.lock_timeout),
        Some(seconds) => {
            let timeout = span("heartbeat_timeout", seconds)?;
            if timeout < Duration::from_millis(100) {
                return Err(invalid("`heartbeat_timeout` is shorter than 0.1 s"));
            }
            request.heartbeats(timeout / 3, timeout)
        }
    };
    let owner = owner(&caller, asked.host)?;
    let alone = match asked.lease_id.as_deref().map(lease_id_of).transpose()? {
        None => None,
        Some(lease_id) => {
            let alone = api
                .waits
                .begin(lease_id)
                .ok_or_else(|| conflict(format!("lease {lease_id} is being waited for already")))?;
            refuse_foreign(&api, &pool, lease_id, &task).await?;
            request = request.own_id(lease_id);
            Some(alone)
        }
    };
    let place = api.waits.enter().ok_or_else(too_many)?;
    // Who asks again after hanging up must not meet what is still being taken back.
    let granting = request.grant_to(owner, (alone, place)).map_err(failed)?;
    let granted = tokio::select! {
        granted = granting => granted.map_err(failed)?,
        () = api.shutdown.cancelled() => return Err(ending()),
    };
    api.pictures.forget(&pool);
    // It may be over already; the caller is told what it was granted all the same.
    let lease = LeaseStatus::new(&granted, granted.renewed_at());
    let place = format!("/api/v1/leases/{}?pool={pool}", granted.lease_id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(lease)))
}

/// A heartbeat.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renew {
    /// The lease's token.
    token: u64,
    /// How far the work is, in percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: Option<f64>,
    /// What the work is doing.
    #[schema(max_length = 1_000)]
    message: Option<String>,
}

/// The answer to a heartbeat.
#[derive(Serialize, ToSchema)]
pub(crate) struct RenewedLease {
    /// Which lease.
    #[schema(value_type = String)]
    lease_id: LeaseId,
    /// Its token.
    token: u64,
    /// How long it lives without another heartbeat, in seconds.
    deadline_in_seconds: f64,
    /// Whether its holder shall stop.
    stop_requested: bool,
    /// Why, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<String>,
}

/// A heartbeat of a lease.
#[utoipa::path(post, path = "/api/v1/leases/{lease_id}/renew", tag = "leases", request_body = Renew,
    params(OfPool, ("lease_id" = String, Path, description = "Its identity.", pattern = "^[0-9a-f]{32}$")),
    responses(
        (status = 200, description = "It lives on.", body = RenewedLease),
        (status = 409, description = "It is lost.", body = Document, content_type = "application/problem+json")))]
pub(crate) async fn renew(
    State(api): State<Api>,
    Path(lease_id): Path<String>,
    Query(of): Query<OfPool>,
    Json(renewal): Json<Renew>,
) -> Result<Json<RenewedLease>, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let (lease_id, token) = (lease_id_of(&lease_id)?, renewal.token);
    let lease = LeaseRef { lease_id, token: Token::from_value(token) };
    let progress = match (renewal.progress, renewal.message) {
        (None, None) => None,
        (percentage, message) => Some(Progress {
            basis_points: percent(percentage.unwrap_or(0.0))?,
            message: message.unwrap_or_default(),
        }),
    };
    let client = api.client(&pool).map_err(failed)?;
    let held = client.renew_for(lease, progress).await.map_err(failed)?;
    api.pictures.forget(&pool);
    let (left, stop) = held.ok_or_else(|| lost(lease_id))?;
    Ok(Json(RenewedLease {
        lease_id,
        token,
        deadline_in_seconds: left.as_secs_f64(),
        stop_requested: stop.is_some(),
        stop_reason: stop.map(|stop| stop.reason),
    }))
}

/// Which lease is given back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// The lease's token. Without one, only a request that still waits is called off.
    token: Option<u64>,
}

/// Give a lease back, or call a request off that still waits.
#[utoipa::path(delete, path = "/api/v1/leases/{lease_id}", tag = "leases", request_body = Release,
    params(OfPool, ("lease_id" = String, Path, description = "Its identity.", pattern = "^[0-9a-f]{32}$")),
    responses(
        (status = 204, description = "It is given back."),
        (status = 409, description = "It is lost, or its token is missing.", body = Document, content_type = "application/problem+json")))]
pub(crate) async fn release(
    State(api): State<Api>,
    Path(lease_id): Path<String>,
    Query(of): Query<OfPool>,
    Json(release): Json<Release>,
) -> Result<StatusCode, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let lease_id = lease_id_of(&lease_id)?;
    let client = api.client(&pool).map_err(failed)?;
    let is_done = match release.token {
        Some(token) => {
            let lease = LeaseRef { lease_id, token: Token::from_value(token) };
            client.release_for(lease).await.map_err(failed)?
        }
        None => {
            client.cancel(lease_id).await.map_err(failed)?;
            let view = api.store.read(&pool, None).await.map_err(failed)?;
            view.pool.lease(lease_id).is_none()
        }
    };
    api.pictures.forget(&pool);
    if is_done { Ok(StatusCode::NO_CONTENT) } else { Err(lost(lease_id)) }
}

async fn present(api: &Api, pool: &PoolName, lease_id: LeaseId) -> Result<LeaseStatus, Problem> {
    let picture = api.pictures.of(pool).await.map_err(failed)?;
    let found = picture.status.leases.iter().find(|lease| lease.lease_id == lease_id);
    found.cloned().ok_or_else(|| {
        Problem::new(Kind::NotFound, format!("there is no lease {lease_id} in pool {pool}"))
            .hint("GET /api/v1/leases lists them")
    })
}

/// The GPUs of another host are not known here.
async fn refuse_unknown_pool(api: &Api, pool: &PoolName) -> Result<(), Problem> {
    let is_known = *pool == api.pool
        || api.pictures.of(pool).await.map_err(failed)?.view.pool.ledger.inventory.is_some();
    match is_known {
        true => Ok(()),
        false => Err(invalid(format!("the GPUs of pool {pool} are not known yet"))
            .hint("GET /api/v1/pools lists those that are; `gpulock doctor` on its host tells the store its GPUs")),
    }
}

/// A lease id says who asks; a different task under the same one is a mistake.
async fn refuse_foreign(
    api: &Api,
    pool: &PoolName,
    lease_id: LeaseId,
    task: &TaskName,
) -> Result<(), Problem> {
    let view = api.store.read(pool, Some(lease_id)).await.map_err(failed)?;
    let other = view.pool.lease(lease_id).filter(|lease| lease.task != *task);
    match other {
        None => Ok(()),
        Some(lease) => {
            Err(conflict(format!("lease {lease_id} belongs to the task {}", lease.task))
                .hint("choose another id at random"))
        }
    }
}

fn owner(caller: &Caller, host: Option<String>) -> Result<Owner, Problem> {
    let host = host.unwrap_or_else(|| caller.peer.ip().to_string());
    // The same characters as in a task: it is shown at the same places.
    let host = host
        .parse::<TaskName>()
        .map_err(|_| invalid("`host` is not 1 to 256 bytes of printable text"))?;
    let (client, user) = ("http".to_owned(), caller.name.to_string());
    Ok(Owner { host: host.to_string(), client, user, process: None, run: None, is_remote: true })
}

fn gpus_of(names: Vec<GpuName>) -> Result<Vec<GpuRef>, Problem> {
    let gpu = |name| match name {
        GpuName::Number(number) => number.to_string().parse(),
        GpuName::Uuid(uuid) => uuid.parse::<GpuRef>(),
    };
    names.into_iter().map(gpu).collect::<Result<_, _>>().map_err(unprocessable)
}

fn lease_id_of(text: &str) -> Result<LeaseId, Problem> {
    text.parse().map_err(|_| {
        invalid("a lease id has 32 hexadecimal digits")
            .hint("GET /api/v1/leases lists the leases with their ids")
    })
}

fn lost(lease_id: LeaseId) -> Problem {
    conflict(format!("lease {lease_id} with this token is not, or no longer, the current one"))
        .hint("stop using its GPUs; GET /api/v1/history tells how it ended")
}

fn unprocessable(error: impl std::fmt::Display) -> Problem {
    invalid(error.to_string())
}

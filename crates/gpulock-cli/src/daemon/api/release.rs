//! Taking a lease away by the name of its GPU, as the older system's operators do.

use axum::extract::State;
use gpulock::core::{GpuRef, LockKey, SeizeMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, failed, invalid};
use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::Json;
use crate::daemon::picture::Picture;
use crate::daemon::problem::Problem;

/// Which GPU is to be released, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForcedRelease {
    /// `gpu_lock:0`, or `gpu_lock:POOL/0` in another pool than the default one.
    lock_key: String,
    /// Why; holder, history and audit log are told.
    #[serde(default)]
    #[schema(max_length = 1_000)]
    reason: Option<String>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Released {
    /// Whether a lease was taken away.
    success: bool,
    /// The same, for people.
    message: String,
    /// Which GPU.
    lock_key: String,
    /// The lease that was found; `null` if there was none.
    lease_id: Option<String>,
    /// Its token.
    token: Option<u64>,
    /// What its work is called.
    task: Option<String>,
    /// Whether its processes are not known to be gone, so that the GPU is not free yet.
    draining: bool,
}

/// Take the lease away that keeps a GPU.
///
/// Exactly the lease that is found is taken away: if it ends at the same moment, its successor
/// is left alone.
#[utoipa::path(post, path = "/api/v1/monitoring/release-lock", tag = "monitoring",
    request_body = ForcedRelease,
    responses((status = 200, description = "What came of it.", body = Released)))]
pub(crate) async fn release_lock(
    State(api): State<Api>,
    caller: Caller,
    Json(asked): Json<ForcedRelease>,
) -> Result<Json<Released>, Problem> {
    let reason = asked.reason.unwrap_or_else(|| "manual release".to_owned());
    let released = seize(&api, &caller, &asked.lock_key, &reason).await;
    let outcome = match &released {
        Ok(released) => released.message.clone(),
        Err(problem) => format!("refused: {:?}", problem.kind()),
    };
    let deed = Deed { what: "release", on: &asked.lock_key, why: &reason, outcome: &outcome };
    audit::record(&caller, deed);
    released.map(Json)
}

/// The same, under its other older name.
#[utoipa::path(post, path = "/api/v1/monitoring/lock/release", tag = "monitoring",
    request_body = ForcedRelease,
    responses((status = 200, description = "What came of it.", body = Released)))]
pub(crate) async fn lock_release(
    api: State<Api>,
    caller: Caller,
    asked: Json<ForcedRelease>,
) -> Result<Json<Released>, Problem> {
    release_lock(api, caller, asked).await
}

async fn seize(
    api: &Api,
    caller: &Caller,
    lock_key: &str,
    reason: &str,
) -> Result<Released, Problem> {
    if reason.chars().count() > 1_000 {
        return Err(invalid("`reason` has more than 1000 characters"));
    }
    let key = lock_key_of(lock_key)?;
    // A picture may be a moment old; what is found must be what there is.
    api.pictures.forget(&key.pool);
    let picture = api.pictures.of(&key.pool).await.map_err(failed)?;
    let Some(lease) = keeper(&picture, &key) else {
        return Ok(Released {
            success: false,
            message: format!("nobody holds {key}"),
            lock_key: key.to_string(),
            lease_id: None,
            token: None,
            task: None,
            draining: false,
        });
    };
    let by = format!("{} from {}", caller.name, caller.peer.ip());
    let client = api.client(&key.pool).map_err(failed)?;
    let seizure = client.seize_for(&by, lease.reference(), reason, SeizeMode::Drain).await;
    let success = seizure.map_err(failed)?;
    api.pictures.forget(&key.pool);
    let after = api.pictures.of(&key.pool).await.map_err(failed)?;
    let left = after.view.pool.lease(lease.lease_id);
    let draining = success && left.is_some_and(gpulock::core::Lease::is_over);
    let message = match (success, draining) {
        (true, false) => format!("took lease {} away from {}", lease.lease_id, lease.task),
        (true, true) => format!(
            "took lease {} away from {}; the GPU goes on when its processes are gone",
            lease.lease_id, lease.task
        ),
        (false, _) => format!(
            "lease {} of {} had already ended; nothing was changed",
            lease.lease_id, lease.task
        ),
    };
    Ok(Released {
        success,
        message,
        lock_key: key.to_string(),
        lease_id: Some(lease.lease_id.to_string()),
        token: Some(lease.token.value()),
        task: Some(lease.task.to_string()),
        draining,
    })
}

/// A lock key that a caller gives.
pub(crate) fn lock_key_of(text: &str) -> Result<LockKey, Problem> {
    text.parse().map_err(|error| {
        invalid(format!("{error}")).hint("GET /api/v1/pools lists the GPUs with their lock keys")
    })
}

/// The lease that keeps a GPU.
pub(crate) fn keeper<'a>(picture: &'a Picture, key: &LockKey) -> Option<&'a gpulock::core::Lease> {
    let gpu = picture.status.gpus.iter().find(|gpu| match &key.gpu {
        GpuRef::Index(index) => gpu.id == *index,
        GpuRef::Uuid(uuid) => gpu.uuid.as_ref() == Some(uuid),
    })?;
    picture.view.pool.lease(gpu.lease_id?)
}

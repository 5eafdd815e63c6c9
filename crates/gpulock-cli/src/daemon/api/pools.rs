//! Pools, queues and what happened.

use std::sync::Arc;

use axum::extract::State;
use gpulock::core::{Event, PoolName, TaskName};
use gpulock::store::Wanted;
use gpulock::{PoolStatus, WaiterStatus};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::{Api, failed, invalid, named_pool};
use crate::daemon::input::{Json, Query};
use crate::daemon::picture::Picture;
use crate::daemon::problem::Problem;

/// Which pool.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfPool {
    /// The pool; that of the configuration where it is absent.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub(crate) pool: Option<String>,
}

/// All pools.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pools {
    /// In the order of their names.
    #[serde(serialize_with = "statuses_of")]
    #[schema(value_type = Vec<PoolStatus>)]
    pools: Vec<Arc<Picture>>,
}

/// Without a copy: a pool may have a thousand leases.
fn statuses_of<S: Serializer>(pictures: &[Arc<Picture>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pictures.iter().map(|picture| &picture.status))
}

/// Who holds and who waits, in every pool of the store.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools",
    responses((status = 200, description = "As `gpulock status --json` prints it.", body = Pools)))]
pub(crate) async fn pools(State(api): State<Api>) -> Result<Json<Pools>, Problem> {
    let mut names = api.pools().await.map_err(failed)?;
    if !names.contains(&api.pool) {
        names.push(api.pool.clone());
        names.sort();
    }
    let mut pools = Vec::new();
    for name in &names {
        pools.push(api.pictures.of(name).await.map_err(failed)?);
    }
    Ok(Json(Pools { pools }))
}

/// Who waits in a pool.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queue {
    /// Which pool.
    #[schema(value_type = String)]
    pool: PoolName,
    /// The next first.
    #[serde(serialize_with = "queue_of")]
    #[schema(value_type = Vec<WaiterStatus>)]
    queue: Arc<Picture>,
}

fn queue_of<S: Serializer>(picture: &Arc<Picture>, serializer: S) -> Result<S::Ok, S::Error> {
    picture.status.queue.serialize(serializer)
}

/// Who waits, the next first.
#[utoipa::path(get, path = "/api/v1/queue", tag = "pools", params(OfPool),
    responses((status = 200, description = "The queue.", body = Queue)))]
pub(crate) async fn queue(
    State(api): State<Api>,
    Query(of): Query<OfPool>,
) -> Result<Json<Queue>, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let queue = api.pictures.of(&pool).await.map_err(failed)?;
    Ok(Json(Queue { pool, queue }))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfHistory {
    /// The pool; that of the configuration where it is absent.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pool: Option<String>,
    /// At most so many, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
    /// Of tasks of this name only.
    task: Option<String>,
}

/// What happened in a pool.
#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    /// Which pool.
    #[schema(value_type = String)]
    pool: PoolName,
    /// The latest first, each as `gpulock history --json` prints it.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
}

/// What happened, the latest first.
#[utoipa::path(get, path = "/api/v1/history", tag = "pools", params(OfHistory),
    responses((status = 200, description = "The events.", body = History)))]
pub(crate) async fn history(
    State(api): State<Api>,
    Query(of): Query<OfHistory>,
) -> Result<Json<History>, Problem> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let limit = of.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(invalid("`limit` is not a number from 1 to 1000")
            .hint("`task` narrows the events down"));
    }
    let task = of.task.map(|name| name.parse::<TaskName>());
    let task = task.transpose().map_err(|error| invalid(error.to_string()))?;
    let wanted = Wanted { limit: limit as usize, task };
    let entries = api.store.history(&pool, &wanted).await.map_err(failed)?;
    let events = entries.into_iter().map(|entry| entry.event).collect();
    Ok(Json(History { pool, events }))
}

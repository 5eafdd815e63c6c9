//! The daemon's store for clients that name it as theirs (`http://…` as a store URL): reads and
//! writes are handed on as they are. The rules run in the client; what it may break is what
//! every client of the store may break.

mod documents;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use gpulock::core::{PoolName, TaskBeat, TaskName, TaskRecord};
use gpulock::store::http::wire::{
    Asking, FAULT_MEMBER, FORMAT, FORMAT_HEADER, Fault, Forgetting, Forgotten, List, Listening,
    OwnedWrite, WireEntries, WireFollowed, WirePools, WireRemarks, WireSwapped, WireTasks,
    WireView, WireWaiters, WireWrite,
};
use gpulock::store::{Cursor, Store, StoreError, Swapped, Wanted};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Api, ending, failed, invalid, too_many};
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::mailboxes::{Mailboxes, NotOpen};
use crate::daemon::picture::Pictures;
use crate::daemon::problem::{Kind, Problem};

/// A step of a pool with 1,000 GPUs fits well into this, in bytes.
const LARGEST_WRITE: usize = 4 << 20;

/// For the store to answer. Clients wait a little longer, so that they hear of it.
const PATIENCE: Duration = Duration::from_secs(4);

/// What these routes work with.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    store: Arc<dyn Store>,
    pictures: Arc<Pictures>,
    mailboxes: Mailboxes,
}

impl FromRef<Api> for Lent {
    fn from_ref(api: &Api) -> Self {
        Self {
            store: Arc::clone(&api.store),
            pictures: Arc::clone(&api.pictures),
            mailboxes: api.mailboxes.clone(),
        }
    }
}

/// What the HTTP store of the library asks.
pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Lent: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(pools))
        .routes(routes!(picture, picture_for))
        .routes(routes!(swap))
        .routes(routes!(waiters))
        .routes(routes!(history))
        .routes(routes!(journal))
        .routes(routes!(tasks, put_task))
        .routes(routes!(forget_task))
        .routes(routes!(examination))
        .routes(routes!(mailbox))
        .layer(DefaultBodyLimit::max(LARGEST_WRITE))
        .merge(documents::routes())
        .layer(from_fn(in_one_format))
}

/// Client and daemon must mean the same.
async fn in_one_format(request: Request, next: Next) -> Result<Response, Problem> {
    let said = request.headers().get(FORMAT_HEADER).cloned();
    let ours = HeaderValue::from(FORMAT);
    if said.as_ref().is_some_and(|said| *said != ours) {
        return Err(Problem::new(
            Kind::BadRequest,
            format!("this daemon speaks format {FORMAT} of its store, the client another one"),
        )
        .hint("use one version of gpulock on both sides"));
    }
    let mut answer = next.run(request).await;
    answer.headers_mut().insert(FORMAT_HEADER, ours);
    Ok(answer)
}

/// The pools of the store.
#[utoipa::path(get, path = "/api/v1/store/pools", tag = "store",
    responses((status = 200, description = "Their names.", body = Object)))]
async fn pools(State(lent): State<Lent>) -> Result<Json<WirePools>, Problem> {
    Ok(Json(List { items: in_time(lent.store.pools()).await? }))
}

/// The present picture of a pool.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/picture", tag = "store",
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The picture.", body = Object)))]
async fn picture(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
) -> Result<Json<WireView>, Problem> {
    let view = in_time(lent.store.read(&pool_of(&pool)?, None)).await?;
    Ok(Json(view.into()))
}

/// The same on behalf of a request, which is stamped as seen.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/picture", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The picture.", body = Object)))]
async fn picture_for(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Json(asking): Json<Asking>,
) -> Result<Json<WireView>, Problem> {
    let view = in_time(lent.store.read(&pool_of(&pool)?, Some(asking.lease_id))).await?;
    Ok(Json(view.into()))
}

/// Write what a step changed, if what it was based on still holds.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/swap", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "What became of it.", body = Object)))]
async fn swap(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Json(write): Json<WireWrite>,
) -> Result<Json<WireSwapped>, Problem> {
    let pool = pool_of(&pool)?;
    let write = OwnedWrite::try_from(write);
    let mut write = write.map_err(|_| invalid("a version is not a number"))?;
    // Who listens here is told here, at once.
    let own = lent.mailboxes.take_own(&mut write.step.wake);
    let swapped = in_time(lent.store.swap(write.to_pool(&pool))).await;
    match &swapped {
        Ok(Swapped::Written { versions, .. }) => {
            lent.mailboxes.deliver(own, Some((&write.step.changes, *versions)));
        }
        Ok(Swapped::Conflict(_)) => {}
        Err(_) => lent.mailboxes.deliver(own, None),
    }
    lent.pictures.forget(&pool);
    Ok(Json(swapped?.into()))
}

/// How much is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Reach {
    /// At most so many; as many as there are where it is absent.
    limit: Option<usize>,
    /// Of tasks of this name only.
    task: Option<String>,
    /// After this place in the journal.
    after: Option<String>,
}

impl Reach {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX).min(usize::MAX >> 1)
    }
}

/// The first waiters of a pool, in order.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/waiters", tag = "store",
    params(Reach, ("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The waiters.", body = Object)))]
async fn waiters(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireWaiters>, Problem> {
    let waiters = in_time(lent.store.waiters(&pool_of(&pool)?, reach.limit())).await?;
    Ok(Json(List::of(waiters)))
}

/// What happened in a pool, the latest first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/history", tag = "store",
    params(Reach, ("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The entries of the journal.", body = Object)))]
async fn history(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireEntries>, Problem> {
    let task = reach.task.as_deref().map(str::parse::<TaskName>).transpose();
    let task = task.map_err(|error| invalid(error.to_string()))?;
    let wanted = Wanted { limit: reach.limit(), task };
    let entries = in_time(lent.store.history(&pool_of(&pool)?, &wanted)).await?;
    Ok(Json(List::of(entries)))
}

/// What happened in a pool after a place in its journal, the oldest first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/journal", tag = "store",
    params(Reach, ("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The entries, and whether something is missing.", body = Object)))]
async fn journal(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireFollowed>, Problem> {
    let after = reach.after.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| invalid("`after` is not a place in the journal"))?;
    let after = after.unwrap_or(Cursor::START);
    let followed = in_time(lent.store.follow(&pool_of(&pool)?, after, reach.limit())).await?;
    Ok(Json(followed.into()))
}

/// What is remembered of the tasks of a pool, the latest sign of life first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/tasks", tag = "store",
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The records.", body = Object)))]
async fn tasks(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
) -> Result<Json<WireTasks>, Problem> {
    Ok(Json(List { items: in_time(lent.store.tasks(&pool_of(&pool)?)).await? }))
}

/// Write a sign of life of a task.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/tasks", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "What is remembered from now on.", body = Object)))]
async fn put_task(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Json(beat): Json<TaskBeat>,
) -> Result<Json<TaskRecord>, Problem> {
    in_time(lent.store.put_task(&pool_of(&pool)?, &beat)).await.map(Json)
}

/// Forget a task.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/tasks/forget", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "Whether there was something to forget.", body = Object)))]
async fn forget_task(
    State(lent): State<Lent>,
    Path(pool): Path<String>,
    Json(forgetting): Json<Forgetting>,
) -> Result<Json<Forgotten>, Problem> {
    let pool = pool_of(&pool)?;
    let was_there = in_time(lent.store.remove_task(&pool, &forgetting.task_id)).await?;
    Ok(Json(Forgotten { was_there }))
}

/// What about the store as it is set up could cost a lease.
#[utoipa::path(get, path = "/api/v1/store/examination", tag = "store",
    responses((status = 200, description = "What was looked at, and what was found.", body = Object)))]
async fn examination(State(lent): State<Lent>) -> Result<Json<WireRemarks>, Problem> {
    let remarks = in_time(async { Ok(lent.store.examine().await) }).await?;
    Ok(Json(List::of(remarks)))
}

/// Open a mailbox: the wake-ups of one client, as they come, a line of JSON each.
#[utoipa::path(post, path = "/api/v1/store/mailbox", tag = "store", request_body = Object,
    responses((status = 200, description = "A stream that does not end.", body = String, content_type = "application/x-ndjson")))]
async fn mailbox(
    State(lent): State<Lent>,
    Json(listening): Json<Listening>,
) -> Result<Response, Problem> {
    let opening = lent.mailboxes.open(listening.channel);
    let opened = tokio::time::timeout(PATIENCE, opening).await.map_err(|_| late())?;
    let lines = opened.map_err(|reason| match reason {
        NotOpen::Stopping => ending(),
        NotOpen::AllTaken => too_many(),
        NotOpen::Store(error) => refused(error),
    })?;
    let mut answer = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    answer.headers_mut().insert("content-type", kind);
    Ok(answer)
}

/// What the store answers, unless it takes too long.
async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())?.map_err(refused)
}

fn late() -> Problem {
    Problem::new(Kind::Unavailable, "its own store did not answer in time")
        .hint("`gpulock doctor` on its host looks at that store")
        .retry_after(1)
}

fn pool_of(name: &str) -> Result<PoolName, Problem> {
    name.parse().map_err(|error| invalid(format!("{error}")))
}

/// The client is told exactly what the store said.
fn refused(error: StoreError) -> Problem {
    let fault = serde_json::to_value(Fault::from(&error))
        .unwrap_or_else(|error| unreachable!("faults are plain data: {error}"));
    let problem = match &error {
        StoreError::TooLarge { .. } => {
            let problem = Problem::new(Kind::TooLarge, error.to_string());
            error.hint().into_iter().fold(problem, Problem::hint)
        }
        _ => failed(error),
    };
    problem.with(FAULT_MEMBER, fault)
}

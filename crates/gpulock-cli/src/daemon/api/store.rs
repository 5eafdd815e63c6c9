//! The daemon's store for clients that name it as theirs (`http://…` as a store URL): reads and
//! writes are handed on as they are. The rules run in the client; what it may break is what
//! every client of the store may break.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use futures_util::stream;
use gpulock::core::{PoolName, TaskBeat, TaskName, TaskRecord};
use gpulock::store::http::wire::{
    Asking, FORMAT, FORMAT_HEADER, Forgetting, Forgotten, Line, List, OwnedWrite, WireEntries,
    WireFollowed, WirePools, WireSwapped, WireTasks, WireView, WireWaiters, WireWrite,
};
use gpulock::store::{Cursor, StoreError, Wanted};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Api, ending, failed, invalid, too_many};
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::mailboxes::Reading;
use crate::daemon::problem::{Kind, Problem};

/// A step of a pool with 1,000 GPUs fits well into this, in bytes.
const LARGEST_WRITE: usize = 4 << 20;

/// Between two signs of life in a mailbox without letters.
const ALIVE: Duration = Duration::from_secs(5);

/// What the HTTP store of the library asks.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(pools))
        .routes(routes!(picture, picture_for))
        .routes(routes!(swap))
        .routes(routes!(waiters))
        .routes(routes!(history))
        .routes(routes!(journal))
        .routes(routes!(tasks, put_task))
        .routes(routes!(forget_task))
        .routes(routes!(mailbox))
        .layer(DefaultBodyLimit::max(LARGEST_WRITE))
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
async fn pools(State(api): State<Api>) -> Result<Json<WirePools>, Problem> {
    Ok(Json(List { items: api.store.pools().await.map_err(refused)? }))
}

/// The present picture of a pool.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/picture", tag = "store",
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The picture.", body = Object)))]
async fn picture(
    State(api): State<Api>,
    Path(pool): Path<String>,
) -> Result<Json<WireView>, Problem> {
    let view = api.store.read(&pool_of(&pool)?, None).await.map_err(refused)?;
    Ok(Json(view.into()))
}

/// The same on behalf of a request, which is stamped as seen.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/picture", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The picture.", body = Object)))]
async fn picture_for(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Json(asking): Json<Asking>,
) -> Result<Json<WireView>, Problem> {
    let view = api.store.read(&pool_of(&pool)?, Some(asking.lease_id)).await.map_err(refused)?;
    Ok(Json(view.into()))
}

/// Write what a step changed, if what it was based on still holds.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/swap", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "What became of it.", body = Object)))]
async fn swap(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Json(write): Json<WireWrite>,
) -> Result<Json<WireSwapped>, Problem> {
    let pool = pool_of(&pool)?;
    let write = OwnedWrite::try_from(write);
    let write = write.map_err(|_| invalid("a version is not a number"))?;
    let swapped = api.store.swap(write.to_pool(&pool)).await.map_err(refused)?;
    api.pictures.forget(&pool).await;
    Ok(Json(swapped.into()))
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
    State(api): State<Api>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireWaiters>, Problem> {
    let waiters = api.store.waiters(&pool_of(&pool)?, reach.limit()).await.map_err(refused)?;
    Ok(Json(List::of(waiters)))
}

/// What happened in a pool, the latest first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/history", tag = "store",
    params(Reach, ("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The entries of the journal.", body = Object)))]
async fn history(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireEntries>, Problem> {
    let task = reach.task.as_deref().map(str::parse::<TaskName>).transpose();
    let task = task.map_err(|error| invalid(error.to_string()))?;
    let wanted = Wanted { limit: reach.limit(), task };
    let entries = api.store.history(&pool_of(&pool)?, &wanted).await.map_err(refused)?;
    Ok(Json(List::of(entries)))
}

/// What happened in a pool after a place in its journal, the oldest first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/journal", tag = "store",
    params(Reach, ("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The entries, and whether something is missing.", body = Object)))]
async fn journal(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Query(reach): Query<Reach>,
) -> Result<Json<WireFollowed>, Problem> {
    let after = reach.after.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| invalid("`after` is not a place in the journal"))?;
    let after = after.unwrap_or(Cursor::START);
    let followed = api.store.follow(&pool_of(&pool)?, after, reach.limit()).await;
    Ok(Json(followed.map_err(refused)?.into()))
}

/// What is remembered of the tasks of a pool, the latest sign of life first.
#[utoipa::path(get, path = "/api/v1/store/pools/{pool}/tasks", tag = "store",
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "The records.", body = Object)))]
async fn tasks(
    State(api): State<Api>,
    Path(pool): Path<String>,
) -> Result<Json<WireTasks>, Problem> {
    Ok(Json(List { items: api.store.tasks(&pool_of(&pool)?).await.map_err(refused)? }))
}

/// Write a sign of life of a task.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/tasks", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "What is remembered from now on.", body = Object)))]
async fn put_task(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Json(beat): Json<TaskBeat>,
) -> Result<Json<TaskRecord>, Problem> {
    api.store.put_task(&pool_of(&pool)?, &beat).await.map_err(refused).map(Json)
}

/// Forget a task.
#[utoipa::path(post, path = "/api/v1/store/pools/{pool}/tasks/forget", tag = "store",
    request_body = Object,
    params(("pool" = String, Path, description = "Which pool.", pattern = "^[A-Za-z0-9._-]{1,64}$")),
    responses((status = 200, description = "Whether there was something to forget.", body = Object)))]
async fn forget_task(
    State(api): State<Api>,
    Path(pool): Path<String>,
    Json(forgetting): Json<Forgetting>,
) -> Result<Json<Forgotten>, Problem> {
    let forgotten = api.store.remove_task(&pool_of(&pool)?, &forgetting.task_id).await;
    Ok(Json(Forgotten { was_there: forgotten.map_err(refused)? }))
}

/// Whose mailbox.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhoseMailbox {
    /// The name of a mailbox that is to be read on; a new one is opened where it is absent or
    /// unknown.
    mailbox: Option<String>,
}

/// The wake-ups of one client, as they come: a line of JSON each.
#[utoipa::path(get, path = "/api/v1/store/mailbox", tag = "store", params(WhoseMailbox),
    responses((status = 200, description = "A stream that does not end.", body = String, content_type = "application/x-ndjson")))]
async fn mailbox(
    State(api): State<Api>,
    Query(whose): Query<WhoseMailbox>,
) -> Result<Response, Problem> {
    let reading = api.mailboxes.read(&api.store, whose.mailbox.as_deref()).await;
    let reading = reading.map_err(refused)?.ok_or_else(too_many)?;
    if api.shutdown.is_cancelled() {
        return Err(ending());
    }
    let open = Line::Open { channel: reading.channel.clone(), mailbox: reading.name.clone() };
    let lines = stream::unfold((Some(open), reading, api), |(first, mut reading, api)| async {
        let line = match first {
            Some(first) => first,
            None => next_line(&mut reading, &api).await?,
        };
        Some((Ok::<_, Infallible>(written(&line)), (None, reading, api)))
    });
    let mut answer = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    answer.headers_mut().insert("content-type", kind);
    Ok(answer)
}

/// `None` ends the stream.
async fn next_line(reading: &mut Reading, api: &Api) -> Option<Line> {
    tokio::select! {
        letter = reading.next() => letter.ok().map(Line::from),
        () = tokio::time::sleep(ALIVE) => Some(Line::Alive),
        () = api.shutdown.cancelled() => None,
    }
}

fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn pool_of(name: &str) -> Result<PoolName, Problem> {
    name.parse().map_err(|error| invalid(format!("{error}")))
}

/// The client is told whether it is worth trying again.
fn refused(error: StoreError) -> Problem {
    let lasts = !error.is_transient();
    failed(error).with("lasts", lasts)
}

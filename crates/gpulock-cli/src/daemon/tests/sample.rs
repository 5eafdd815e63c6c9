//! Routes of every kind, with a state that shows what has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::problem::Problem;

/// What the routes change, and what they wait for.
#[derive(Clone, Default)]
pub(super) struct Sample {
    pub(super) changes: Arc<AtomicUsize>,
    /// Requests that were begun and have not ended.
    pub(super) running: Arc<AtomicUsize>,
    pub(super) go_on: Arc<Notify>,
    pub(super) shutdown: CancellationToken,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    text: String,
}

#[derive(Deserialize)]
pub(super) struct Count {
    limit: Option<u32>,
}

pub(super) fn routes() -> OpenApiRouter<Sample> {
    OpenApiRouter::default()
        .routes(routes!(number, remove, replace))
        .routes(routes!(list, add))
        .routes(routes!(begin))
        .routes(routes!(held))
        .routes(routes!(endless))
        .routes(routes!(patient))
        .routes(routes!(fault))
}

#[utoipa::path(get, path = "/sample/{number}", params(("number" = u32, Path)),
    responses((status = 200, body = u32, content_type = "application/json")))]
async fn number(Path(number): Path<u32>) -> Json<u32> {
    Json(number)
}

#[utoipa::path(delete, path = "/sample/{number}", params(("number" = u32, Path)),
    responses((status = 200, body = String)))]
async fn remove(State(sample): State<Sample>, Path(number): Path<u32>, caller: Caller) -> String {
    sample.changed();
    let on = number.to_string();
    audit::record(&caller, Deed { what: "remove", on: &on, why: "no reason", outcome: "done" });
    caller.name.to_string()
}

#[utoipa::path(put, path = "/sample/{number}", params(("number" = u32, Path)),
    request_body = Word, responses((status = 200, body = u32, content_type = "application/json")))]
async fn replace(
    State(sample): State<Sample>,
    Path(number): Path<u32>,
    Json(_): Json<Word>,
) -> Json<u32> {
    sample.changed();
    Json(number)
}

#[utoipa::path(get, path = "/sample", params(("limit" = Option<u32>, Query)),
    responses((status = 200, body = u32, content_type = "application/json")))]
async fn list(Query(count): Query<Count>) -> Json<u32> {
    Json(count.limit.unwrap_or_default())
}

#[utoipa::path(post, path = "/sample", request_body = Word,
    responses((status = 200, body = Word)))]
async fn add(State(sample): State<Sample>, Json(word): Json<Word>) -> Json<Word> {
    sample.changed();
    Json(word)
}

#[utoipa::path(post, path = "/sample/begin", responses((status = 200, body = String)))]
async fn begin(State(sample): State<Sample>) -> &'static str {
    sample.changed();
    "begun"
}

/// Answers when the test says so.
#[utoipa::path(get, path = "/held", responses((status = 200, body = String)))]
async fn held(State(sample): State<Sample>) -> &'static str {
    let _running = Running::begin(&sample);
    sample.go_on.notified().await;
    "at last"
}

/// Sends without end, and does not look at the shutdown.
#[utoipa::path(get, path = "/endless", responses((status = 200, body = String)))]
async fn endless(State(sample): State<Sample>) -> Response {
    let running = Running::begin(&sample);
    let chunks = stream::repeat_with(move || {
        let _ = &running;
        Ok::<_, axum::Error>(Bytes::from_static(&[b'x'; 8192]))
    });
    Response::new(Body::from_stream(chunks))
}

/// One line, then silence until the shutdown: as a stream of events does.
#[utoipa::path(get, path = "/patient", responses((status = 200, body = String)))]
async fn patient(State(sample): State<Sample>) -> Response {
    let running = Running::begin(&sample);
    let shutdown = sample.shutdown.clone();
    let lines = stream::unfold(Some(0), move |next| {
        let (shutdown, _) = (shutdown.clone(), &running);
        async move {
            match next {
                Some(0) => Some((Ok::<_, axum::Error>(Bytes::from_static(b"event\n")), Some(1))),
                Some(_) => {
                    shutdown.cancelled().await;
                    Some((Ok(Bytes::from_static(b"bye\n")), None))
                }
                None => None,
            }
        }
    });
    Response::new(Body::from_stream(lines))
}

#[utoipa::path(get, path = "/fault", responses((status = 200, body = String)))]
async fn fault() -> Result<&'static str, Problem> {
    panic!("a fault with canary-in-a-panic")
}

impl Sample {
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(sample: &Sample) -> Self {
        sample.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&sample.running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

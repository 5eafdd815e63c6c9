//! Whether the server lives, and whether it can work. `/livez` and `/healthz` touch neither
//! store nor driver: a hanging driver must not get the server killed. `/readyz` asks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::input::Json;
use super::problem::{Kind, Problem};

/// Asks whether the server can work; the error says in one sentence why not.
pub(crate) type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// An answer is good for so long: anybody may ask, and asking costs the store something.
const FRESH: Duration = Duration::from_secs(1);

/// A store that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the server can work, asked at most once a second.
#[derive(Clone)]
pub(crate) struct Readiness {
    ask: Ask,
    last: Arc<Mutex<Option<Answer>>>,
}

struct Answer {
    when: Instant,
    outcome: Result<(), String>,
}

/// That it does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

impl Readiness {
    /// Asks by this.
    pub(crate) fn new(ask: Ask) -> Self {
        Self { ask, last: Arc::default() }
    }

    async fn now(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some(answer) = last.as_ref().filter(|answer| answer.when.elapsed() < FRESH) {
            return answer.outcome.clone();
        }
        let slow = || Err("the store did not answer in time".to_owned());
        let outcome = timeout(PATIENCE, (self.ask)()).await.unwrap_or_else(|_| slow());
        *last = Some(Answer { when: Instant::now(), outcome: outcome.clone() });
        outcome
    }
}

/// The three paths.
pub(crate) fn routes() -> OpenApiRouter<Readiness> {
    OpenApiRouter::default().routes(routes!(livez)).routes(routes!(healthz)).routes(routes!(readyz))
}

/// Whether the server lives.
///
/// Touches neither the store nor the driver.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "server",
    responses((status = 200, description = "It lives.", body = Health)),
)]
async fn livez() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the server lives, by its older name.
///
/// Touches neither the store nor the driver.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    responses((status = 200, description = "It lives.", body = Health)),
)]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the server can work: the store answers.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    responses((status = 200, description = "It can work.", body = Health)),
)]
async fn readyz(State(readiness): State<Readiness>) -> Result<Json<Health>, Problem> {
    match readiness.now().await {
        Ok(()) => Ok(Json(Health { status: "ok" })),
        Err(reason) => Err(Problem::new(Kind::Unavailable, reason)
            .hint("`gpulock doctor` on the server's host says more")
            .retry_after(FRESH.as_secs())),
    }
}

//! What is wrong now.

use axum::extract::State;
use gpulock::core::health::{Issue, Severity};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, failed};
use crate::daemon::input::Json;
use crate::daemon::problem::Problem;

/// Everything that is wrong now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alerts {
    /// The worst of each pool first.
    alerts: Vec<Alert>,
}

/// Something that is wrong now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alert {
    /// The rule, by the name that it had in the older system where it had one.
    name: &'static str,
    /// `P1` or `warning`.
    level: &'static str,
    /// Always `firing`: what is over is not listed.
    status: &'static str,
    /// In which pool.
    pool: String,
    /// What is wrong, for people.
    summary: String,
}

/// What is wrong now, in every pool.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts",
    responses((status = 200, description = "One entry for each thing that is wrong.", body = Alerts)))]
pub(crate) async fn alerts(State(api): State<Api>) -> Result<Json<Alerts>, Problem> {
    let mut alerts = Vec::new();
    for pool in api.pools().await.map_err(failed)? {
        let picture = api.pictures.of(&pool).await.map_err(failed)?;
        let issues = api.issues(&picture).await;
        alerts.extend(issues.iter().map(|issue| Alert {
            name: rule(issue),
            level: match issue.severity() {
                Severity::Warning => "warning",
                Severity::Critical => "P1",
            },
            status: "firing",
            pool: pool.to_string(),
            summary: issue.to_string(),
        }));
    }
    Ok(Json(Alerts { alerts }))
}

fn rule(issue: &Issue) -> &'static str {
    match issue {
        Issue::Deadlock { .. } => "GPU_LOCK_DEADLOCK_DETECTED",
        Issue::LowSuccessRate(_) => "GPU_LOCK_SUCCESS_RATE_LOW",
        Issue::HighTimeoutRate(_) => "GPU_LOCK_TIMEOUT_RATE_HIGH",
        Issue::Zombie { .. } => "GPU_LOCK_ZOMBIE",
        Issue::LongHeld { .. } => "GPU_LOCK_LONG_HELD",
        Issue::Closed(_) => "GPU_LOCK_POOL_CLOSED",
    }
}

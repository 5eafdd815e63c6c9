//! What is wrong, and who has it in hand.

use axum::extract::State;
use gpulock::core::alert::{Fingerprint, Urgency};
use gpulock_alerts::book::{Acknowledgement, AlertView, Unknown};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, conflict, failed, invalid};
use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::problem::{Document, Kind, Problem};

/// The longest name of somebody, in characters.
const LONGEST_NAME: usize = 256;

/// The longest note or comment, in characters.
const LONGEST_NOTE: usize = 1_000;

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfAlerts {
    /// Also those that are over.
    #[serde(default)]
    all: bool,
    /// Only those that are at least so urgent.
    #[param(pattern = "^(P0|P1|P2|warning|info)$")]
    level: Option<String>,
    /// Only those about this pool.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pool: Option<String>,
    /// At most so many, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, default = 1_000)]
    limit: Option<u32>,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alerts {
    /// Those that fire first, the most urgent first.
    alerts: Vec<AlertView>,
    /// How many there are, also those beyond `limit`.
    total: usize,
}

/// What is wrong now, in every pool, and who has it in hand.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", params(OfAlerts),
    responses((status = 200, description = "One entry for each alert.", body = Alerts)))]
pub(crate) async fn alerts(
    State(api): State<Api>,
    Query(of): Query<OfAlerts>,
) -> Result<Json<Alerts>, Problem> {
    let level = of.level.as_deref().map(str::parse::<Urgency>).transpose();
    let level = level.map_err(|error| invalid(format!("`level`: {error}")))?;
    let limit = of.limit.unwrap_or(1_000);
    if !(1..=1_000).contains(&limit) {
        return Err(invalid("`limit` is not a number from 1 to 1000")
            .hint("`pool` and `level` narrow the alerts down"));
    }
    let mut alerts = views(&api).await?;
    alerts.retain(|alert| {
        let is_wanted = of.all || alert.status == "firing";
        let is_of_pool = of.pool.as_ref().is_none_or(|pool| *pool == alert.pool);
        is_wanted && is_of_pool && level.is_none_or(|level| alert.level >= level)
    });
    let total = alerts.len();
    alerts.truncate(limit as usize);
    Ok(Json(Alerts { alerts, total }))
}

/// All alerts; while the store does not answer, what this daemon says about that.
async fn views(api: &Api) -> Result<Vec<AlertView>, Problem> {
    let alerting = api.alerts.alerting();
    let error = match api.alerts.desk().read().await {
        Ok((book, now)) => return Ok(book.view(now, &alerting.plan)),
        Err(error) => error,
    };
    let (book, now) = api.alerts.own().read().await.map_err(failed)?;
    let views = book.view(now, &alerting.plan);
    match views.iter().any(|view| view.status == "firing") {
        true => Ok(views),
        false => Err(failed(error)),
    }
}

/// Who has an alert in hand.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Word {
    /// Who; where it is absent, who asks.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    by: Option<String>,
    /// What is being done about it.
    #[serde(default)]
    #[schema(max_length = 1_000)]
    note: Option<String>,
}

/// Say that somebody has an alert in hand.
///
/// It neither climbs nor is repeated any more. If somebody else has said so before, that stays.
#[utoipa::path(post, path = "/api/v1/alerts/{id}/ack", tag = "alerts", request_body = Word,
    params(("id" = String, Path, description = "Its id, or how that begins.", pattern = "^[0-9a-f]{1,16}$")),
    responses(
        (status = 200, description = "The alert.", body = AlertView),
        (status = 409, description = "It is over, or several begin like that.", body = Document, content_type = "application/problem+json")))]
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Json(word): Json<Word>,
) -> Result<Json<AlertView>, Problem> {
    let (by, note) = (name_of(&caller, word.by)?, note("note", word.note)?);
    let word = |at| Acknowledgement { by: by.clone(), at, note: note.clone() };
    let done = api.alerts.desk().step(|book, now| book.acknowledge(&id, word(now))).await;
    let done = done.map_err(failed)?;
    let outcome = match &done {
        Ok(_) => "done".to_owned(),
        Err(unknown) => format!("refused: {unknown}"),
    };
    api.alerts.note_change();
    audit::record(&caller, Deed { what: "acknowledge", on: &id, why: &note, outcome: &outcome });
    present(&api, &done.map_err(unknown)?).await.map(Json)
}

async fn present(api: &Api, id: &Fingerprint) -> Result<AlertView, Problem> {
    let (book, now) = api.alerts.desk().read().await.map_err(failed)?;
    let views = book.view(now, &api.alerts.alerting().plan);
    let found = views.into_iter().find(|view| view.id == id.as_str());
    found.ok_or_else(|| unknown(Unknown::Alert(id.to_string())))
}

/// What somebody named is not there, or cannot be changed.
pub(super) fn unknown(unknown: Unknown) -> Problem {
    let detail = unknown.to_string();
    match unknown {
        Unknown::Ambiguous(_) => conflict(detail).hint("write more of the id"),
        Unknown::Over(_) => {
            conflict(detail).hint("GET /api/v1/alerts?all=true tells when it ended")
        }
        Unknown::Alert(_) => {
            Problem::new(Kind::NotFound, detail).hint("GET /api/v1/alerts lists them")
        }
        Unknown::Silence(_) => {
            Problem::new(Kind::NotFound, detail).hint("GET /api/v1/silences lists them")
        }
        Unknown::Letter(_) => {
            Problem::new(Kind::NotFound, detail).hint("GET /api/v1/alerts/undelivered lists them")
        }
    }
}

/// Who says something: a name of the caller's choice, or the caller.
pub(super) fn name_of(caller: &Caller, name: Option<String>) -> Result<String, Problem> {
    match name {
        None => Ok(format!("{} from {}", caller.name, caller.peer.ip())),
        Some(name) if (1..=LONGEST_NAME).contains(&name.chars().count()) => Ok(name),
        Some(_) => Err(invalid(format!("`by` has not 1 to {LONGEST_NAME} characters"))),
    }
}

/// What somebody says about it.
pub(super) fn note(field: &str, text: Option<String>) -> Result<String, Problem> {
    let text = text.unwrap_or_default();
    match text.chars().count() > LONGEST_NOTE {
        true => Err(invalid(format!("`{field}` has more than {LONGEST_NOTE} characters"))),
        false => Ok(text),
    }
}

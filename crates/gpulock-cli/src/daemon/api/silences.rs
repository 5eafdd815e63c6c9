//! Telling nobody of some alerts for a while.

use axum::extract::State;
use axum::http::StatusCode;
use gpulock::core::alert::Labels;
use gpulock_alerts::book::{Silence, SilenceView};
use gpulock_alerts::plan::Matcher;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::alerts::{name_of, note, unknown};
use super::{Api, conflict, failed, invalid, span};
use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::{Json, Nothing, Path};
use crate::daemon::problem::{Document, Kind, Problem};

/// So many matchers make a silence.
const MOST_MATCHERS: usize = 50;

/// The longest matcher, in characters.
const LONGEST_MATCHER: usize = 500;

/// So many silences are kept, those that were over lately among them.
const MOST_SILENCES: usize = 500;

/// All silences.
#[derive(Serialize, ToSchema)]
pub(crate) struct Silences {
    /// The latest to end first; also those that were over lately.
    silences: Vec<SilenceView>,
}

/// Of which alerts nobody is told.
#[utoipa::path(get, path = "/api/v1/silences", tag = "alerts",
    responses((status = 200, description = "The silences.", body = Silences)))]
pub(crate) async fn silences(State(api): State<Api>) -> Result<Json<Silences>, Problem> {
    let (book, now) = api.alerts.desk().read().await.map_err(failed)?;
    Ok(Json(Silences { silences: book.silence_views(now) }))
}

/// Of which alerts nobody shall be told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSilence {
    /// What labels must be, as `pool="default"` or `severity=~"P2|warning"`; all must hold.
    #[serde(default)]
    #[schema(max_items = 50, example = json!(["pool=\"default\""]))]
    matchers: Vec<String>,
    /// For so many seconds.
    #[schema(exclusive_minimum = 0, maximum = 315_360_000)]
    duration: f64,
    /// Who wants it; where it is absent, who asks.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    by: Option<String>,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 1_000)]
    comment: Option<String>,
    /// Allow a silence that an alert without any labels would fall under.
    #[serde(default)]
    everything: bool,
}

/// Tell nobody of some alerts for a while.
#[utoipa::path(post, path = "/api/v1/silences", tag = "alerts", request_body = NewSilence,
    responses(
        (status = 201, description = "The silence.", body = SilenceView),
        (status = 409, description = "There are as many as are kept.", body = Document, content_type = "application/problem+json")))]
pub(crate) async fn silence(
    State(api): State<Api>,
    caller: Caller,
    Json(asked): Json<NewSilence>,
) -> Result<(StatusCode, Json<SilenceView>), Problem> {
    let lasting = span("duration", asked.duration)?;
    if lasting.is_zero() {
        return Err(invalid("`duration` is 0"));
    }
    let matchers = matchers_of(&asked.matchers, asked.everything)?;
    let (by, comment) = (name_of(&caller, asked.by)?, note("comment", asked.comment)?);
    let id = crate::commands::alerts::new_id();
    let id = id.map_err(|failure| Problem::new(Kind::Internal, failure.message))?;
    let added = api.alerts.desk().step(|book, now| {
        if book.silences().count() >= MOST_SILENCES {
            return None;
        }
        let silence = Silence {
            matchers: matchers.clone(),
            starts_at: now,
            ends_at: now + lasting,
            created_by: by.clone(),
            comment: comment.clone(),
        };
        book.silence(id.clone(), silence.clone());
        Some(SilenceView::new(now, &id, &silence))
    });
    let view = added.await.map_err(failed)?.ok_or_else(|| {
        conflict(format!("there are {MOST_SILENCES} silences already"))
            .hint("one that is over is forgotten after a day; let fewer of them match more")
    })?;
    let outcome = format!("{} for {} s: {}", view.id, asked.duration, view.matchers.join(" "));
    api.alerts.note_change();
    audit::record(
        &caller,
        Deed { what: "silence", on: &view.id, why: &comment, outcome: &outcome },
    );
    Ok((StatusCode::CREATED, Json(view)))
}

/// End a silence now.
#[utoipa::path(delete, path = "/api/v1/silences/{id}", tag = "alerts", request_body = Nothing,
    params(("id" = String, Path, description = "Its id, or how that begins.", pattern = "^[0-9a-f]{1,8}$")),
    responses((status = 204, description = "It is over.")))]
pub(crate) async fn end(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<StatusCode, Problem> {
    let ended = api.alerts.desk().step(|book, now| book.end_silence(now, &id)).await;
    let id = ended.map_err(failed)?.map_err(unknown)?;
    api.alerts.note_change();
    audit::record(&caller, Deed { what: "end a silence", on: &id, why: "", outcome: "done" });
    Ok(StatusCode::NO_CONTENT)
}

fn matchers_of(texts: &[String], everything: bool) -> Result<Vec<Matcher>, Problem> {
    let is_long = |text: &String| text.chars().count() > LONGEST_MATCHER;
    if texts.len() > MOST_MATCHERS || texts.iter().any(is_long) {
        return Err(invalid(format!(
            "`matchers` has more than {MOST_MATCHERS} of {LONGEST_MATCHER} characters"
        )));
    }
    let matcher = |(at, text): (usize, &String)| {
        text.parse::<Matcher>().map_err(|error| invalid(format!("matcher {} {error}", at + 1)))
    };
    let matchers = texts.iter().enumerate().map(matcher).collect::<Result<Vec<_>, _>>()?;
    if !everything && Matcher::all_match(&matchers, &Labels::default()) {
        return Err(invalid("such a silence also holds for alerts without labels")
            .hint("name what is meant, such as pool=\"default\"; `everything` if it is meant so"));
    }
    Ok(matchers)
}

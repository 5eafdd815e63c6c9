//! Messages that could not be delivered.

use axum::extract::State;
use gpulock_alerts::book::{LetterView, Unknown};
use serde::Serialize;
use utoipa::ToSchema;

use super::alerts::unknown;
use super::{Api, failed};
use crate::daemon::audit::{self, Caller, Deed};
use crate::daemon::input::{Json, Nothing, Path};
use crate::daemon::problem::Problem;

/// Messages that could not be delivered.
#[derive(Serialize, ToSchema)]
pub(crate) struct Undelivered {
    /// The oldest first. Those that are `waiting` are tried again, those that were `given_up` are
    /// not.
    messages: Vec<LetterView>,
}

/// Messages that could not be delivered, with what went wrong.
#[utoipa::path(get, path = "/api/v1/alerts/undelivered", tag = "alerts",
    responses((status = 200, description = "The messages.", body = Undelivered)))]
pub(crate) async fn undelivered(State(api): State<Api>) -> Result<Json<Undelivered>, Problem> {
    let (book, _) = api.alerts.desk().read().await.map_err(failed)?;
    let mut messages = book.letter_views();
    messages.retain(|message| message.failure.is_some() || message.status == "given_up");
    Ok(Json(Undelivered { messages }))
}

/// Send a message again that was given up.
#[utoipa::path(post, path = "/api/v1/alerts/undelivered/{id}/resend", tag = "alerts",
    request_body = Nothing,
    params(("id" = String, Path, description = "The id of the message.", pattern = "^[0-9a-f]{1,16}-[0-9]{1,20}$")),
    responses((status = 200, description = "The message, which waits again.", body = LetterView)))]
pub(crate) async fn resend(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Json<LetterView>, Problem> {
    let resent = api.alerts.desk().step(|book, now| {
        book.resend(now, Some(&id))?;
        let view = book.letter_views().into_iter().find(|view| view.id == id);
        view.ok_or_else(|| Unknown::Letter(id.clone()))
    });
    let view = resent.await.map_err(failed)?.map_err(unknown)?;
    api.alerts.note_change();
    audit::record(&caller, Deed { what: "resend", on: &id, why: "", outcome: &view.channel });
    Ok(Json(view))
}

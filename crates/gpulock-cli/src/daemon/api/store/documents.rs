//! The documents of the daemon's store.

use axum::extract::{DefaultBodyLimit, FromRef, State};
use gpulock::store::http::wire::{WireDocumentNews, WireDocumentSwap, WireDocumentWrite};
use gpulock::store::{DOCUMENT_CAP, DocumentName};
use serde::Deserialize;
use tower::limit::GlobalConcurrencyLimitLayer;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::invalid;
use super::{Lent, in_time};
use crate::daemon::input::{Json, Path, Query};
use crate::daemon::problem::Problem;

/// The largest text takes most as JSON where each of its bytes is escaped (`\u0001`), and the
/// rest of the body is small.
const LARGEST_WRITE: usize = 6 * DOCUMENT_CAP + 1_024;

/// So many bodies are taken in at the same time; others wait for their turn. Small ones would
/// not need it, but nobody knows which they are.
const AT_ONCE: usize = 8;

/// The only routes of the daemon with bodies this large.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Lent: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(swap_document))
        .layer(GlobalConcurrencyLimitLayer::new(AT_ONCE))
        .layer(DefaultBodyLimit::max(LARGEST_WRITE))
        .routes(routes!(document))
}

/// What the caller has already.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Known {
    /// The version that the caller knows: if the document still has it, it is not sent again.
    #[serde(default)]
    known: u64,
}

/// A document with its version, unless that is known.
#[utoipa::path(get, path = "/api/v1/store/documents/{name}", tag = "store",
    params(Known, ("name" = String, Path, description = "Which document.", pattern = "^[a-z0-9-]{1,64}$")),
    responses((status = 200, description = "What has become of it.", body = Object)))]
async fn document(
    State(lent): State<Lent>,
    Path(name): Path<String>,
    Query(Known { known }): Query<Known>,
) -> Result<Json<WireDocumentNews>, Problem> {
    let news = in_time(lent.store.document_since(&name_of(&name)?, known)).await?;
    Ok(Json(news.into()))
}

/// Write a document, if it still has the expected version.
#[utoipa::path(post, path = "/api/v1/store/documents/{name}/swap", tag = "store",
    request_body = Object,
    params(("name" = String, Path, description = "Which document.", pattern = "^[a-z0-9-]{1,64}$")),
    responses((status = 200, description = "What became of it.", body = Object)))]
async fn swap_document(
    State(lent): State<Lent>,
    Path(name): Path<String>,
    Json(write): Json<WireDocumentWrite>,
) -> Result<Json<WireDocumentSwap>, Problem> {
    let name = name_of(&name)?;
    let expected = write.expected.parse();
    let expected = expected.map_err(|_| invalid("the expected version is not a number"))?;
    let swap = in_time(lent.store.swap_document(&name, expected, &write.text)).await?;
    Ok(Json(swap.into()))
}

fn name_of(name: &str) -> Result<DocumentName, Problem> {
    name.parse().map_err(|error| invalid(format!("{error}")))
}

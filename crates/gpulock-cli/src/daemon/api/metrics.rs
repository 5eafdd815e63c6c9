//! `/metrics` for Prometheus.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};

use super::Api;
use crate::daemon::metrics::{Format, render};

/// The figures of all pools and of this daemon, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, description = "In the text format of Prometheus, or as OpenMetrics where that is asked for.", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> ([(HeaderName, &'static str); 1], String) {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiated(accept);
    let text = render(&api.scrape().await, format);
    ([(header::CONTENT_TYPE, format.content_type())], text)
}

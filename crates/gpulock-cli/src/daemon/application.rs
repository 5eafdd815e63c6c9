//! Everything that all routes share, put around them: documentation, problems for what does
//! not exist, limits of the body, the guard, the net under panics, headers for browsers.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_request, map_response};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::TimedBody;
use super::guard::{self, Guard};
use super::openapi;
use super::problem::{self, Kind, Problem};
use super::server::Limits;

/// Pages may load nothing, unless they come with a policy of their own.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The whole server around `routes`. A route with larger bodies sets its own
/// `DefaultBodyLimit`.
pub(crate) fn application(routes: Router, guard: Guard, limits: &Limits) -> Router {
    let body_time = limits.body_time;
    routes
        .merge(openapi::routes())
        .merge(problem::routes())
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(map_request(move |request| timed(request, body_time)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(guard, guard::check))
        .layer(map_response(for_browsers))
}

async fn timed(request: Request, limit: Duration) -> Request {
    request.map(|body| Body::new(TimedBody::new(body, limit)))
}

/// The panic itself is told by the panic hook, not to callers.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler of the API panicked");
    Problem::new(Kind::Internal, "the server met a fault of its own")
        .hint("the log of gpulock serve says more; please report it")
        .into_response()
}

async fn for_browsers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let isolation = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", isolation);
    for (name, value) in
        [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_SECURITY_POLICY, NOTHING)]
    {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

//! What handlers take from a request: as axum's extractors of the same names, but what does
//! not fit is refused with a problem document.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::TooSlow;
use super::problem::{Kind, Problem};

const SEE_BODY: &str = "/openapi.json says what the body of this path looks like";

/// A JSON body, read or sent. What is read is an object.
#[derive(Clone, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// The variable parts of a path.
#[derive(Clone, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// The query.
#[derive(Clone, Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            return Err(not_json());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        // serde would take a list for a struct too.
        let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
        if !is_object && serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() {
            let problem = Problem::new(Kind::Invalid, "the body is JSON and not an object");
            return Err(problem.hint(SEE_BODY));
        }
        match axum::Json::<T>::from_bytes(&bytes) {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(not_taken(&rejection)),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|axum::extract::Path(value)| Self(value)).map_err(|rejection| {
            let kind = match &rejection {
                PathRejection::MissingPathParams(_) => Kind::Internal,
                _ => Kind::BadRequest,
            };
            Problem::new(kind, format!("the path does not fit: {}", cause(&rejection.body_text())))
                .hint("/openapi.json says what this part of the path looks like")
        })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        found.map(|axum::extract::Query(value)| Self(value)).map_err(|rejection: QueryRejection| {
            let detail = format!("the query does not fit: {}", cause(&rejection.body_text()));
            Problem::new(Kind::BadRequest, detail)
                .hint("/openapi.json lists the parameters of this path")
        })
    }
}

fn unread(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(Kind::TooLarge, "the body is larger than this path takes").hint(SEE_BODY)
    } else if is_caused_by_slowness(error) {
        Problem::new(Kind::TooSlow, "the body did not arrive in time")
            .hint("send the whole body at once")
    } else {
        Problem::new(Kind::BadRequest, "the body ended before its end")
            .hint("send as many bytes as Content-Length says")
    }
}

fn not_taken(rejection: &JsonRejection) -> Problem {
    let text = rejection.body_text();
    match rejection {
        JsonRejection::JsonDataError(_) => {
            let detail = format!("the body does not fit: {}", cause(&text));
            Problem::new(Kind::Invalid, detail).hint(SEE_BODY)
        }
        _ => Problem::new(Kind::BadRequest, format!("the body is not JSON: {}", cause(&text)))
            .hint("send one JSON object"),
    }
}

/// The refusal of a body that is not called JSON.
pub(super) fn not_json() -> Problem {
    Problem::new(Kind::NotJson, "the body is not sent as application/json")
        .hint("send a JSON body with the header `Content-Type: application/json`")
}

fn is_caused_by_slowness(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<TooSlow>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The part after axum's own words.
fn cause(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, cause)| cause)
}

/// Nothing needs to be said.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nothing {}

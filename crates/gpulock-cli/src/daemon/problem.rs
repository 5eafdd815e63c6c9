//! What was wrong with a request, as an RFC 9457 problem document.
//!
//! The `type` of a problem is `/problems/NAME`, a path of the same server that answers with a
//! short text. Names, statuses and titles stand in one table, [`Kind`]; they stay as they are.
//! `detail` is one sentence about this request and `hint` says what to do.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The media type of problem documents.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What was wrong with one request.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    hint: Option<String>,
    retry_after: Option<u64>,
    more: BTreeMap<&'static str, Value>,
}

impl Problem {
    /// A problem of this kind; `detail` is one sentence about this request.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail, hint: None, retry_after: None, more: BTreeMap::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds after how many seconds it is worth asking again.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self.with("retry_after", seconds)
    }

    /// Adds a member of its own, such as the present holder. None of the standard names.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.insert(name, value.into());
        self
    }

    /// What is wrong, by its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { kind, detail, hint, retry_after, more } = self;
        let status = kind.status();
        let document = Document {
            kind: kind.path(),
            title: kind.title(),
            status: status.as_u16(),
            detail,
            hint,
            more,
        };
        let mut answer = (status, axum::Json(document)).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if kind == Kind::NotAuthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// The document that is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document {
    /// What kind of problem it is: a path of this server that explains it.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, in one sentence.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Members of certain kinds, such as `retry_after` in seconds.
    #[serde(flatten)]
    more: BTreeMap<&'static str, Value>,
}

/// Makes the table of kinds: `Kind => name, status, title, meaning;`.
macro_rules! kinds {
    ($($kind:ident => $name:literal, $status:ident, $title:literal, $meaning:literal;)+) => {
        /// What can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $( #[doc = $title] $kind, )+
        }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$( Self::$kind, )+];

            const fn row(self) -> Row {
                match self {
                    $( Self::$kind => Row {
                        name: $name,
                        status: StatusCode::$status,
                        title: $title,
                        meaning: $meaning,
                    }, )+
                }
            }
        }
    };
}

kinds! {
    BadRequest => "bad-request", BAD_REQUEST,
        "The request cannot be read",
        "A header, a part of the path or of the query, or the body has not the form that it \
        must have.";
    NotAuthenticated => "not-authenticated", UNAUTHORIZED,
        "No valid token",
        "This server asks for a bearer token, and the request has none or one that the server \
        does not know. Tokens are set in `server.tokens`.";
    NotAllowed => "not-allowed", FORBIDDEN,
        "The token does not allow this",
        "A token with the role `read` may ask; to change something needs a token with the \
        role `operate`.";
    ForeignOrigin => "foreign-origin", FORBIDDEN,
        "A page of another site may change nothing",
        "A browser sent this request for a page of another site. Only pages of this server \
        may change something.";
    NotFound => "not-found", NOT_FOUND,
        "There is no such thing",
        "The path is unknown, or what it names does not exist or exists no more.";
    WrongMethod => "wrong-method", METHOD_NOT_ALLOWED,
        "The path does not have this method",
        "The path exists and takes other methods; the header `Allow` names them.";
    TooSlow => "too-slow", REQUEST_TIMEOUT,
        "The body came too slowly",
        "The whole body must arrive within a few seconds.";
    Conflict => "conflict", CONFLICT,
        "Something else happened first",
        "The request does not fit the present state, often because another request was first. \
        Look at the state and decide again.";
    TooLarge => "too-large", PAYLOAD_TOO_LARGE,
        "The body is too large",
        "Bodies are small JSON objects; one of more than 64 KiB is a mistake.";
    NotJson => "not-json", UNSUPPORTED_MEDIA_TYPE,
        "The body is not sent as JSON",
        "A changing request has the content type `application/json`. This keeps forms of \
        other sites out.";
    WrongHost => "wrong-host", MISDIRECTED_REQUEST,
        "The server is not known by this name",
        "The header `Host` has a name that is neither an address nor in \
        `server.allowed_hosts`. This keeps pages out whose name was bound to this address.";
    Invalid => "invalid", UNPROCESSABLE_ENTITY,
        "The values make no sense",
        "The body is JSON, and a member is missing, unknown, of another type or out of range.";
    TooManyRequests => "too-many-requests", TOO_MANY_REQUESTS,
        "Too many requests",
        "Ask again after the time in the header `Retry-After`.";
    Internal => "internal", INTERNAL_SERVER_ERROR,
        "The server has a fault",
        "This is a fault of gpulock. Its log says more.";
    Unavailable => "unavailable", SERVICE_UNAVAILABLE,
        "The server cannot do this now",
        "What is needed, mostly the store, cannot be used now, or the server is about to \
        stop. Ask again later.";
}

/// What everybody may rely on, and an explanation.
struct Row {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
    meaning: &'static str,
}

impl Kind {
    /// The status that goes with it.
    pub(crate) fn status(self) -> StatusCode {
        self.row().status
    }

    /// The kind in a few words.
    pub(crate) fn title(self) -> &'static str {
        self.row().title
    }

    /// Its `type`.
    pub(crate) fn path(self) -> String {
        format!("/problems/{}", self.row().name)
    }
}

/// The paths that explain problems.
pub(crate) fn routes() -> Router {
    Router::new().route("/problems/{name}", get(explanation))
}

async fn explanation(Path(name): Path<String>) -> Result<String, Problem> {
    let row = Kind::ALL.iter().map(|kind| kind.row()).find(|row| row.name == name);
    let explained = row.map(|row| format!("{}\n\n{}\n", row.title, row.meaning));
    explained.ok_or_else(|| {
        Problem::new(Kind::NotFound, "no problem has this name")
            .hint("take the member `type` of the answer as it is")
    })
}

/// The answer to paths that do not exist.
pub(crate) async fn unknown_path() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing under this path")
        .hint("/openapi.json lists every path, /docs shows them")
}

/// The answer to methods that a path does not have.
pub(crate) async fn wrong_method() -> Problem {
    Problem::new(Kind::WrongMethod, "this path does not have this method")
        .hint("the header Allow names the methods that it has")
}

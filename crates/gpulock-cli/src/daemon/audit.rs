//! The audit line: who did what, when and why. One line for each deed, under the log target
//! `gpulock::audit`.

use std::fmt;
use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use gpulock::config::Role;

use super::problem::{Kind, Problem};

/// The log target of audit lines.
pub(crate) const TARGET: &str = "gpulock::audit";

/// Longer reasons are cut in the log; the journal of the pool has them whole.
const LONGEST: usize = 1_000;

/// Who asks. Handlers take it as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// What the caller may do.
    pub(crate) role: Role,
    /// By which token.
    pub(crate) name: CallerName,
    /// From where.
    pub(crate) peer: SocketAddr,
}

/// A caller without its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerName {
    /// There are no tokens, or the path needs none.
    Anybody,
    /// The bearer of the token at this place of `server.tokens`, from 1.
    Token(usize),
}

/// What somebody did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed<'a> {
    /// The verb: `release`, `stop the monitor`.
    pub(crate) what: &'a str,
    /// To what: a lease, a lock key.
    pub(crate) on: &'a str,
    /// The reason that was given.
    pub(crate) why: &'a str,
    /// What came of it.
    pub(crate) outcome: &'a str,
}

/// Writes the line. Everything that a caller wrote is escaped, so it stays one line.
pub(crate) fn record(caller: &Caller, deed: Deed<'_>) {
    tracing::info!(
        target: TARGET,
        who = %caller.name,
        peer = %caller.peer,
        when = %jiff::Timestamp::now(),
        what = ?shortened(deed.what),
        on = ?shortened(deed.on),
        why = ?shortened(deed.why),
        outcome = ?shortened(deed.outcome),
        "changed by the API",
    );
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::Token(place) => write!(f, "token {place}"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Problem::new(Kind::Internal, "the request did not pass the guard"))
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

//! What an answer that is none means.

use std::error::Error;
use std::fmt::Display;

use reqwest::StatusCode;
use serde::Deserialize;

use super::address::Address;
use crate::store::StoreError;

/// As much of a problem document (RFC 9457) as is of use here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
    /// Trying again does not help, says the daemon.
    lasts: bool,
}

/// The daemon cannot be reached, or does not answer. Whether it has done what it was asked to
/// cannot be known.
pub(super) fn unreachable(address: &Address, error: &reqwest::Error) -> StoreError {
    let mut reason = match error {
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ if error.is_connect() => "no connection".to_owned(),
        _ => "the connection broke".to_owned(),
    };
    // The innermost cause is the one that a person can do something about.
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(Error::source) {
        cause = Some(inner);
    }
    if let Some(cause) = cause {
        reason = format!("{reason}: {cause}");
    }
    StoreError::Unavailable { place: address.shown.clone(), reason }
}

/// The daemon says no.
pub(super) fn refused(address: &Address, status: StatusCode, body: &[u8]) -> StoreError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let place = address.shown.clone();
    let said = match problem.detail.as_str() {
        "" => format!("it answers {status}"),
        detail => detail.to_owned(),
    };
    match status {
        StatusCode::UNAUTHORIZED => StoreError::Refused {
            place,
            reason: format!("{said}; GPULOCK_HTTP_TOKEN is none of its `server.tokens`"),
        },
        StatusCode::FORBIDDEN => StoreError::Refused {
            place,
            reason: format!("{said}; a token with the role `operate` is needed"),
        },
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT
            if !problem.lasts =>
        {
            StoreError::Unavailable { place, reason: said }
        }
        StatusCode::NOT_FOUND => StoreError::Refused {
            place,
            reason: "it answers, but it is no gpulock serve, or an older one".to_owned(),
        },
        _ => StoreError::Refused { place, reason: said },
    }
}

/// What the daemon says makes no sense.
pub(super) fn odd(address: &Address, error: &dyn Display) -> StoreError {
    StoreError::Unreadable { place: address.shown.clone(), reason: error.to_string() }
}

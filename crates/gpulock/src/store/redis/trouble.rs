//! What the server's errors mean for a store.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::address::Address;
use crate::store::StoreError;

/// The error of a call, as a store reports it.
pub(super) fn failed(address: &Address, error: &RedisError) -> StoreError {
    let place = address.shown.clone();
    let unavailable =
        |reason: &str| StoreError::Unavailable { place: place.clone(), reason: reason.to_owned() };
    let refused = |reason: String| StoreError::Refused { place: place.clone(), reason };
    let told = error.to_string();
    // The words of a script's error come with its own place in the script.
    if told.contains("OOM command not allowed") {
        return StoreError::OutOfMemory(place);
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            refused("it does not know this user and password".to_owned())
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => refused(brief(&told)),
        ErrorKind::InvalidClientConfig => refused(brief(&told)),
        ErrorKind::Server(ServerErrorKind::BusyLoading) => unavailable("it is loading its data"),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
            unavailable("it is a replica; another server is master now, or will be")
        }
        ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain)
        | ErrorKind::ClusterConnectionNotFound => unavailable("the cluster is not whole"),
        ErrorKind::MasterNameNotFoundBySentinel => {
            unavailable("no Sentinel names a master of that service")
        }
        ErrorKind::Io if error.is_timeout() => unavailable("it did not answer in time"),
        ErrorKind::Io if error.is_connection_refusal() => unavailable("nobody listens there"),
        ErrorKind::Io if is_certificate(&told) => refused(brief(&told)),
        ErrorKind::Io => unavailable(&brief(&told)),
        _ if ["NOAUTH", "WRONGPASS"].iter().any(|code| error.code() == Some(code)) => {
            refused(brief(&told))
        }
        _ if ["NOREPLICAS", "BUSY", "MISCONF", "UNBLOCKED"]
            .iter()
            .any(|code| error.code() == Some(code)) =>
        {
            unavailable(&brief(&told))
        }
        _ => refused(brief(&told)),
    }
}

/// Trying again does not make a certificate a better one.
fn is_certificate(told: &str) -> bool {
    ["certificate", "UnknownIssuer", "NotValidForName", "HandshakeFailure"]
        .iter()
        .any(|sign| told.contains(sign))
}

/// The first line.
fn brief(told: &str) -> String {
    told.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

//! What a failed exchange means. Nothing here repeats a URL: its path or query may be a secret.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::Url;
use rustls::CertificateError as Certificate;

use super::answer::plain;
use super::names::NoAddress;
use crate::channel::{Failure, Reason};

/// No sentence of others is longer, in characters.
const LONGEST_WORDS: usize = 200;

/// The failure of an exchange without an answer.
pub(super) fn failed(url: &Url, timeout: Duration, error: &reqwest::Error) -> Failure {
    let (reason, why) = why(timeout, error);
    Failure::new(reason, format!("{}: {why}", place(url)))
}

/// The innermost cause, which names no URL.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<reqwest::Error>() {
        // There is nothing inside, and what it says itself ends with the URL.
        Some(_) => "the request cannot be made".to_owned(),
        None => plain(&inner.to_string(), LONGEST_WORDS),
    }
}

/// `HOST:PORT`, the port only if it is not the usual one.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn why(timeout: Duration, error: &reqwest::Error) -> (Reason, String) {
    if let Some(none) = cause::<NoAddress>(error) {
        let reason = match none {
            NoAddress::Forbidden(_) => Reason::Forbidden,
            NoAddress::Unknown(_) => Reason::Unreachable,
        };
        return (reason, plain(&none.to_string(), LONGEST_WORDS));
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return (Reason::Unreachable, of_tls(tls));
    }
    if error.is_timeout() {
        let late = format!("no answer within {} s", timeout.as_secs_f64());
        return (Reason::ContextDeadlineExceeded, late);
    }
    (Reason::Unreachable, of_connection(error))
}

fn of_connection(error: &reqwest::Error) -> String {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, TimedOut, UnexpectedEof,
    };
    let why = match cause::<io::Error>(error).map(io::Error::kind) {
        Some(ConnectionRefused) => "nobody listens there",
        Some(TimedOut) => "the connection took too long",
        Some(HostUnreachable | NetworkUnreachable) => "no way leads there",
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) => {
            "it closed the connection without an answer"
        }
        _ => {
            let said = innermost(error);
            if said.starts_with("invalid HTTP") || said.starts_with("invalid status") {
                return "it does not speak HTTP".to_owned();
            }
            if said.starts_with("connection closed before") {
                return "it closed the connection without an answer".to_owned();
            }
            return said;
        }
    };
    why.to_owned()
}

fn of_tls(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        // Two authorities of one name differ by their signatures.
        InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "its certificate is signed by nobody trusted here".to_owned()
        }
        InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        AlertReceived(alert) => format!("it refuses TLS with us ({alert:?})"),
        InvalidMessage(_) => "it does not speak TLS; write http:// if that is meant".to_owned(),
        other => plain(&other.to_string(), LONGEST_WORDS),
    }
}

/// The innermost cause of this kind. An `io::Error` shows the cause of its own content as its
/// source, and hides the content itself.
fn cause<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut found = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let content = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inside = content.and_then(|content| content.downcast_ref::<E>());
        found = inside.or_else(|| error.downcast_ref::<E>()).or(found);
        next = match content {
            Some(content) => Some(content),
            None => error.source(),
        };
    }
    found
}

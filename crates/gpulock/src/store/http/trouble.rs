//! What a failed call means for a store: whether trying again can help, and what a person
//! should know.

use std::error::Error;
use std::io;

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::address::Address;
use super::wire::{FAULT_MEMBER, Fault};
use crate::store::StoreError;
use crate::store::tls_trouble::{brief, of_tls};

/// No problem document is longer.
const LONGEST_ANSWER: usize = 64 << 10;

enum Trouble {
    /// Trying again can help.
    Passing(String),
    /// Somebody has to do something first.
    Lasting(String),
}

use Trouble::{Lasting, Passing};

/// The error of a call that got no answer.
pub(super) fn failed(address: &Address, error: &reqwest::Error) -> StoreError {
    trouble(address, of_connection(address, error))
}

/// There was no answer in time.
pub(super) fn late(address: &Address) -> StoreError {
    trouble(address, Passing("it did not answer in time".to_owned()))
}

/// The error of a call whose answer is none.
pub(super) async fn refused(address: &Address, answer: Response) -> StoreError {
    let status = answer.status();
    let told = told(answer).await;
    match told.fault {
        Some(fault) => fault.into_error(&address.shown),
        None => trouble(address, of_status(address, status, &told)),
    }
}

/// The innermost reason, fit for a terminal.
pub(super) fn said(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    brief(&inner.to_string())
}

fn trouble(address: &Address, trouble: Trouble) -> StoreError {
    let place = address.shown.clone();
    let hidden = |reason: String| match &address.token {
        Some(token) => reason.replace(&token.reveal(), "***"),
        None => reason,
    };
    match trouble {
        Passing(reason) => StoreError::Unavailable { place, reason: hidden(reason) },
        Lasting(reason) => StoreError::Refused { place, reason: hidden(reason) },
    }
}

/// A problem document, as far as there is one.
#[derive(Debug, Default)]
struct Told {
    detail: Option<String>,
    fault: Option<Fault>,
}

async fn told(mut answer: Response) -> Told {
    let mut text = Vec::new();
    while text.len() < LONGEST_ANSWER
        && let Ok(Some(piece)) = answer.chunk().await
    {
        text.extend_from_slice(&piece);
    }
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return Told::default();
    };
    Told {
        detail: document["detail"].as_str().map(brief),
        fault: Fault::deserialize(&document[FAULT_MEMBER]).ok(),
    }
}

fn of_status(address: &Address, status: StatusCode, told: &Told) -> Trouble {
    let detail = || told.detail.clone().unwrap_or_else(|| format!("it answers {status}"));
    match status {
        StatusCode::UNAUTHORIZED => Lasting(match &address.token {
            Some(token) => format!("it does not know the token {token}"),
            None => "it wants a token: write it into the URL (http://:TOKEN@HOST:PORT) or into \
                     GPULOCK_HTTP_TOKEN, or name its file in GPULOCK_HTTP_TOKEN_FILE"
                .to_owned(),
        }),
        StatusCode::FORBIDDEN => Lasting(match &address.token {
            Some(token) => {
                format!("the token {token} may only read; this takes one with the role `operate`")
            }
            None => detail(),
        }),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Lasting(
            "it has no store to lend; is it `gpulock serve`, and no older one than this program?"
                .to_owned(),
        ),
        StatusCode::MISDIRECTED_REQUEST => Lasting(format!(
            "it does not go by the name {}; add it to `server.allowed_hosts` there",
            address.host()
        )),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Passing(detail()),
        status if status.is_server_error() => Passing(detail()),
        status if status.is_redirection() => {
            Lasting("it sends us elsewhere, where we do not take the token to".to_owned())
        }
        _ => Lasting(detail()),
    }
}

fn of_connection(address: &Address, error: &reqwest::Error) -> Trouble {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof,
    };
    if let Some(tls) = cause::<rustls::Error>(error) {
        return Lasting(of_tls(tls, "http://"));
    }
    if error.is_timeout() {
        return Passing(match address.tls {
            Some(_) => "it did not answer in time, or does not speak TLS".to_owned(),
            None => "it did not answer in time".to_owned(),
        });
    }
    Passing(match cause::<io::Error>(error).map(io::Error::kind) {
        Some(ConnectionRefused) => "nobody listens there".to_owned(),
        Some(TimedOut) => "it did not answer in time".to_owned(),
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) => {
            "it closed the connection".to_owned()
        }
        _ => {
            let said = said(error);
            if said.starts_with("invalid HTTP") {
                return Lasting("it does not speak HTTP; with TLS write https://".to_owned());
            }
            said
        }
    })
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

//! What a client is told by servers that are not what it hoped for, and what this server says
//! to questions that make no sense.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use gpulock::core::PoolName;
use gpulock::store::http::wire::FORMAT_HEADER;
use gpulock::store::memory::MemoryStore;
use gpulock::store::{StoreError, Verdict};
use serde_json::{Value, json};

use super::served::{Served, block_on};

/// A server that answers everything so.
fn answering(status: StatusCode, body: &'static str) -> Served {
    let headers = [(header::LOCATION, "http://127.0.0.1:9/elsewhere")];
    Served::start(
        Router::new().fallback(async move || (status, headers, body).into_response()),
        None,
    )
}

fn said(served: &Served) -> StoreError {
    block_on(served.connect().read(&PoolName::default(), None)).unwrap_err()
}

#[test]
fn answers_are_told_apart_by_meaning() {
    for (status, body, is_transient, words) in [
        (StatusCode::NOT_FOUND, "", false, "is it `gpulock serve`"),
        (StatusCode::METHOD_NOT_ALLOWED, "", false, "is it `gpulock serve`"),
        (StatusCode::MISDIRECTED_REQUEST, "", false, "by the name 127.0.0.1"),
        (StatusCode::TEMPORARY_REDIRECT, "", false, "sends us elsewhere"),
        (StatusCode::PAYLOAD_TOO_LARGE, "", false, "it answers 413"),
        (StatusCode::BAD_REQUEST, r#"{"detail":"bad\u001b thing"}"#, false, "us away: bad thing"),
        (StatusCode::TOO_MANY_REQUESTS, "", true, "it answers 429"),
        (StatusCode::BAD_GATEWAY, "<html>", true, "it answers 502"),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"detail":"it stops"}"#, true, "reached: it stops"),
        (StatusCode::INTERNAL_SERVER_ERROR, "[]", true, "it answers 500"),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"detail":"","store_error":{"kind":"out_of_memory","place":"redis://r"}}"#,
            false,
            "the store redis://r behind http://127.0.0.1",
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"detail":"a fault","store_error":{"kind":"of_next_year"}}"#,
            true,
            "a fault",
        ),
        (StatusCode::OK, "welcome", false, "gpulock did not write"),
        (StatusCode::OK, "{}", false, "missing field"),
    ] {
        let error = said(&answering(status, body));
        let text = error.to_string();
        assert_eq!(error.is_transient(), is_transient, "{status}: {text}");
        assert!(text.contains(words), "{status}: {text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_newer_server_is_refused() {
    let newer = || async { ([(FORMAT_HEADER, "99")], r#"{"something":"new"}"#) };
    let served = Served::start(Router::new().fallback(newer), None);
    block_on(async {
        let store = served.connect();
        let errors = [store.pools().await.map(drop), store.open_mailbox().await.map(drop)]
            .map(Result::unwrap_err);
        for error in errors {
            assert!(matches!(error, StoreError::Newer { found: 99, known: 1, .. }), "{error:?}");
        }
    });
}

#[test]
fn an_examination_goes_on_to_the_store_behind() {
    let served = Served::lending(Arc::new(MemoryStore::new()));
    let remarks = block_on(served.connect().examine());
    let found: Vec<_> = remarks.iter().map(|remark| (remark.subject, remark.verdict)).collect();
    assert_eq!(found, [("server", Verdict::Good), ("its store", Verdict::Warning)]);
    assert!(remarks[1].message.contains("store: it is forgotten"), "{remarks:?}");
    let store = served.connect();
    drop(served);
    gpulock_testbed::wait_until("it has ended", || {
        block_on(store.examine())[0].verdict == Verdict::Bad
    });
}

/// Sends bytes, and reads the answer to its end.
pub(super) fn raw(
    served: &Served,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> (u16, Value, String) {
    let mut stream = TcpStream::connect(served.address).unwrap();
    let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has seen enough may close before the end.
    let _ = stream.write_all(body.as_bytes());
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, serde_json::from_str(body).unwrap_or_default(), head.to_lowercase())
}

#[test]
fn questions_that_make_no_sense_are_refused_with_a_problem() {
    let served = Served::lending(Arc::new(MemoryStore::new()));
    let (json_type, swap) = ("application/json", "/api/v1/store/pools/default/swap");
    let picture = "/api/v1/store/pools/default/picture";
    let document = "/api/v1/store/documents/a/swap";
    let unknown = r#"{"odd":1}"#;
    let huge = format!(r#"{{"body":"{}"}}"#, "x".repeat(5 << 20));
    for (method, path, kind, body, status, words) in [
        ("POST", swap, json_type, "{", 400, "JSON"),
        ("POST", swap, json_type, "{}", 422, "missing field"),
        ("POST", swap, json_type, unknown, 422, "unknown field `odd`"),
        ("POST", swap, json_type, &huge, 413, ""),
        ("POST", swap, "text/plain", "{}", 415, ""),
        ("POST", picture, json_type, r#"{"lease_id":"0"}"#, 422, "32 hexadecimal digits"),
        ("POST", "/api/v1/store/mailbox", json_type, "[]", 422, ""),
        ("GET", "/api/v1/store/mailbox", "", "", 405, ""),
        ("GET", swap, "", "", 405, ""),
        ("GET", "/api/v1/store/pools/a%20b/picture", "", "", 422, "pool name"),
        ("GET", "/api/v1/store/pools/a/waiters?limit=-1", "", "", 400, ""),
        ("GET", "/api/v1/store/documents/A", "", "", 422, "document name"),
        ("GET", "/api/v1/store/documents/a?known=x", "", "", 400, ""),
        ("GET", "/api/v1/store/documents/a?since=1", "", "", 400, "unknown field `since`"),
        ("POST", "/api/v1/store/documents/a", json_type, "{}", 405, ""),
        ("POST", document, json_type, r#"{"expected":0,"text":""}"#, 422, "expected a string"),
        ("POST", document, json_type, r#"{"expected":"-1","text":""}"#, 422, "not a number"),
        ("POST", document, json_type, r#"{"expected":"0"}"#, 422, "missing field `text`"),
        ("POST", document, json_type, unknown, 422, "unknown field `odd`"),
    ] {
        let (found, document, head) = raw(&served, method, path, kind, body);
        assert_eq!(found, status, "{method} {path} {document}");
        assert!(head.contains("application/problem+json"), "{head}");
        assert_eq!(document["status"], json!(status));
        let whole = ["type", "title", "detail"].iter().all(|name| document[name].is_string());
        assert!(whole && document["detail"].as_str().unwrap().contains(words), "{document}");
    }
}

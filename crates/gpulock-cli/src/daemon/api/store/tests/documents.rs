//! Documents through a server: how large they may be, and what is known when a reply is lost.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use futures_util::{FutureExt, stream};
use gpulock::store::http::wire::{FAULT_MEMBER, Fault};
use gpulock::store::memory::MemoryStore;
use gpulock::store::{DOCUMENT_CAP, DocumentName, DocumentNews, DocumentSwap, Store, StoreError};
use gpulock_testbed::FaultProxy;
use serde_json::json;
use tower::ServiceExt;

use super::answers::raw;
use super::served::{Served, bare, block_on};

const NAME: DocumentName = DocumentName::fixed("alerts");

const SWAP: &str = "/api/v1/store/documents/alerts/swap";

/// Every byte of it takes six in JSON.
#[test]
fn the_largest_text_gets_through_whatever_stands_in_it() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(Arc::clone(&inside));
    let body = json!({ "expected": "0", "text": "\u{1}".repeat(DOCUMENT_CAP) }).to_string();
    assert!(body.len() > 6 * DOCUMENT_CAP);
    let (status, answer, _) = raw(&served, "POST", SWAP, "application/json", &body);
    assert_eq!(status, 200, "{answer}");
    let document = block_on(inside.document(&NAME)).unwrap();
    assert_eq!(document.text.len(), DOCUMENT_CAP);
    assert_eq!(answer["written"]["version"], document.version.to_string());
}

/// Whoever asks without the library is told the same as it is.
#[test]
fn a_text_that_is_too_large_is_refused_by_the_server_too() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(Arc::clone(&inside));
    let text = "x".repeat(DOCUMENT_CAP + 1);
    let body = json!({ "expected": "0", "text": text }).to_string();
    let (status, problem, head) = raw(&served, "POST", SWAP, "application/json", &body);
    assert_eq!(status, 413, "{problem}");
    assert!(head.contains("application/problem+json"), "{head}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("the document `alerts` is too large"), "{problem}");
    assert!(problem["hint"].is_string(), "{problem}");
    let fault: Fault = serde_json::from_value(problem[FAULT_MEMBER].clone()).unwrap();
    let (limit, actual) = (DOCUMENT_CAP, DOCUMENT_CAP + 1);
    assert_eq!(fault, Fault::TooLarge { name: "alerts".to_owned(), limit, actual });

    let refused = block_on(served.connect().swap_document(&NAME, 0, &text)).unwrap_err();
    assert_eq!(refused.to_string(), detail);
    let huge = json!({ "expected": "0", "text": "\u{1}".repeat(DOCUMENT_CAP + 1_024) });
    let (status, _, _) = raw(&served, "POST", SWAP, "application/json", &huge.to_string());
    assert_eq!(status, 413);
    assert_eq!(block_on(inside.document(&NAME)).unwrap().version, 0);
}

#[test]
fn a_document_whose_reply_is_lost_is_found_when_asked_for_again() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(Arc::clone(&inside));
    let proxy = FaultProxy::to(served.address);
    let store = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    proxy.swallow_replies(true);
    let lost = block_on(store.swap_document(&NAME, 0, "text")).unwrap_err();
    assert!(matches!(lost, StoreError::Unavailable { .. }), "{lost}");
    let written = block_on(inside.document(&NAME)).unwrap();
    assert_eq!(written.text, "text");
    proxy.swallow_replies(false);
    proxy.cut();
    let again = block_on(store.swap_document(&NAME, 0, "text")).unwrap();
    let DocumentSwap::Conflict(present) = again else { panic!("{again:?}") };
    assert_eq!((present.text, present.version), (written.text, written.version));
}

/// Who looks every second at a text that stays the same moves nothing of it.
#[test]
fn a_look_at_an_unchanged_document_costs_little() {
    const LOOKS: u64 = 50;
    let served = Served::lending(Arc::new(MemoryStore::new()));
    let proxy = FaultProxy::to(served.address);
    let store = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    block_on(async {
        let written = store.swap_document(&NAME, 0, &"x".repeat(500_000)).await.unwrap();
        let DocumentSwap::Written { version, .. } = written else { panic!("{written:?}") };
        let before = proxy.bytes_to_client() + proxy.bytes_to_server();
        for _ in 0..LOOKS {
            let news = store.document_since(&NAME, version).await.unwrap();
            assert!(matches!(news, DocumentNews::Unchanged { .. }));
        }
        let moved = proxy.bytes_to_client() + proxy.bytes_to_server() - before;
        assert!(moved < LOOKS * 2_000, "{moved} bytes for {LOOKS} looks");
    });
}

/// However many send large bodies, or do not end theirs, only some of them fill memory. Who
/// only looks is not held up.
#[test]
fn bodies_are_taken_in_a_few_at_a_time() {
    const AT_ONCE: usize = 8;
    let app = bare(Arc::new(MemoryStore::new()));
    let look = || Request::get("/api/v1/store/documents/alerts").body(Body::empty()).unwrap();
    let write = |body| {
        let request = Request::post(SWAP).header("content-type", "application/json");
        app.clone().oneshot(request.body(body).unwrap())
    };
    let whole = || Body::from(r#"{"expected":"7","text":""}"#);
    let endless = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    block_on(async {
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            assert_eq!(write(whole()).await.unwrap().status(), StatusCode::OK);
            let mut slow = Box::pin(write(endless()));
            assert!((&mut slow).now_or_never().is_none(), "its body has no end");
            held.push(slow);
        }
        let mut next = Box::pin(write(whole()));
        assert!((&mut next).now_or_never().is_none(), "it found a place");
        assert_eq!(app.clone().oneshot(look()).await.unwrap().status(), StatusCode::OK);
        held.pop();
        assert_eq!(next.await.unwrap().status(), StatusCode::OK);
    });
}

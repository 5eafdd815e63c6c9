//! Who may ask what, and that no token is shown.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use gpulock::core::{LeaseId, PoolName};
use gpulock::store::http::HttpStore;
use gpulock::store::memory::MemoryStore;
use gpulock::store::{DocumentName, Store, StoreError, Wanted};

use super::served::{Served, bare, block_on};

const READ: &str = "canary-that-reads";
const OPERATE: &str = "canary-that-operates";

/// Lets in who shows a token, as the server does. Its answers repeat what was shown, which no
/// server should do.
async fn guarded(request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).cloned();
    let shown = shown.as_ref().and_then(|shown| shown.to_str().ok()).unwrap_or_default();
    let answer = |status| {
        let detail = format!("you showed {shown}");
        (status, axum::Json(serde_json::json!({ "detail": detail }))).into_response()
    };
    match shown.strip_prefix("Bearer ") {
        Some(OPERATE) => next.run(request).await,
        Some(READ) if request.method() == Method::GET => next.run(request).await,
        Some(READ) => answer(StatusCode::FORBIDDEN),
        Some("canary-of-a-teapot") => answer(StatusCode::IM_A_TEAPOT),
        _ => answer(StatusCode::UNAUTHORIZED),
    }
}

fn served() -> Served {
    let store = Arc::new(MemoryStore::new());
    let app: Router = bare(store).layer(from_fn(guarded));
    Served::start(app, None)
}

fn with_token(served: &Served, token: &str) -> HttpStore {
    let url = format!("http://:{token}@{}", served.address);
    HttpStore::open_with(&url, |_| None).unwrap()
}

async fn stamped(store: &HttpStore) -> Result<(), StoreError> {
    let asking = Some(LeaseId::from_bits(1));
    store.read(&PoolName::default(), asking).await.map(drop)
}

#[track_caller]
fn refused(answer: Result<(), StoreError>, words: &[&str]) {
    let error = answer.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    let said = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
    for word in words {
        assert!(said.contains(word), "{said}");
    }
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_token_that_operates_may_do_everything() {
    let served = served();
    let store = with_token(&served, OPERATE);
    block_on(async {
        stamped(&store).await.unwrap();
        store.open_mailbox().await.unwrap();
    });
}

#[test]
fn a_token_that_reads_may_ask_and_change_nothing() {
    let served = served();
    let store = with_token(&served, READ);
    let pool = PoolName::default();
    let name = DocumentName::fixed("alerts");
    block_on(async {
        store.read(&pool, None).await.unwrap();
        store.document(&name).await.unwrap();
        store.waiters(&pool, 10).await.unwrap();
        store.history(&pool, &Wanted { limit: 10, task: None }).await.unwrap();
        store.pools().await.unwrap();
        assert!(store.examine().await.iter().all(|remark| !remark.message.contains("canary")));
        let words = ["the token in the URL may only read", "the role `operate`", "server.tokens"];
        refused(stamped(&store).await, &words);
        refused(store.swap_document(&name, 0, "text").await.map(drop), &words);
        refused(store.open_mailbox().await.map(drop), &words);
    });
}

#[test]
fn wrong_and_missing_tokens_are_told_apart() {
    let served = served();
    let wrong = with_token(&served, "canary");
    let words = ["does not know the token in the URL", "http://:***@127.0.0.1", "server.tokens"];
    refused(block_on(stamped(&wrong)), &words);
    let without = HttpStore::open_with(&served.url(), |_| None).unwrap();
    refused(block_on(stamped(&without)), &["it wants a token", "GPULOCK_HTTP_TOKEN"]);
    let of_variable = HttpStore::open_with(&served.url(), |name| {
        (name == "GPULOCK_HTTP_TOKEN").then(|| "canary".to_owned())
    });
    let words = ["does not know the token in GPULOCK_HTTP_TOKEN"];
    refused(block_on(stamped(&of_variable.unwrap())), &words);
}

#[test]
fn a_server_that_repeats_a_token_does_not_make_it_known() {
    let served = served();
    let store = with_token(&served, "canary-of-a-teapot");
    refused(block_on(stamped(&store)), &["you showed Bearer ***"]);
}

#[test]
fn a_token_that_was_replaced_in_its_file_is_read_again() {
    let served = served();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "canary\n").unwrap();
    let store = HttpStore::open_with(&served.url(), |name| {
        (name == "GPULOCK_HTTP_TOKEN_FILE").then(|| file.to_str().unwrap().to_owned())
    });
    let store = store.unwrap();
    refused(block_on(stamped(&store)), &["the token in ", "/token"]);
    std::fs::write(&file, OPERATE).unwrap();
    block_on(stamped(&store)).unwrap();
}

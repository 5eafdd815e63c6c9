//! Whatever answers in place of a chat service is not believed, and gives no secret away.

use std::time::Duration;

use gpulock_alerts::{Channel, Failure, Reason};

use super::{FIRING, Reply, Server, TEXT, opened, send};

const TOKEN: &str = "s3cr3t-t0k3n-0123456789";
const SECRET: &str = "S1gn1ngS3cr3t";

/// All four, with one address.
fn channels(url: &str, timeout: Duration) -> Vec<Box<dyn Channel>> {
    vec![
        Box::new(opened!(slack, {"url": url}, timeout).unwrap()),
        Box::new(opened!(dingtalk, {"url": url, "secret": SECRET}, timeout).unwrap()),
        Box::new(opened!(wecom, {"url": url}, timeout).unwrap()),
        Box::new(opened!(feishu, {"url": url, "secret": SECRET}, timeout).unwrap()),
    ]
}

fn addresses(server: &Server) -> [String; 2] {
    [server.url(&format!("/hook/{TOKEN}")), server.url(&format!("/send?key={TOKEN}"))]
}

/// No secret, one line, not too long.
fn is_fit_to_be_shown(failure: &Failure) {
    let shown = &failure.detail;
    assert!(!shown.contains(TOKEN) && !shown.contains(SECRET), "{shown}");
    assert!(!shown.contains("sign="), "{shown}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.chars().count() < 400, "{shown}");
}

/// What each of the four makes of an answer.
async fn failures(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Vec<Failure> {
    let server = Server::start(move |_| reply()).await;
    let mut failures = Vec::new();
    for url in addresses(&server) {
        for channel in channels(&url, super::PATIENCE) {
            let before = server.asked().len();
            let failure = send(&*channel, FIRING, TEXT).await.unwrap_err();
            is_fit_to_be_shown(&failure);
            assert_eq!(server.asked().len(), before + 1, "{} tries by itself", channel.kind());
            failures.push(failure);
        }
    }
    failures
}

async fn all_fail(reason: Reason, reply: impl Fn() -> Reply + Send + Sync + 'static) {
    for failure in failures(reply).await {
        assert_eq!(failure.reason, reason, "{failure}");
    }
}

#[tokio::test]
async fn a_success_of_something_else_is_none() {
    all_fail(Reason::ServerError, || Reply::ok("")).await;
    all_fail(Reason::ServerError, || Reply::ok("{\"errcode\":0,\"code\":0,\"errm")).await;
    all_fail(Reason::ServerError, || Reply::ok("<html>\r\n\u{1b}[2J welcome")).await;
    all_fail(Reason::ServerError, || Reply::ok("{}")).await;
    all_fail(Reason::ServerError, || Reply::status(204, "")).await;
}

#[tokio::test]
async fn the_status_counts_where_there_is_no_code() {
    all_fail(Reason::ServerError, || Reply::status(502, "<html>Bad Gateway</html>")).await;
    all_fail(Reason::ServerError, || Reply::status(503, "{\"errcode\":0,\"code\":0}")).await;
    all_fail(Reason::AuthError, || Reply::status(403, "no")).await;
    all_fail(Reason::Gone, || Reply::status(410, "")).await;
    all_fail(Reason::ClientError, || Reply::status(404, "404 page not found")).await;
    all_fail(Reason::RateLimited, || Reply::status(429, "later").with("retry-after", "3")).await;
}

#[tokio::test]
async fn nobody_follows_a_redirect() {
    let elsewhere = Server::start(|_| Reply::ok("ok")).await;
    let url = elsewhere.url("/");
    for failure in failures(move || Reply::status(307, "").with("location", &url)).await {
        assert!(!failure.reason.may_pass(), "{failure:?}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_may_be_tried_again() {
    for failure in failures(|| Reply::HangUp("{\"errcode\":0,\"code\":0,\"m")).await {
        assert!(failure.reason.may_pass(), "{failure:?}");
    }
    let closed = Server::start(|_| Reply::Silence).await;
    let urls = addresses(&closed);
    drop(closed);
    for channel in urls.iter().flat_map(|url| channels(url, super::PATIENCE)) {
        // The listener goes away with its task; until then nobody answers.
        let failure = loop {
            let sent = tokio::time::timeout(Duration::from_secs(1), send(&*channel, FIRING, TEXT));
            if let Ok(sent) = sent.await {
                break sent.unwrap_err();
            }
        };
        is_fit_to_be_shown(&failure);
        assert_eq!(failure.reason, Reason::Unreachable, "{failure}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_time() {
    let server = Server::start(|_| Reply::Silence).await;
    for url in addresses(&server) {
        for channel in channels(&url, Duration::from_millis(200)) {
            let failure = send(&*channel, FIRING, TEXT).await.unwrap_err();
            is_fit_to_be_shown(&failure);
            assert_eq!(failure.reason, Reason::ContextDeadlineExceeded, "{failure}");
        }
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_repeated() {
    failures(|| Reply::ok("ok ".repeat(1_000_000))).await;
    let long = "x".repeat(3_000_000);
    failures(move || Reply::ok(format!("{{\"errcode\":1,\"code\":1,\"errmsg\":\"{long}\"}}")))
        .await;
}

#[tokio::test]
async fn an_answer_that_repeats_a_secret_does_not_give_it_away() {
    failures(|| Reply::status(400, format!("no such key: {TOKEN}"))).await;
    let said = |words| serde_json::json!({"errcode": 7, "errmsg": words, "code": 7, "msg": words});
    let server = Server::start(move |_| Reply::ok(said(format!("{TOKEN} or {SECRET}?")))).await;
    for url in addresses(&server) {
        let mut channels = channels(&url, super::PATIENCE);
        channels.retain(|channel| matches!(channel.kind(), "dingtalk" | "feishu"));
        assert_eq!(channels.len(), 2);
        for channel in channels {
            let failure = send(&*channel, FIRING, TEXT).await.unwrap_err();
            is_fit_to_be_shown(&failure);
            assert!(failure.detail.ends_with(" answered 7: *** or ***?"), "{failure}");
        }
    }
}

//! DingTalk.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpulock::core::alert::Urgency;
use gpulock_alerts::{Channel, Markup, Reason, Status};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{Asked, FIRING, Reply, Server, TEXT, opened, send};

const TOKEN: &str = "566cc69da782ec0123456789";
const SECRET: &str = "SEC0f5a3c7b9d2e4f6a";
const KEYWORD: &str = "监控报警";

/// How the robot is protected.
#[derive(Clone, Copy)]
enum Protection {
    Signature,
    Keyword,
}

/// Answers as `oapi.dingtalk.com` does: with status 200, whatever is wrong.
fn robot(protection: Protection) -> impl Fn(&Asked) -> Reply + Send + Sync {
    let heard = AtomicUsize::new(0);
    move |asked| {
        let refused = match protection {
            _ if asked.query("access_token").as_deref() != Some(TOKEN) => {
                Some((300_005, "token is not exist"))
            }
            _ if asked.headers["content-type"] != "application/json; charset=utf-8" => {
                Some((43_004, "无效的HTTP HEADER Content-Type"))
            }
            Protection::Signature if !is_signed(asked) => Some((310_000, "sign not match")),
            _ if asked.body.len() > 20_000 => Some((
                460_101,
                "description: body 大小不合法;solution:请保持大小在 20000bytes 以内;",
            )),
            Protection::Keyword if !markdown(asked).contains(KEYWORD) => {
                Some((310_000, "keywords not in content"))
            }
            _ if heard.fetch_add(1, Ordering::Relaxed) >= 20 => {
                Some((130_101, "send too fast, exceed 20 times per minute"))
            }
            _ => None,
        };
        let (errcode, errmsg) = refused.unwrap_or((0, "ok"));
        Reply::ok(json!({ "errcode": errcode, "errmsg": errmsg }))
    }
}

fn markdown(asked: &Asked) -> String {
    asked.json()["markdown"]["text"].as_str().unwrap().to_owned()
}

/// The time is one of milliseconds, not an hour away; the signature, decoded once, is right.
fn is_signed(asked: &Asked) -> bool {
    let (Some(timestamp), Some(sign)) = (asked.query("timestamp"), asked.query("sign")) else {
        return false;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{timestamp}\n{SECRET}").as_bytes());
    now.abs_diff(timestamp.parse().unwrap()) < 3_600_000
        && sign == STANDARD.encode(mac.finalize().into_bytes())
}

fn url(server: &Server) -> String {
    server.url(&format!("/robot/send?access_token={TOKEN}"))
}

#[tokio::test]
async fn a_signed_message_arrives() {
    let server = Server::start(robot(Protection::Signature)).await;
    let channel = opened!(dingtalk, {"url": (url(&server)), "secret": SECRET}).unwrap();
    assert_eq!((channel.kind(), channel.markup()), ("dingtalk", Markup::Markdown));
    // Signatures differ in how many characters have to be encoded; all of them must arrive.
    for _ in 0..20 {
        send(&channel, FIRING, TEXT).await.unwrap();
    }
    assert!(server.asked().iter().all(|asked| !asked.target.contains("%25")));
    let text = "#### [P1] hard timeout on GPU 0\n\nTask **ocr** holds GPU 0\n- host gpu1";
    let expected = json!({
        "msgtype": "markdown",
        "markdown": { "title": "[P1] hard timeout on GPU 0", "text": text },
        "at": { "atMobiles": [], "atUserIds": [], "isAtAll": false },
    });
    assert_eq!(server.json(), expected);
}

#[tokio::test]
async fn throttling_is_told_with_the_ten_minutes_it_lasts_although_http_says_200() {
    let server = Server::start(robot(Protection::Signature)).await;
    let channel = opened!(dingtalk, {"url": (url(&server)), "secret": SECRET}).unwrap();
    for _ in 0..20 {
        send(&channel, FIRING, TEXT).await.unwrap();
    }
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(600)));
    assert_eq!(
        failure.detail,
        "DingTalk answered 130101: send too fast, exceed 20 times per minute"
    );
}

#[tokio::test]
async fn a_wrong_secret_or_token_is_an_error_of_the_settings() {
    let server = Server::start(robot(Protection::Signature)).await;
    for (url, secret, said) in [
        (url(&server), "SECwrong00000000", "DingTalk answered 310000: sign not match"),
        (
            server.url("/robot/send?access_token=wrong0000"),
            SECRET,
            "DingTalk answered 300005: token is not exist",
        ),
    ] {
        let channel = opened!(dingtalk, {"url": url, "secret": secret}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        assert_eq!((failure.reason, failure.detail.as_str()), (Reason::AuthError, said));
        assert!(!failure.reason.may_pass());
    }
}

#[tokio::test]
async fn secrets_in_files_are_read_at_every_send() {
    let server = Server::start(robot(Protection::Signature)).await;
    let folder = tempfile::tempdir().unwrap();
    let (address, secret) = (folder.path().join("url"), folder.path().join("secret"));
    fs::write(&address, format!("{}\n", url(&server))).unwrap();
    fs::write(&secret, "SECold0000000000\n").unwrap();
    let at = |path: &std::path::Path| format!("@{}", path.display());
    let channel = opened!(dingtalk, {"url": (at(&address)), "secret": (at(&secret))}).unwrap();
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AuthError);
    fs::write(&secret, SECRET).unwrap();
    send(&channel, FIRING, TEXT).await.unwrap();
    fs::remove_file(&secret).unwrap();
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Local);
    assert!(failure.detail.contains(secret.to_str().unwrap()), "{failure}");
}

#[tokio::test]
async fn a_long_message_is_cut_to_what_dingtalk_takes_at_the_border_of_a_character() {
    let server = Server::start(robot(Protection::Signature)).await;
    let channel = opened!(dingtalk, {"url": (url(&server)), "secret": SECRET}).unwrap();
    for unit in ["限", "🔥", "\"", "\u{1}", "x", "行\n"] {
        let body = unit.repeat(30_000);
        send(&channel, FIRING, (&"题".repeat(500), &body)).await.unwrap();
        let asked = server.asked().pop().unwrap();
        assert!(asked.body.len() > 19_900, "{unit:?}: {}", asked.body.len());
        assert!(markdown(&asked).ends_with('…'), "{unit:?}");
    }
    let whole = "x".repeat(19_000);
    send(&channel, FIRING, ("t", &whole)).await.unwrap();
    assert_eq!(markdown(server.asked().last().unwrap()), format!("#### t\n\n{whole}"));
}

#[tokio::test]
async fn the_keyword_is_in_every_message_also_in_one_that_is_cut() {
    let server = Server::start(robot(Protection::Keyword)).await;
    let without = opened!(dingtalk, {"url": (url(&server))}).unwrap();
    let failure = send(&without, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AuthError);
    assert_eq!(failure.detail, "DingTalk answered 310000: keywords not in content");

    let channel = opened!(dingtalk, {"url": (url(&server)), "keyword": KEYWORD}).unwrap();
    send(&channel, FIRING, TEXT).await.unwrap();
    assert!(markdown(server.asked().last().unwrap()).ends_with(KEYWORD));
    let long = format!("{}{KEYWORD}", "限".repeat(30_000));
    send(&channel, FIRING, ("t", &long)).await.unwrap();
    assert_eq!(markdown(server.asked().last().unwrap()).matches(KEYWORD).count(), 1);
    send(&channel, FIRING, (KEYWORD, "b")).await.unwrap();
    assert_eq!(markdown(server.asked().last().unwrap()), format!("#### {KEYWORD}\n\nb"));
}

#[tokio::test]
async fn those_who_are_called_also_stand_in_the_text_and_only_if_it_is_urgent() {
    let server = Server::start(robot(Protection::Signature)).await;
    let channel = opened!(dingtalk, {
        "url": (url(&server)), "secret": SECRET, "mention_from": "P0",
        "at_mobiles": ["13800138000"], "at_user_ids": ["alice"], "at_all": true,
    })
    .unwrap();
    let long = "限".repeat(30_000);
    send(&channel, (Urgency::P0, Status::Firing), ("t", &long)).await.unwrap();
    let at = json!({
        "atMobiles": ["13800138000"], "atUserIds": ["alice"], "isAtAll": true,
    });
    assert_eq!(server.json()["at"], at);
    let text = markdown(server.asked().last().unwrap());
    assert!(text.ends_with("…\n\n@13800138000 @alice"), "{text}");
    for quiet in [(Urgency::P1, Status::Firing), (Urgency::P0, Status::Resolved)] {
        send(&channel, quiet, ("t", "b")).await.unwrap();
        let nobody = json!({ "atMobiles": [], "atUserIds": [], "isAtAll": false });
        assert_eq!(server.json()["at"], nobody);
        assert_eq!(markdown(server.asked().last().unwrap()), "#### t\n\nb");
    }
}

#[tokio::test]
async fn each_code_is_understood() {
    for (body, reason, seconds) in [
        (
            json!({"errcode": 310_000, "errmsg": "ip 1.2.3.4 not in whitelist"}),
            Reason::AuthError,
            None,
        ),
        (json!({"errcode": 300_001, "errmsg": "token is not exist"}), Reason::AuthError, None),
        (
            json!({"errcode": 410_100, "errmsg": "发送速度太快而限流"}),
            Reason::RateLimited,
            Some(600),
        ),
        (json!({"errcode": 660_026, "errmsg": "频率超限"}), Reason::RateLimited, Some(600)),
        (json!({"errcode": 999_999, "errmsg": "send too fast"}), Reason::RateLimited, Some(600)),
        (json!({"errcode": "130101", "errmsg": "text"}), Reason::RateLimited, Some(600)),
        (json!({"status": 1111, "wait": 5, "punish": "deny"}), Reason::RateLimited, Some(5)),
        (json!({"errcode": 400_102, "errmsg": "机器人已停用"}), Reason::Gone, None),
        (json!({"errcode": 101_002, "errmsg": "too large"}), Reason::ClientError, None),
        (json!({"errcode": 400_105, "errmsg": "unsupported msgtype"}), Reason::ClientError, None),
        (json!({"errcode": -1, "errmsg": "系统繁忙"}), Reason::ServerError, None),
        (json!({"errmsg": "ok"}), Reason::ServerError, None),
        (json!({"errcode": null, "errmsg": "ok"}), Reason::ServerError, None),
        (json!([0]), Reason::ServerError, None),
    ] {
        let shown = body.to_string();
        let server = Server::start(move |_| Reply::ok(&body)).await;
        let channel = opened!(dingtalk, {"url": (url(&server))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        let expected = (reason, seconds.map(Duration::from_secs));
        assert_eq!((failure.reason, failure.retry_after), expected, "{shown}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_load_without_their_secrets() {
    let refused = |trouble: String, part: &str| {
        assert!(trouble.contains(part), "{trouble}");
        assert!(!trouble.contains("B9sEcReT"), "{trouble}");
    };
    refused(opened!(dingtalk, {}).unwrap_err(), "either `url`");
    refused(
        opened!(dingtalk, {"url": "https://h/?a=B9sEcReT", "token": "B9sEcReT"}).unwrap_err(),
        "either `url`",
    );
    refused(opened!(dingtalk, {"url": "B9sEcReT"}).unwrap_err(), "no address");
    refused(
        opened!(dingtalk, {"token": "https://h/?access_token=B9sEcReT"}).unwrap_err(),
        "`access_token=`",
    );
    refused(
        opened!(dingtalk, {"url": "https://h/?access_token=B9sEcReT&sign=x"}).unwrap_err(),
        "leave them out",
    );
    refused(
        opened!(dingtalk, {"token": "B9sEcReT", "secret": "@/nowhere/secret"}).unwrap_err(),
        "/nowhere/secret",
    );
    refused(opened!(dingtalk, {"token": "B9sEcReT", "keyword": " "}).unwrap_err(), "`keyword`");
    refused(
        opened!(dingtalk, {"token": "B9sEcReT", "at_mobiles": ["alice"]}).unwrap_err(),
        "at_mobiles",
    );
    refused(opened!(dingtalk, {"token": "B9sEcReT", "mention_from": "P7"}).unwrap_err(), "P7");
    refused(opened!(dingtalk, {"token": "B9sEcReT", "at": []}).unwrap_err(), "unknown field `at`");
}

//! Feishu and Lark.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpulock::core::alert::Urgency;
use gpulock_alerts::{Channel, Markup, Reason, Status};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Asked, FIRING, Reply, Server, TEXT, opened, send};

const HOOK: &str = "/open-apis/bot/v2/hook/3f9c2d7e-5b1a-4c8d";
const SECRET: &str = "Kq7ZpX0vB2";

/// Answers as `open.feishu.cn` does.
fn bot(asked: &Asked) -> Reply {
    let said = asked.json();
    let refused = if asked.target != HOOK {
        Some((19_001, "param invalid: incoming webhook access token invalid"))
    } else if !is_signed(&said) {
        Some((19_021, "sign match fail or timestamp is not within one hour from current time"))
    } else if asked.body.len() > 20_000 || text(&said).is_none() {
        Some((9499, "Bad Request"))
    } else {
        None
    };
    match refused {
        Some((code, msg)) => Reply::ok(json!({ "code": code, "msg": msg, "data": {} })),
        None => Reply::ok(json!({
            "StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success",
        })),
    }
}

/// The time is one of seconds, as text; time and secret are the key of the signature.
fn is_signed(said: &Value) -> bool {
    let (Some(timestamp), Some(sign)) = (said["timestamp"].as_str(), said["sign"].as_str()) else {
        return false;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let key = format!("{timestamp}\n{SECRET}");
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    now.abs_diff(timestamp.parse().unwrap()) < 3600
        && sign == STANDARD.encode(mac.finalize().into_bytes())
}

fn text(said: &Value) -> Option<&str> {
    match said["msg_type"].as_str()? {
        "interactive" => said["card"]["elements"][0]["content"].as_str(),
        "text" => said["content"]["text"].as_str(),
        _ => None,
    }
}

#[tokio::test]
async fn a_signed_card_arrives_with_the_colour_of_its_urgency() {
    let server = Server::start(bot).await;
    let channel = opened!(feishu, {"url": (server.url(HOOK)), "secret": SECRET}).unwrap();
    assert_eq!((channel.kind(), channel.markup()), ("feishu", Markup::Markdown));
    for (urgency, status, colour) in [
        (Urgency::P0, Status::Firing, "carmine"),
        (Urgency::P1, Status::Firing, "red"),
        (Urgency::P2, Status::Firing, "orange"),
        (Urgency::Warning, Status::Firing, "yellow"),
        (Urgency::Info, Status::Firing, "blue"),
        (Urgency::P0, Status::Resolved, "green"),
    ] {
        send(&channel, (urgency, status), TEXT).await.unwrap();
        let title = json!({ "tag": "plain_text", "content": TEXT.0 });
        let card = json!({
            "config": { "wide_screen_mode": true },
            "header": { "template": colour, "title": title },
            "elements": [{ "tag": "markdown", "content": TEXT.1 }],
        });
        let said = server.json();
        assert_eq!((&said["msg_type"], &said["card"]), (&json!("interactive"), &card));
    }
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed_and_feishu_says_so() {
    let server = Server::start(bot).await;
    let channel = opened!(feishu, {"url": (server.url(HOOK))}).unwrap();
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AuthError);
    assert!(failure.detail.starts_with("Feishu answered 19021: sign match fail"), "{failure}");
    assert!(server.json().get("sign").is_none());
    let wrong = opened!(feishu, {"url": (server.url(HOOK)), "secret": "wrong00000"}).unwrap();
    assert_eq!(send(&wrong, FIRING, TEXT).await.unwrap_err().reason, Reason::AuthError);
    let gone = opened!(feishu, {"url": (server.url("/open-apis/bot/v2/hook/other"))}).unwrap();
    assert_eq!(send(&gone, FIRING, TEXT).await.unwrap_err().reason, Reason::AuthError);
}

#[tokio::test]
async fn a_long_message_is_cut_to_what_feishu_takes_and_keeps_keyword_and_calls() {
    let server = Server::start(bot).await;
    for format in ["card", "text"] {
        let channel = opened!(feishu, {
            "url": (server.url(HOOK)), "secret": SECRET, "format": format,
            "keyword": "gpulock", "at_user_ids": ["ou_1"], "at_all": true,
        })
        .unwrap();
        for unit in ["限", "🔥", "\"", "\u{1}", "x", "行\n", "<"] {
            let (title, body) = ("题".repeat(500), unit.repeat(30_000));
            send(&channel, FIRING, (&title, &body)).await.unwrap();
            let size = server.asked().last().unwrap().body.len();
            assert!(size > 19_900, "{format} {unit:?}: {size}");
            let said = server.json();
            let end = match format {
                "card" => "…\ngpulock\n<at id=ou_1></at><at id=all></at>",
                _ => "…\ngpulock\n<at user_id=\"ou_1\"></at><at user_id=\"all\"></at>",
            };
            assert!(text(&said).unwrap().ends_with(end), "{said}");
        }
    }
}

#[tokio::test]
async fn plain_text_cannot_call_anybody_by_itself() {
    let server = Server::start(bot).await;
    let channel = opened!(feishu, {
        "url": (server.url(HOOK)), "secret": SECRET, "format": "text", "at_all": true,
        "mention_from": "P1",
    })
    .unwrap();
    assert_eq!(channel.markup(), Markup::Plain);
    let task = "task <at user_id=\"all\">x</at>";
    send(&channel, (Urgency::P2, Status::Firing), (task, task)).await.unwrap();
    assert!(!text(&server.json()).unwrap().contains('<'));
    send(&channel, FIRING, ("t", "b")).await.unwrap();
    assert_eq!(text(&server.json()), Some("t\nb\n<at user_id=\"all\"></at>"));
    send(&channel, (Urgency::P0, Status::Resolved), ("t", "b")).await.unwrap();
    assert_eq!(text(&server.json()), Some("t\nb"));
}

#[tokio::test]
async fn older_answers_with_a_status_code_count() {
    let server =
        Server::start(|_| Reply::ok(json!({"StatusCode": 0, "StatusMessage": "success"}))).await;
    let channel = opened!(feishu, {"url": (server.url(HOOK))}).unwrap();
    send(&channel, FIRING, TEXT).await.unwrap();
    let both = json!({"code": 0, "msg": "success", "StatusCode": 19_024, "StatusMessage": "no"});
    let server = Server::start(move |_| Reply::ok(&both)).await;
    let channel = opened!(feishu, {"url": (server.url(HOOK))}).unwrap();
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.detail, "Feishu answered 19024: no");
}

#[tokio::test]
async fn each_code_is_understood() {
    const RESET: &str = "x-ogw-ratelimit-reset";
    let limited = "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]";
    // Status of HTTP, seconds until the limit is over, code and words; what is made of them.
    for (status, reset, code, msg, reason, seconds) in [
        (200, None, 11_232, limited, Reason::RateLimited, Some(60)),
        (200, None, 9499, "too many request", Reason::RateLimited, Some(60)),
        (200, None, 9499, "Bad Request", Reason::ClientError, None),
        (400, Some("7"), 99_991_400, "request trigger limit", Reason::RateLimited, Some(7)),
        (400, Some("8"), 1, "no", Reason::RateLimited, Some(8)),
        (429, None, 1, "no", Reason::RateLimited, Some(60)),
        (429, Some("9"), 1, "no", Reason::RateLimited, Some(9)),
        (400, None, 1, "no", Reason::ClientError, None),
        (500, None, 0, "success", Reason::ServerError, None),
        (200, None, 19_022, "Ip Not Allowed", Reason::AuthError, None),
        (200, None, 19_024, "Key Words Not Found", Reason::AuthError, None),
    ] {
        let server = Server::start(move |_| {
            let reply = Reply::status(status, json!({ "code": code, "msg": msg, "data": {} }));
            if let Some(reset) = reset { reply.with(RESET, reset) } else { reply }
        })
        .await;
        let channel = opened!(feishu, {"url": (server.url(HOOK))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        let expected = (reason, seconds.map(Duration::from_secs));
        assert_eq!((failure.reason, failure.retry_after), expected, "{failure}");
    }
}

#[tokio::test]
async fn a_throttled_answer_without_a_code_also_says_for_how_long() {
    for header in ["x-ogw-ratelimit-reset", "retry-after"] {
        let reply = move |_: &Asked| Reply::status(429, "slow down").with(header, "9");
        let server = Server::start(reply).await;
        let channel = opened!(feishu, {"url": (server.url(HOOK))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        let expected = (Reason::RateLimited, Some(Duration::from_secs(9)));
        assert_eq!((failure.reason, failure.retry_after), expected, "{header}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_load() {
    for (trouble, part) in [
        (opened!(feishu, {}).unwrap_err(), "missing field `url`"),
        (opened!(feishu, {"url": "@/nowhere/url"}).unwrap_err(), "/nowhere/url"),
        (opened!(feishu, {"url": "https://h/x", "format": "post"}).unwrap_err(), "post"),
        (opened!(feishu, {"url": "https://h/x", "keyword": ""}).unwrap_err(), "`keyword`"),
        (opened!(feishu, {"url": "https://h/x", "at_user_ids": ["张三"]}).unwrap_err(), "no id"),
        (opened!(feishu, {"url": "https://h/x", "at_mobiles": []}).unwrap_err(), "at_mobiles"),
    ] {
        assert!(trouble.contains(part), "{trouble}");
    }
}

//! WeCom.

use std::time::Duration;

use gpulock::core::alert::Urgency;
use gpulock_alerts::{Channel, Markup, Reason, Status};
use serde_json::{Value, json};

use super::{Asked, FIRING, Reply, Server, TEXT, opened, send};

const KEY: &str = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa";

/// Answers as `qyapi.weixin.qq.com` does: with status 200, whatever is wrong.
fn robot(asked: &Asked) -> Reply {
    let said = asked.json();
    let kind = said["msgtype"].as_str().unwrap();
    let length = said[kind]["content"].as_str().unwrap().len();
    let (errcode, errmsg) = match kind {
        _ if asked.query("key").as_deref() != Some(KEY) => (93_000, "invalid webhook url"),
        "markdown" if length > 4096 => (40_058, "markdown.content exceed max length 4096"),
        "text" if length > 2048 => (40_058, "text.content exceed max length 2048"),
        "markdown" if said["markdown"].as_object().unwrap().len() > 1 => {
            (40_058, "mentioned_list is not known in markdown")
        }
        "markdown" | "text" => (0, "ok"),
        _ => (40_008, "invalid message type"),
    };
    let hint = "hint: [1755605200056773468916791], from ip: 192.0.2.87";
    let errmsg = if errcode == 0 { errmsg.to_owned() } else { format!("{errmsg}, {hint}") };
    Reply::ok(json!({ "errcode": errcode, "errmsg": errmsg }))
}

fn url(server: &Server) -> String {
    server.url(&format!("/cgi-bin/webhook/send?key={KEY}"))
}

#[tokio::test]
async fn a_message_arrives_as_markdown() {
    let server = Server::start(robot).await;
    let channel = opened!(wecom, {"url": (url(&server))}).unwrap();
    assert_eq!((channel.kind(), channel.markup()), ("wecom", Markup::Markdown));
    send(&channel, FIRING, TEXT).await.unwrap();
    let content = "**[P1] hard timeout on GPU 0**\nTask **ocr** holds GPU 0\n- host gpu1";
    let expected = json!({ "msgtype": "markdown", "markdown": { "content": content } });
    assert_eq!(server.json(), expected);
}

#[tokio::test]
async fn a_long_message_is_cut_to_what_wecom_takes_at_the_border_of_a_character() {
    let server = Server::start(robot).await;
    let ids = opened!(wecom, {"url": (url(&server)), "at_user_ids": ["alice"]}).unwrap();
    let all = opened!(wecom, {"url": (url(&server)), "at_all": true}).unwrap();
    for unit in ["限", "🔥", "\"", "x", "行\n", "<"] {
        let body = unit.repeat(5000);
        let title = "题".repeat(500);
        send(&ids, FIRING, (&title, &body)).await.unwrap();
        let sent = server.json();
        let content = sent["markdown"]["content"].as_str().unwrap();
        assert!(content.len() > 4080 && content.ends_with("…\n<@alice>"), "{}", content.len());
        send(&all, FIRING, (&title, &body)).await.unwrap();
        let sent = server.json();
        let content = sent["text"]["content"].as_str().unwrap();
        assert!(content.len() > 2030 && content.ends_with('…'), "{}", content.len());
    }
}

#[tokio::test]
async fn telephone_numbers_and_everybody_are_called_in_plain_text() {
    let server = Server::start(robot).await;
    let channel = opened!(wecom, {
        "url": (url(&server)), "at_mobiles": ["13800138000"], "at_user_ids": ["alice"],
        "at_all": true, "mention_from": "P1",
    })
    .unwrap();
    assert_eq!(channel.markup(), Markup::Plain);
    send(&channel, FIRING, ("t", "task <@bob> & co")).await.unwrap();
    let text = json!({
        "content": "t\ntask ＜@bob＞ & co",
        "mentioned_list": ["alice", "@all"],
        "mentioned_mobile_list": ["13800138000"],
    });
    assert_eq!(server.json(), json!({ "msgtype": "text", "text": text }));
    for quiet in [(Urgency::P2, Status::Firing), (Urgency::P0, Status::Resolved)] {
        send(&channel, quiet, ("t", "b")).await.unwrap();
        let expected = json!({ "msgtype": "text", "text": { "content": "t\nb" } });
        assert_eq!(server.json(), expected);
    }
}

#[tokio::test]
async fn user_ids_are_called_in_markdown() {
    let server = Server::start(robot).await;
    let channel = opened!(wecom, {
        "url": (url(&server)), "at_user_ids": ["alice", "bob"], "mention_from": "P1",
    })
    .unwrap();
    assert_eq!(channel.markup(), Markup::Markdown);
    send(&channel, FIRING, ("<@all>", "b")).await.unwrap();
    assert_eq!(server.json()["markdown"]["content"], "**＜@all＞**\nb\n<@alice><@bob>");
    send(&channel, (Urgency::Info, Status::Firing), ("t", "b")).await.unwrap();
    assert_eq!(server.json()["markdown"]["content"], "**t**\nb");
}

#[tokio::test]
async fn each_code_is_understood() {
    let answer = |code: i64, words: &str| json!({ "errcode": code, "errmsg": words });
    let limited = "api freq out of limit, hint: [1773], from ip: 192.0.2.1";
    for (body, reason, seconds) in [
        (answer(45_009, limited), Reason::RateLimited, Some(60)),
        (answer(93_000, "invalid webhook url"), Reason::AuthError, None),
        (answer(93_004, "robot is stopped"), Reason::Gone, None),
        (answer(40_058, "exceed max length"), Reason::ClientError, None),
        (answer(-1, "system busy"), Reason::ServerError, None),
        (Value::Null, Reason::ServerError, None),
    ] {
        let shown = body.to_string();
        let server = Server::start(move |_| Reply::ok(&body)).await;
        let channel = opened!(wecom, {"url": (url(&server))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        let expected = (reason, seconds.map(Duration::from_secs));
        assert_eq!((failure.reason, failure.retry_after), expected, "{shown}");
        assert!(failure.detail.starts_with("WeCom answered "), "{failure}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_with_what_wecom_said() {
    let server = Server::start(robot).await;
    let wrong = server.url("/cgi-bin/webhook/send?key=wrong-key-0000");
    let channel = opened!(wecom, {"url": wrong}).unwrap();
    let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
    assert_eq!(failure.reason, Reason::AuthError);
    assert!(failure.detail.starts_with("WeCom answered 93000: invalid webhook url, hint: ["));
}

#[test]
fn settings_that_cannot_work_are_refused_at_load() {
    for (trouble, part) in [
        (opened!(wecom, {}).unwrap_err(), "either `url`"),
        (opened!(wecom, {"url": "https://h/?key=a", "key": "a"}).unwrap_err(), "either `url`"),
        (opened!(wecom, {"key": "https://h/?key=a"}).unwrap_err(), "`key=`"),
        (opened!(wecom, {"key": "a", "at_user_ids": ["@all"]}).unwrap_err(), "`at_all: true`"),
        (opened!(wecom, {"key": "a", "secret": "b"}).unwrap_err(), "unknown field `secret`"),
    ] {
        assert!(trouble.contains(part), "{trouble}");
    }
}

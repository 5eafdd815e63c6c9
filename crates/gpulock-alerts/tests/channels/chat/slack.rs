//! Slack.

use std::time::Duration;

use gpulock::core::alert::Urgency;
use gpulock_alerts::{Channel, Markup, Reason, Status};
use serde_json::{Value, json};

use super::{Asked, FIRING, Reply, Server, TEXT, opened, send};

const HOOK: &str = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";

/// Answers as `hooks.slack.com` does.
fn slack(asked: &Asked) -> Reply {
    if asked.target != HOOK {
        return Reply::status(404, "no_service");
    }
    let said = asked.json();
    let mut blocks: Vec<&Value> = said["blocks"].as_array().unwrap().iter().collect();
    for attachment in said["attachments"].as_array().into_iter().flatten() {
        blocks.extend(attachment["blocks"].as_array().unwrap());
    }
    let length = |block: &Value| block["text"]["text"].as_str().unwrap().encode_utf16().count();
    let sound = |block: &&Value| match block["type"].as_str().unwrap() {
        "header" => block["text"]["type"] == "plain_text" && (1..=150).contains(&length(block)),
        "section" => (1..=3000).contains(&length(block)),
        _ => false,
    };
    let whole: usize = blocks.iter().map(|block| length(block)).sum();
    match () {
        () if said["text"].as_str().unwrap().is_empty() => Reply::status(400, "no_text"),
        () if blocks.len() > 50 || !blocks.iter().all(sound) => {
            Reply::status(400, "invalid_blocks")
        }
        () if whole > 12_000 => Reply::status(400, "msg_blocks_too_long"),
        () => Reply::ok("ok"),
    }
}

#[tokio::test]
async fn a_message_arrives_with_the_colour_of_its_urgency() {
    let server = Server::start(slack).await;
    let channel = opened!(slack, {"url": (server.url(HOOK))}).unwrap();
    assert_eq!((channel.kind(), channel.markup()), ("slack", Markup::Slack));
    for (urgency, status, colour) in [
        (Urgency::P0, Status::Firing, "#8b0000"),
        (Urgency::P1, Status::Firing, "#e01e5a"),
        (Urgency::P2, Status::Firing, "#e8912d"),
        (Urgency::Warning, Status::Firing, "#ecb22e"),
        (Urgency::Info, Status::Firing, "#36c5f0"),
        (Urgency::P0, Status::Resolved, "#2eb886"),
    ] {
        send(&channel, (urgency, status), ("P1 <!channel> & more", "*ocr* &lt;b&gt;"))
            .await
            .unwrap();
        let head = json!({ "type": "plain_text", "text": "P1 <!channel> & more", "emoji": false });
        let text = json!({ "type": "mrkdwn", "text": "*ocr* &lt;b&gt;", "verbatim": true });
        let section = json!({ "type": "section", "text": text });
        let expected = json!({
            "text": "P1 &lt;!channel&gt; &amp; more",
            "blocks": [{ "type": "header", "text": head }],
            "attachments": [{ "color": colour, "blocks": [section] }],
        });
        assert_eq!(server.json(), expected);
    }
}

#[tokio::test]
async fn messages_of_every_length_are_cut_to_what_slack_takes() {
    let server = Server::start(slack).await;
    let channel = opened!(slack, {"url": (server.url(HOOK))}).unwrap();
    for unit in ["x", "限", "🔥", "&amp;", "a line of words\n", "<https://h.example/x|two words>"]
    {
        for times in [1, 100, 3000, 100_000] {
            let (title, body) = (unit.trim().repeat(times), unit.repeat(times));
            send(&channel, FIRING, (&title, &body)).await.unwrap();
        }
        assert!(server.asked().last().unwrap().body.len() > 8000, "{unit}");
    }
    send(&channel, FIRING, ("", "")).await.unwrap();
    assert_eq!(server.json().get("attachments"), None);
}

#[tokio::test]
async fn only_ok_is_success_and_each_refusal_is_understood() {
    for (status, said, reason, seconds) in [
        (404, "no_service", Reason::AuthError, None),
        (403, "invalid_token", Reason::AuthError, None),
        (403, "action_prohibited", Reason::AuthError, None),
        (404, "no_team", Reason::AuthError, None),
        (410, "channel_is_archived", Reason::Gone, None),
        (404, "channel_not_found", Reason::Gone, None),
        (404, "no_active_hooks", Reason::Gone, None),
        (400, "invalid_payload", Reason::ClientError, None),
        (400, "invalid_blocks", Reason::ClientError, None),
        (429, "rate_limited", Reason::RateLimited, Some(30)),
        (500, "rollup_error", Reason::ServerError, None),
        (200, "okay", Reason::ServerError, None),
        (200, "<html>Log in to the guest network</html>", Reason::ServerError, None),
    ] {
        let server = Server::start(move |_| Reply::status(status, said)).await;
        let channel = opened!(slack, {"url": (server.url(HOOK))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        let expected = (reason, seconds.map(Duration::from_secs));
        assert_eq!((failure.reason, failure.retry_after), expected, "{said}");
        assert_eq!(failure.detail, format!("Slack answered HTTP {status}: {said}"));
    }
}

#[tokio::test]
async fn the_pause_that_slack_demands_is_passed_on() {
    for (given, seconds) in [("1", 1), ("120", 120), ("nonsense", 30), ("999999", 86_400)] {
        let reply = move |_: &Asked| Reply::status(429, "rate_limited").with("Retry-After", given);
        let server = Server::start(reply).await;
        let channel = opened!(slack, {"url": (server.url(HOOK))}).unwrap();
        let failure = send(&channel, FIRING, TEXT).await.unwrap_err();
        assert_eq!(failure.retry_after, Some(Duration::from_secs(seconds)), "{given}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_load() {
    for (trouble, part) in [
        (opened!(slack, {}).unwrap_err(), "missing field `url`"),
        (opened!(slack, {"url": ""}).unwrap_err(), "an empty secret"),
        (opened!(slack, {"url": "hooks.slack.com/services/T0"}).unwrap_err(), "https://"),
        (opened!(slack, {"url": "https://h/x", "channel": "#ops"}).unwrap_err(), "channel"),
    ] {
        assert!(trouble.contains(part), "{trouble}");
    }
}

//! Webhooks, PagerDuty, Alertmanager.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpulock::core::Time;
use gpulock::core::alert::Labels;
use gpulock_alerts::channels::{Around, alertmanager, pagerduty, webhook};
use gpulock_alerts::http::Poster;
use gpulock_alerts::{
    Channel, Failure, Message, Notification, NotifiedAlert, Reason, Status, Text,
};
use gpulock_testbed::RedisServer;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use super::server::{Received, Reply, Server};

/// More than any exchange needs that gets an answer.
const LONG: Duration = Duration::from_secs(60);

const ROUTING_KEY: &str = "R0123456789abcdefghijklmnopqrstu";

/// What a channel that may ask this machine needs to open.
pub(crate) fn around() -> Around {
    Around { name: "tested".to_owned(), poster: Poster::new(LONG, true).unwrap() }
}

/// An alert about this GPU, which began a while ago.
pub(crate) fn alert(status: Status, severity: &str, gpu: &str) -> NotifiedAlert {
    let labels: Labels = [
        ("alertname", "GPU_LOCK_HARD_TIMEOUT"),
        ("severity", severity),
        ("pool", "default"),
        ("gpu", gpu),
        ("host", "gpu1.example"),
    ]
    .into_iter()
    .collect();
    let annotations = [
        ("summary", "A lease is past its hard limit."),
        ("description", "nightly-ocr \"holds\" GPU\n\u{4e00}\u{5f20}"),
        ("lease_id", "00112233445566778899aabbccddeeff"),
        ("runbook_url", "https://docs.example/runbook#hard"),
    ];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
    NotifiedAlert {
        status,
        fingerprint: labels.fingerprint(),
        labels,
        annotations: annotations.into_iter().collect(),
        starts_at: ago(120),
        ends_at: (status == Status::Resolved).then(|| ago(5)),
        generator_url: "https://gpulock.example/alerts".to_owned(),
        count: 3,
    }
}

pub(crate) fn notification(alerts: Vec<NotifiedAlert>) -> Notification {
    let is_over = alerts.iter().all(|alert| alert.status == Status::Resolved);
    Notification {
        id: "msg_2f7e1d".to_owned(),
        version: "4",
        group_key: "default:GPU_LOCK_HARD_TIMEOUT".to_owned(),
        truncated_alerts: 0,
        status: if is_over { Status::Resolved } else { Status::Firing },
        receiver: "tested".to_owned(),
        group_labels: Labels::default().with("pool", "default"),
        common_labels: Labels::common(alerts.iter().map(|alert| &alert.labels)),
        common_annotations: BTreeMap::new(),
        external_url: "https://gpulock.example".to_owned(),
        reason: "first".to_owned(),
        count: alerts.iter().map(|alert| alert.count).sum(),
        alerts,
    }
}

/// Delivers a message of these alerts, once.
pub(crate) async fn send(channel: &dyn Channel, alerts: Vec<NotifiedAlert>) -> Result<(), Failure> {
    let text = Text { title: "P0 default".to_owned(), body: "line 1\nline 2".to_owned() };
    let notification = notification(alerts);
    channel.send(&Message { notification: &notification, text: &text }).await
}

fn ago(seconds: u64) -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    Time::from_micros(u64::try_from(now).unwrap() - seconds * 1_000_000)
}

fn firing() -> Vec<NotifiedAlert> {
    vec![alert(Status::Firing, "P0", "0")]
}

fn webhook(settings: Value) -> Result<webhook::Webhook, String> {
    let settings: webhook::Settings =
        serde_json::from_value(settings).map_err(|e| e.to_string())?;
    settings.open(&around())
}

fn pagerduty(server: &Server) -> pagerduty::PagerDuty {
    let settings = json!({"routing_key": ROUTING_KEY, "url": server.url("/v2/enqueue").as_str()});
    let settings: pagerduty::Settings = serde_json::from_value(settings).unwrap();
    settings.open(&around()).unwrap()
}

fn alertmanager(settings: Value) -> Result<alertmanager::Alertmanager, String> {
    let settings: alertmanager::Settings =
        serde_json::from_value(settings).map_err(|e| e.to_string())?;
    settings.open(&around())
}

mod webhooks {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// As the libraries of Standard Webhooks check a message.
    fn verified(received: &Received) -> bool {
        let (id, seconds) = (received.header("webhook-id"), received.header("webhook-timestamp"));
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(&received.body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let is_fresh = seconds.parse::<u64>().is_ok_and(|then| now.abs_diff(then) <= 300);
        received.header("webhook-signature").split(' ').any(|one| {
            let signature = one.strip_prefix("v1,").and_then(|one| STANDARD.decode(one).ok());
            signature.is_some_and(|signature| mac.clone().verify_slice(&signature).is_ok())
        }) && is_fresh
    }

    #[tokio::test]
    async fn the_body_is_that_of_alertmanager() {
        let server = Server::start(|_| Reply::new(204, "")).await;
        let channel = webhook(json!({"url": server.url("/hook").as_str()})).unwrap();
        let alerts = vec![alert(Status::Firing, "P0", "0"), alert(Status::Resolved, "P2", "1")];
        send(&channel, alerts.clone()).await.unwrap();
        let received = server.only();
        assert_eq!((&*received.method, &*received.path), ("POST", "/hook"));
        assert_eq!(received.header("content-type"), "application/json");
        assert!(received.header("user-agent").starts_with("gpulock/"));
        let body = received.json();
        for (name, value) in [
            ("version", json!("4")),
            ("groupKey", json!("default:GPU_LOCK_HARD_TIMEOUT")),
            ("truncatedAlerts", json!(0)),
            ("status", json!("firing")),
            ("receiver", json!("tested")),
            ("groupLabels", json!({"pool": "default"})),
            ("commonAnnotations", json!({})),
            ("externalURL", json!("https://gpulock.example")),
            ("notification_reason", json!("first")),
        ] {
            assert_eq!(body[name], value, "{name}");
        }
        assert_eq!(body["commonLabels"]["host"], "gpu1.example");
        let (first, second) = (&body["alerts"][0], &body["alerts"][1]);
        assert_eq!(first["fingerprint"], alerts[0].fingerprint.as_str());
        assert_eq!(first["endsAt"], "0001-01-01T00:00:00Z");
        assert_eq!(second["status"], "resolved");
        let ends: Timestamp = second["endsAt"].as_str().unwrap().parse().unwrap();
        assert!(ends > second["startsAt"].as_str().unwrap().parse().unwrap());
    }

    #[tokio::test]
    async fn a_signature_can_be_checked_and_the_id_stays() {
        let server = Server::start(|received| match verified(received) {
            true => Reply::new(200, ""),
            false => Reply::new(401, "bad signature"),
        })
        .await;
        let url = server.url("/hook").to_string();
        let prefixed = format!("whsec_{}", STANDARD.encode(KEY));
        for secret in [prefixed.clone(), STANDARD.encode(KEY)] {
            let channel = webhook(json!({"url": url, "secret": secret})).unwrap();
            send(&channel, firing()).await.unwrap();
        }
        let ids = server.received();
        let ids: Vec<_> = ids.iter().map(|received| received.header("webhook-id")).collect();
        assert_eq!(ids, ["msg_2f7e1d", "msg_2f7e1d"]);
        let wrong = STANDARD.encode(b"another key of thirty-two bytes!");
        let channel = webhook(json!({"url": url, "secret": wrong})).unwrap();
        let failure = send(&channel, firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::AuthError);
        assert!(failure.detail.contains("\"bad signature\""), "{failure}");
        for wrong in [json!("not base64!"), json!("whsec_c2hvcnQ="), json!("@/nowhere/secret")] {
            webhook(json!({"url": url, "secret": wrong})).unwrap_err();
        }
    }

    #[tokio::test]
    async fn the_simple_form_is_for_gateways() {
        let server = Server::start(|_| Reply::new(200, "")).await;
        let settings = json!({"url": server.url("/sms").as_str(), "form": "simple"});
        send(&webhook(settings).unwrap(), firing()).await.unwrap();
        let wanted = json!({
            "title": "P0 default", "text": "line 1\nline 2", "status": "firing",
            "severity": "P0", "group_key": "default:GPU_LOCK_HARD_TIMEOUT", "reason": "first",
            "count": 3,
        });
        assert_eq!(server.only().json(), wanted);
    }

    #[tokio::test]
    async fn credentials_and_headers_go_with_it_and_come_out_of_files() {
        let server = Server::start(|_| Reply::new(200, "")).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-a-file\n").unwrap();
        let url = server.url("/").to_string();
        let token = format!("@{}", file.display());
        let headers = json!({"x-gateway": "blue", "Content-Type": "application/vnd.x+json"});
        let channel = webhook(json!({"url": url, "token": token, "headers": headers})).unwrap();
        send(&channel, firing()).await.unwrap();
        std::fs::write(&file, "renewed").unwrap();
        send(&channel, firing()).await.unwrap();
        let basic = json!({"username": "bob", "password": "pa:ss"});
        let channel = webhook(json!({"url": url, "basic_auth": basic})).unwrap();
        send(&channel, firing()).await.unwrap();
        let received = server.received();
        let shown: Vec<_> = received.iter().map(|one| one.header("authorization")).collect();
        let basic = format!("Basic {}", STANDARD.encode("bob:pa:ss"));
        assert_eq!(shown, ["Bearer from-a-file", "Bearer renewed", &basic]);
        assert_eq!(received[0].header("x-gateway"), "blue");
        assert_eq!(received[0].header("content-type"), "application/vnd.x+json");
    }

    #[tokio::test]
    async fn only_2xx_is_success_whatever_is_in_it() {
        let server = Server::start(|received| match received.path.as_str() {
            "/cut" => Reply::Cut { status: 200, body: "thank you".to_owned() },
            "/gone" => Reply::new(410, ""),
            "/busy" => Reply::new(429, "slow down").with("retry-after", "7"),
            "/down" => Reply::new(503, "").with("retry-after", "9"),
            "/else" => Reply::new(302, "").with("location", "/elsewhere"),
            _ => Reply::new(400, "no"),
        })
        .await;
        let sent = async |path| {
            let channel = webhook(json!({"url": server.url(path).as_str()})).unwrap();
            send(&channel, firing()).await
        };
        assert_eq!(sent("/cut").await, Ok(()));
        for (path, reason, seconds) in [
            ("/gone", Reason::Gone, None),
            ("/busy", Reason::RateLimited, Some(7)),
            ("/down", Reason::ServerError, Some(9)),
            ("/else", Reason::ClientError, None),
            ("/wrong", Reason::ClientError, None),
        ] {
            let failure = sent(path).await.unwrap_err();
            assert_eq!(failure.reason, reason, "{path}");
            assert_eq!(failure.retry_after, seconds.map(Duration::from_secs), "{path}");
        }
        assert_eq!(server.received().len(), 6, "nobody was followed, and nothing sent twice");
    }

    #[test]
    fn what_is_wrong_is_told_at_load_without_secrets() {
        let fine = "https://hooks.example/very-secret-path";
        for (settings, words) in [
            (json!({"url": "hooks.example/very-secret-path"}), "write https://"),
            (json!({"url": "https://a:very-secret@hooks.example/"}), "user@host"),
            (json!({"url": "http://169.254.169.254/very-secret"}), "metadata"),
            (json!({"url": "@/nowhere/url"}), "/nowhere/url"),
            (json!({"url": fine, "headers": {"Host": "very-secret"}}), "cannot be set"),
            (json!({"url": fine, "headers": {"x y": "very-secret"}}), "HTTP forbids"),
            (json!({"url": fine, "headers": {"x": "very-secret\n1"}}), "HTTP forbids"),
            (json!({"url": fine, "token": "very-secret\n1"}), "HTTP forbids"),
            (
                json!({"url": fine, "token": "very-secret", "headers": {"Authorization": "x"}}),
                "exclude each other",
            ),
            (json!({"url": fine, "secret": "very-secret"}), "openssl rand"),
            (json!({"url": fine, "ca": "/nowhere/ca.pem"}), "/nowhere/ca.pem"),
            (json!({"url": fine, "form": "xml"}), "simple"),
            (json!({"url": fine, "colour": "red"}), "colour"),
        ] {
            let error = webhook(settings.clone()).unwrap_err();
            assert!(error.contains(words), "{settings}: {error}");
            assert!(!error.contains("very-secret"), "{settings}: {error}");
        }
        let shown = format!("{:?}", webhook(json!({"url": fine, "token": "hunter2"})).unwrap());
        assert!(!shown.contains("very-secret") && !shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn an_authority_of_ones_own_can_be_named() {
        let files = RedisServer::with_tls();
        let server = Server::with_tls(&files.ca_file(), |_| Reply::new(200, "")).await;
        let url = server.url_by("localhost", "/hook").to_string();
        let trusting = webhook(json!({"url": url, "ca": files.ca_file()})).unwrap();
        send(&trusting, firing()).await.unwrap();
        let failure = send(&webhook(json!({"url": url})).unwrap(), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Unreachable);
    }
}

mod events_of_pagerduty {
    use super::*;

    /// Answers as <https://developer.pagerduty.com/docs/send-alert-event> has it.
    fn enqueue(received: &Received) -> Reply {
        if received.body.len() > 512_000 {
            return Reply::new(413, r#"{"status":"payload too large"}"#);
        }
        let invalid = |error: &str| {
            let errors = json!({
                "status": "invalid event", "message": "Event object is invalid", "errors": [error],
            });
            Reply::new(400, errors.to_string())
        };
        let Ok(event) = serde_json::from_slice::<Value>(&received.body) else {
            return invalid("JSON is malformed");
        };
        if event["routing_key"] != ROUTING_KEY {
            return invalid("Invalid routing key");
        }
        let key = event["dedup_key"].as_str().unwrap_or_default();
        if key.is_empty() || key.chars().count() > 255 {
            return invalid("'dedup_key' is missing or too long");
        }
        let payload = &event["payload"];
        let is_known = |value: &Value, known: &[&str]| known.iter().any(|one| value == one);
        match event["event_action"].as_str() {
            Some("resolve") => {}
            Some("trigger") => {
                let summary = payload["summary"].as_str().unwrap_or_default();
                if summary.is_empty() || summary.chars().count() > 1024 {
                    return invalid("'payload.summary' is missing or too long");
                }
                if payload["source"].as_str().unwrap_or_default().is_empty() {
                    return invalid("'payload.source' is missing or blank");
                }
                if !is_known(&payload["severity"], &["critical", "error", "warning", "info"]) {
                    return invalid("'payload.severity' is invalid");
                }
            }
            _ => return invalid("'event_action' is invalid"),
        }
        let taken = json!({"status": "success", "message": "Event processed", "dedup_key": key});
        Reply::new(202, taken.to_string())
    }

    fn events(server: &Server) -> BTreeMap<String, Value> {
        let events = server.received().into_iter().map(|received| received.json());
        events.map(|event| (event["dedup_key"].as_str().unwrap().to_owned(), event)).collect()
    }

    #[tokio::test]
    async fn each_alert_is_triggered_and_resolved_by_its_fingerprint() {
        let server = Server::start(enqueue).await;
        let channel = pagerduty(&server);
        let (fires, is_over) =
            (alert(Status::Firing, "P1", "0"), alert(Status::Resolved, "P0", "1"));
        send(&channel, vec![fires.clone(), is_over.clone()]).await.unwrap();
        let events = events(&server);
        assert_eq!(events.len(), 2);
        let trigger = &events[fires.fingerprint.as_str()];
        assert_eq!(trigger["event_action"], "trigger");
        let payload = &trigger["payload"];
        for (name, value) in [
            ("summary", "A lease is past its hard limit."),
            ("source", "gpu1.example"),
            ("severity", "error"),
            ("component", "0"),
            ("group", "default"),
            ("class", "GPU_LOCK_HARD_TIMEOUT"),
        ] {
            assert_eq!(payload[name], value, "{name}");
        }
        assert!(payload["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
        assert_eq!(payload["custom_details"]["lease_id"], "00112233445566778899aabbccddeeff");
        assert_eq!(payload["custom_details"]["count"], 3);
        let link = json!({"href": "https://docs.example/runbook#hard", "text": "Runbook"});
        assert_eq!(trigger["links"][0], link);
        let resolve = &events[is_over.fingerprint.as_str()];
        assert_eq!(resolve["event_action"], "resolve");
        assert_eq!(server.received()[0].path, "/v2/enqueue");
    }

    #[tokio::test]
    async fn levels_become_severities() {
        let server = Server::start(enqueue).await;
        let channel = pagerduty(&server);
        for (level, severity) in [
            ("P0", "critical"),
            ("P1", "error"),
            ("P2", "warning"),
            ("warning", "warning"),
            ("info", "info"),
        ] {
            send(&channel, vec![alert(Status::Firing, level, "0")]).await.unwrap();
            let event = server.received().pop().unwrap().json();
            assert_eq!(event["payload"]["severity"], severity, "{level}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_sent_without_its_details() {
        let server = Server::start(enqueue).await;
        let mut large = alert(Status::Firing, "P0", "0");
        large.annotations.insert("output".to_owned(), "\u{5f20}\"\n".repeat(200_000));
        large.annotations.insert("summary".to_owned(), "\u{5f20}".repeat(3000));
        large.labels.set("host", "h".repeat(3000));
        send(&pagerduty(&server), vec![large]).await.unwrap();
        let event = server.only().json();
        let summary = event["payload"]["summary"].as_str().unwrap();
        assert_eq!(summary.chars().count(), 1024);
        assert!(summary.ends_with("\u{5f20}\u{2026}"));
        assert_eq!(event["payload"]["custom_details"].as_object().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn only_202_is_success() {
        let server = Server::start(|_| Reply::new(200, r#"{"status":"success"}"#)).await;
        let failure = send(&pagerduty(&server), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ClientError);
        let server = Server::start(|_| Reply::new(429, "").with("retry-after", "30")).await;
        let failure = send(&pagerduty(&server), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::RateLimited);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(30)));
        let server = Server::start(|_| Reply::new(500, "<html>oops</html>")).await;
        let failure = send(&pagerduty(&server), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerError);
        let server = Server::start(|_| Reply::Cut { status: 202, body: "{\"stat\"}".to_owned() });
        assert_eq!(send(&pagerduty(&server.await), firing()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_refusal_is_quoted_without_the_key() {
        let said = format!(
            r#"{{"status":"invalid event","message":"Event object is invalid","errors":["Invalid routing key {ROUTING_KEY}"]}}"#
        );
        let server = Server::start(move |_| Reply::new(400, said.clone())).await;
        let failure = send(&pagerduty(&server), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::AuthError);
        assert!(failure.detail.contains("Event object is invalid: Invalid routing key ***"));
        let server = Server::start(|_| Reply::new(400, "{")).await;
        let failure = send(&pagerduty(&server), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ClientError);
    }

    #[tokio::test]
    async fn one_bad_event_does_not_keep_the_others_back() {
        let server = Server::start(|received| match &received.json()["payload"]["component"] {
            component if component == "3" => Reply::new(400, r#"{"message":"no","errors":[]}"#),
            _ => enqueue(received),
        })
        .await;
        let alerts = (0..20).map(|gpu| alert(Status::Firing, "P0", &gpu.to_string())).collect();
        let failure = send(&pagerduty(&server), alerts).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ClientError);
        assert_eq!(events(&server).len(), 20);
    }

    #[tokio::test]
    async fn a_service_that_is_down_is_not_asked_for_every_event() {
        let server = Server::start(|_| Reply::new(503, "")).await;
        let alerts = (0..100).map(|gpu| alert(Status::Firing, "P0", &gpu.to_string())).collect();
        let failure = send(&pagerduty(&server), alerts).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerError);
        assert!(server.received().len() < 20, "{}", server.received().len());
    }

    #[test]
    fn what_is_wrong_is_told_at_load_without_secrets() {
        for (settings, words) in [
            (json!({"routing_key": "very-secret"}), "Events API V2"),
            (json!({"routing_key": "@/nowhere/key"}), "/nowhere/key"),
            (json!({"routing_key": ROUTING_KEY, "url": "events"}), "https://events.pagerduty.com"),
            (json!({"routing_key": ROUTING_KEY, "url": "ftp://a.example"}), "only http://"),
        ] {
            let settings: pagerduty::Settings = serde_json::from_value(settings).unwrap();
            let error = settings.open(&around()).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("very-secret") && !error.contains(ROUTING_KEY), "{error}");
        }
    }
}

mod alerts_for_alertmanager {
    use super::*;

    fn url(server: &Server) -> String {
        server.url("").to_string()
    }

    fn seconds_from_now(time: &Value) -> i64 {
        let time: Timestamp = time.as_str().unwrap().parse().unwrap();
        time.duration_since(Timestamp::now()).as_secs()
    }

    #[tokio::test]
    async fn what_fires_outlives_three_lost_messages() {
        let server = Server::start(|_| Reply::new(200, "")).await;
        let channel = alertmanager(json!({"urls": [url(&server)], "resend": "10m"})).unwrap();
        assert_eq!(channel.resend(), Duration::from_secs(600));
        let mut odd = alert(Status::Firing, "P0", "0");
        odd.annotations.insert("odd-name".to_owned(), "x".to_owned());
        odd.annotations.insert("empty".to_owned(), String::new());
        odd.generator_url.clear();
        send(&channel, vec![odd, alert(Status::Resolved, "P1", "1")]).await.unwrap();
        let received = server.only();
        assert_eq!((&*received.method, &*received.path), ("POST", "/api/v2/alerts"));
        let body = received.json();
        let (fires, is_over) = (&body[0], &body[1]);
        assert!((1800..=2400).contains(&seconds_from_now(&fires["endsAt"])), "{fires}");
        assert!(seconds_from_now(&is_over["endsAt"]) < 0, "{is_over}");
        assert_eq!(fires["labels"]["alertname"], "GPU_LOCK_HARD_TIMEOUT");
        assert_eq!(fires["annotations"]["odd_name"], "x");
        assert!(fires["annotations"].get("empty").is_none(), "{fires}");
        assert!(fires.get("generatorURL").is_none(), "{fires}");
        assert_eq!(is_over["generatorURL"], "https://gpulock.example/alerts");
    }

    #[tokio::test]
    async fn an_end_before_the_beginning_is_mended() {
        let server = Server::start(|_| Reply::new(200, "")).await;
        let channel = alertmanager(json!({"urls": [url(&server)]})).unwrap();
        let mut odd = alert(Status::Resolved, "P0", "0");
        odd.ends_at = Some(ago(10_000));
        send(&channel, vec![odd]).await.unwrap();
        let alert = &server.only().json()[0];
        assert_eq!(alert["endsAt"], alert["startsAt"]);
    }

    #[tokio::test]
    async fn all_of_a_cluster_are_told_and_one_is_enough() {
        let fine = Server::start(|_| Reply::new(200, "")).await;
        let down = Server::start(|_| Reply::new(503, "")).await;
        let refuses = Server::start(|_| Reply::new(400, "\"bad label\"")).await;
        let urls = json!([url(&down), url(&fine), url(&refuses)]);
        send(&alertmanager(json!({"urls": urls})).unwrap(), firing()).await.unwrap();
        assert_eq!(fine.received().len() + down.received().len() + refuses.received().len(), 3);
        let urls = json!([url(&refuses), url(&down)]);
        let failure = send(&alertmanager(json!({"urls": urls})).unwrap(), firing()).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerError);
        for (server, words) in [(&refuses, "bad label"), (&down, "HTTP 503")] {
            assert!(failure.detail.contains(&format!("127.0.0.1:{}", server.port())), "{failure}");
            assert!(failure.detail.contains(words), "{failure}");
        }
    }

    #[tokio::test]
    async fn only_200_is_success() {
        let server = Server::start(|_| Reply::new(202, "")).await;
        let failure = send(&alertmanager(json!({"urls": [url(&server)]})).unwrap(), firing()).await;
        assert_eq!(failure.unwrap_err().reason, Reason::ClientError);
    }

    #[tokio::test]
    async fn credentials_go_with_it() {
        let server = Server::start(|received| match received.header("authorization") {
            "Bearer hunter2" => Reply::new(200, ""),
            other => Reply::new(401, format!("no: {other}")),
        })
        .await;
        let channel =
            |token: &str| alertmanager(json!({"urls": [url(&server)], "token": token})).unwrap();
        send(&channel("hunter2"), firing()).await.unwrap();
        let failure = send(&channel("very-secret"), firing()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::AuthError);
        assert!(!failure.detail.contains("very-secret"), "{failure}");
    }

    #[test]
    fn what_is_wrong_is_told_at_load() {
        for (settings, words) in [
            (json!({"urls": []}), "names no Alertmanager"),
            (json!({"urls": ["gpu1:9093"]}), ""),
            (json!({"urls": ["http://a:b@gpu1:9093"]}), "user@host"),
            (json!({"urls": ["http://gpu1:9093"], "resend": 0}), "`resend` is 0"),
            (
                json!({"urls": ["http://gpu1:9093"], "token": "a", "basic_auth":
                {"username": "a", "password": "b"}}),
                "exclude each other",
            ),
        ] {
            let error = alertmanager(settings).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

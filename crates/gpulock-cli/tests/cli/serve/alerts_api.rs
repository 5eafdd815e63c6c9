//! Alerts over HTTP.

use serde_json::{Value, json};

use super::daemon::{BRISK, Daemon};
use crate::cli::alerts::{UNREACHABLE, give_up, hear, hung, id, lost, overdue};
use crate::cli::program::until;
use crate::cli::scene::Scene;

#[test]
fn alerts_are_listed_narrowed_down_and_acknowledged() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    api.until_the_first_round();
    hear(&scene, &[lost(), hung()]);
    let names = |path: &str| -> Vec<String> {
        let body = api.get(path).expect(200).body;
        let alerts = body["alerts"].as_array().unwrap().clone();
        alerts.iter().map(|alert| alert["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/api/v1/alerts"), ["GPU_LOCK_HARD_TIMEOUT", "GPU_LOCK_HOLDER_LOST"]);
    assert_eq!(names("/api/v1/alerts?level=P1&pool=default"), ["GPU_LOCK_HARD_TIMEOUT"]);
    assert_eq!(names("/api/v1/alerts?pool=lab"), [""; 0]);
    let first = api.get("/api/v1/alerts?limit=1").expect(200).body;
    assert_eq!((first["alerts"].as_array().unwrap().len(), &first["total"]), (1, &json!(2)));
    for wrong in ["level=P7", "limit=0", "limit=1001"] {
        api.get(&format!("/api/v1/alerts?{wrong}")).expect(422).detail();
    }
    let path = format!("/api/v1/alerts/{}/ack", &id(&hung())[..8]);
    let done = api.post(&path, json!({"note": "on it"})).expect(200).body;
    assert_eq!(done["acknowledged"]["note"], "on it");
    let by = done["acknowledged"]["by"].as_str().unwrap();
    assert_eq!(by, "anybody from 127.0.0.1");
    daemon.until_it_says("what=\"acknowledge\"");
    api.post("/api/v1/alerts/0000/ack", json!({})).expect(404).detail();
    api.post(&path, json!({"by": ""})).expect(422).detail();
    let listed = scene.gpulock(&["alerts", "list", "--json"]).expect(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["acknowledged"]["by"], by);
    let shown = scene.gpulock(&["alerts", "list"]).expect(0);
    assert!(!shown.stderr.contains("no daemon acts"), "{shown:?}");
}

#[test]
fn what_is_over_cannot_be_acknowledged_any_more() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    api.until_the_first_round();
    hear(&scene, &[overdue()]);
    let path = format!("/api/v1/alerts/{}/ack", id(&overdue()));
    // No such lease is in the journal, so the monitor ends the alert sooner or later.
    let over =
        gpulock::core::alert::Signal { change: gpulock::core::alert::Change::Over, ..overdue() };
    hear(&scene, &[over]);
    api.post(&path, json!({})).expect(409).detail();
    assert_eq!(api.get("/api/v1/alerts").expect(200).body["total"], 0);
    assert_eq!(api.get("/api/v1/alerts?all=true").body["alerts"][0]["status"], "resolved");
}

#[test]
fn silences_are_made_listed_and_ended() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    hear(&scene, &[hung()]);
    let asked = json!({"matchers": ["pool=\"default\""], "duration": 60, "by": "alice"});
    let made = api.post("/api/v1/silences", asked).expect(201).body;
    assert_eq!((&made["status"], &made["created_by"]), (&json!("active"), &json!("alice")));
    assert_eq!(api.get("/api/v1/alerts").body["alerts"][0]["muted_by"], "silence");
    assert_eq!(api.get("/api/v1/silences").body["silences"][0], made);
    let path = format!("/api/v1/silences/{}", made["id"].as_str().unwrap());
    api.delete(&path, json!({})).expect(204);
    assert_eq!(api.get("/api/v1/silences").body["silences"][0]["status"], "expired");
    assert_eq!(api.get("/api/v1/alerts").body["alerts"][0]["muted_by"], Value::Null);
    api.delete("/api/v1/silences/zzz", json!({})).expect(404).detail();
    for wrong in [
        json!({"duration": 60}),
        json!({"matchers": ["pool!=\"lab\""], "duration": 60}),
        json!({"matchers": ["pool"], "duration": 60}),
        json!({"matchers": ["pool=a"], "duration": 0}),
        json!({"matchers": ["pool=a"]}),
        json!({"matchers": vec!["pool=a"; 51], "duration": 60}),
    ] {
        api.post("/api/v1/silences", wrong).expect(422).detail();
    }
    api.post("/api/v1/silences", json!({"duration": 60, "everything": true})).expect(201);
}

#[test]
fn what_was_given_up_is_sent_again_and_counted() {
    let scene = Scene::with_config(UNREACHABLE);
    give_up(&scene, &hung());
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let messages = || api.get("/api/v1/alerts/undelivered").expect(200).body["messages"].clone();
    let message = messages()[0].clone();
    assert_eq!(
        (&message["status"], &message["failure"]),
        (&json!("given_up"), &json!("authError"))
    );
    let metrics = api.get("/metrics").expect(200).body;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "gpulock_notifications_failed_total{channel=\"ops\",integration=\"webhook\",reason=\"authError\"} 1",
        "gpulock_notifications_given_up_total{channel=\"ops\"} 1",
        "gpulock_notification_latency_seconds_sum{integration=\"webhook\"} 0.02",
        "gpulock_alerts{level=\"P1\",state=\"firing\"} 1.0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let path = format!("/api/v1/alerts/undelivered/{}/resend", message["id"].as_str().unwrap());
    assert_eq!(api.post(&path, json!({})).expect(200).body["status"], "waiting");
    // Nobody listens there.
    until("it was tried again", || messages()[0]["failure"] == "unreachable");
    api.post("/api/v1/alerts/undelivered/1-1/resend", json!({})).expect(404).detail();
}

#[test]
fn a_token_that_may_only_read_changes_nothing() {
    let mut scene = Scene::new();
    scene.set("GPULOCK_SERVER__TOKENS", "read:a-token-that-may-read,operate:a-token-that-may-do");
    let daemon = Daemon::start(&scene);
    let (read, operate) = (
        daemon.api().with_token("a-token-that-may-read"),
        daemon.api().with_token("a-token-that-may-do"),
    );
    read.until_the_first_round();
    hear(&scene, &[hung()]);
    let path = format!("/api/v1/alerts/{}/ack", id(&hung()));
    read.get("/api/v1/alerts").expect(200);
    read.post(&path, json!({})).expect(403).detail();
    read.post("/api/v1/silences", json!({"matchers": ["a=b"], "duration": 1})).expect(403);
    assert_eq!(read.get("/api/v1/alerts").body["alerts"][0]["acknowledged"], Value::Null);
    let done = operate.post(&path, json!({})).expect(200).body;
    assert_eq!(done["acknowledged"]["by"], "token 2 from 127.0.0.1");
}

#[test]
fn while_the_store_is_away_the_daemon_says_so_and_afterwards_that_it_was() {
    let server = gpulock_testbed::RedisServer::start();
    let rule = "alerts: {rules: {GPU_LOCK_STORE_UNREACHABLE: {threshold: 1}}}\n";
    let mut scene = Scene::with_config(&format!("{BRISK}{rule}"));
    scene.set("GPULOCK_STORE", &format!("{}?after_restart=trust", server.url()));
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    api.until_the_first_round();
    let names = |path: &str| -> Vec<String> {
        let body = api.get(path).body;
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().map(|alert| alert["name"].as_str().unwrap().to_owned()).collect()
    };
    server.kill();
    until("it is said", || {
        names("/api/v1/alerts").contains(&"GPU_LOCK_STORE_UNREACHABLE".to_owned())
    });
    api.get("/api/v1/silences").expect(503).detail();
    server.start_again();
    until("it is over", || {
        let fires = names("/api/v1/alerts").contains(&"GPU_LOCK_STORE_UNREACHABLE".to_owned());
        let path = "/api/v1/alerts?all=true";
        !fires && names(path).contains(&"GPU_LOCK_STORE_UNREACHABLE".to_owned())
    });
}

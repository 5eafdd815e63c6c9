//! Leases for callers who do without the library.

use std::thread;

use serde_json::{Value, json};

use super::daemon::{BRISK, Daemon, path_of};
use crate::cli::program::until;
use crate::cli::scene::Scene;

const ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_lease_is_acquired_renewed_and_given_back() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let asked = json!({ "task": "asr", "gpus": [0], "heartbeat_timeout": 60, "host": "gpu1" });
    let answer = api.post("/api/v1/leases", asked).expect(201);
    let lease = answer.body.clone();
    assert!(answer.head.contains(&format!("location: {}", path_of(&lease))), "{answer:?}");
    let shown = api.get(&path_of(&lease)).expect(200).body;
    for (field, value) in
        [("task", json!("asr")), ("state", json!("held")), ("host", json!("gpu1"))]
    {
        assert_eq!((&lease[field], &shown[field]), (&value, &value), "{field}");
    }
    assert_eq!(scene.lease()["token"], lease["token"], "the command line sees the same");
    let word = json!({ "token": lease["token"], "progress": 45, "message": "frame 100" });
    let renewed = api.post(&format!("{}/renew", path_of(&lease)), word).expect(200).body;
    assert_eq!(renewed["stop_requested"], false);
    assert!(renewed["deadline_in_seconds"].as_f64().unwrap() > 50.0);
    assert_eq!(scene.lease()["message"], "frame 100");
    scene.gpulock(&["release", "gpu_lock:0", "--ask", "--reason", "maintenance"]).expect(0);
    let word = json!({ "token": lease["token"] });
    let renewed = api.post(&format!("{}/renew", path_of(&lease)), word).expect(200).body;
    assert_eq!(
        (&renewed["stop_requested"], &renewed["stop_reason"]),
        (&json!(true), &json!("maintenance"))
    );
    api.give_back(&lease).expect(204);
    api.get(&path_of(&lease)).expect(404);
}

#[test]
fn only_the_right_token_renews_or_releases_and_a_wrong_one_is_counted() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let lease = api.acquire("asr", 60.0);
    api.post(&format!("{}/renew", path_of(&lease)), json!({ "token": 1 })).expect(409);
    api.delete(&path_of(&lease), json!({ "token": 1 })).expect(409);
    api.delete(&path_of(&lease), json!({})).expect(409);
    assert_eq!(scene.lease()["lease_id"], lease["lease_id"]);
    let figures = api.get("/api/v1/monitoring/statistics").body;
    assert_eq!(figures["exceptions"]["ownership_violations"], 2);
}

#[test]
fn asking_again_with_the_same_id_gives_the_same_lease() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let ask = |task: &str| {
        let asked = json!({ "task": task, "gpus": [0], "heartbeat_timeout": 60, "lease_id": ID });
        api.post("/api/v1/leases", asked)
    };
    let first = ask("asr").expect(201).body;
    assert_eq!(ask("asr").expect(201).body["token"], first["token"]);
    assert!(ask("ocr").expect(409).detail().contains("belongs to the task asr"));
}

#[test]
fn a_caller_waits_until_the_holder_gives_back_and_one_who_does_not_want_to_is_told_who_holds() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let held = api.acquire("asr", 60.0);
    let hasty =
        api.post("/api/v1/leases", json!({ "task": "hasty", "max_wait_time": 0 })).expect(409);
    assert!(hasty.detail().contains("held by asr"), "{hasty:?}");
    let short = json!({ "task": "short", "max_wait_time": 0.2 });
    assert!(api.post("/api/v1/leases", short).expect(409).detail().contains("did not become free"));
    let waiter = thread::spawn({
        let api = api.clone();
        move || api.acquire("ocr", 60.0)
    });
    until("it waits", || api.queue().len() == 1);
    api.give_back(&held).expect(204);
    assert_eq!(waiter.join().unwrap()["task"], "ocr");
}

#[test]
fn a_lease_without_renewals_ends_at_its_time_and_the_monitor_hands_the_gpu_on() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let fixed =
        api.post("/api/v1/leases", json!({ "task": "fixed", "gpus": [0] })).expect(201).body;
    assert_eq!(fixed["heartbeats"], false);
    assert!(fixed["deadline_in_seconds"].as_f64().unwrap() > 3_500.0, "lock_timeout");
    api.give_back(&fixed).expect(204);
    let silent = api.acquire("silent", 1.0);
    daemon.until_it_says("silent runs out of time");
    api.get(&path_of(&silent)).expect(404);
    assert_eq!(
        api.get("/api/v1/monitoring/heartbeat/all").body["statistics"]["heartbeat_failures"],
        1
    );
}

#[test]
fn a_lease_that_nobody_renews_ends_in_time_however_far_apart_the_rounds_are() {
    let scene = Scene::with_config("gpus: [0]\ngpu_lock_monitor: {monitor_interval: 3600}\n");
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    daemon.api().acquire("silent", 1.0);
    daemon.until_it_says("silent runs out of time");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    for (asked, named) in [
        (json!({ "task": "" }), "task"),
        (json!({ "task": "t", "gpus": [7] }), "GPU 7"),
        (json!({ "task": "t", "gpus": 9 }), "9"),
        (json!({ "task": "t", "max_wait_time": -1 }), "max_wait_time"),
        (json!({ "task": "t", "heartbeat_timeout": 0 }), "heartbeat_timeout"),
        (json!({ "task": "t", "lease_id": "x" }), "lease id"),
        (json!({ "task": "t", "priority": "first" }), "first"),
        (json!({ "task": "t", "gpu": 0 }), "gpu"),
        (json!({ "task": "t", "pool": "no pool" }), "pool"),
        (json!({ "task": "t", "pool": "elsewhere" }), "elsewhere"),
    ] {
        let answer = api.post("/api/v1/leases", asked.clone()).expect(422);
        assert!(answer.detail().contains(named), "{asked}: {answer:?}");
    }
    assert_eq!(api.queue(), Vec::<Value>::new());
}

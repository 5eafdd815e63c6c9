//! What happens, as it happens.

use std::collections::BTreeSet;

use super::daemon::{BRISK, Daemon};
use crate::cli::scene::Scene;

#[test]
fn a_reader_that_comes_back_gets_what_it_has_missed_once() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let mut live = api.events(None);
    let one = api.acquire("one", 60.0);
    let [id, name, data] = live.next().unwrap();
    assert_eq!(name, "granted");
    assert!(data.contains(one["lease_id"].as_str().unwrap()));
    drop(live);
    api.give_back(&one).expect(204);
    let two = api.acquire("two", 60.0);
    let mut again = api.events(Some(&id));
    let missed: Vec<_> = again.by_ref().take(2).collect();
    let names: Vec<_> = missed.iter().map(|[_, name, _]| name.as_str()).collect();
    assert_eq!(names, ["ended", "granted"]);
    api.give_back(&two).expect(204);
    let next = again.next().unwrap();
    assert_eq!(next[1], "ended");
    let ids: BTreeSet<_> = missed.iter().chain([&next]).map(|[id, ..]| id).collect();
    assert!(ids.len() == 3 && !ids.contains(&id), "{ids:?}");
}

#[test]
fn an_id_that_is_none_is_refused_and_an_unknown_one_is_told_of_a_gap() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let mut answer = String::new();
    let mut stream = api.send("GET", "/api/v1/events", None, "Last-Event-ID: yesterday\r\n");
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    let [_, name, _] = api.events(Some("99999999999-1")).next().unwrap();
    assert_eq!(name, "gap");
}

#[test]
fn a_daemon_ends_although_somebody_listens() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let mut live = api.events(None);
    let held = api.acquire("asr", 60.0);
    live.next().unwrap();
    let waits = api.send("POST", "/api/v1/leases", Some(serde_json::json!({ "task": "ocr" })), "");
    daemon.stop();
    assert_eq!(live.next(), None);
    drop((held, waits));
    assert_eq!(scene.pool()["queue"], serde_json::json!([]), "who waited over HTTP has left");
}

//! Problems, the net under panics, health, and the document.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::house::House;
use crate::daemon::openapi;
use crate::daemon::problem::Kind;
use crate::daemon::server::Limits;

const JSON: &str = "Content-Type: application/json";

#[test]
fn what_does_not_fit_is_a_problem() {
    let house = House::open();
    house.get("/nowhere").expect_problem(404, "not-found");
    house.get("/sample/x").expect_problem(400, "bad-request");
    house.get("/sample/-1").expect_problem(400, "bad-request");
    house.get("/sample?limit=x").expect_problem(400, "bad-request");
    house.get("/sample?limit=1&limit=2").expect_problem(400, "bad-request");
    let post = |body: &str| house.ask("POST", "/sample", &[JSON], body);
    post("{").expect_problem(400, "bad-request");
    post("").expect_problem(400, "bad-request");
    post(&format!(r#"{{"text": {}"#, "[".repeat(60_000))).expect_problem(422, "invalid");
    post(&format!(r#"{{"more": {}"#, "[".repeat(60_000))).expect_problem(422, "invalid");
    let missing = post("{}").expect_problem(422, "invalid").json();
    assert!(missing["detail"].as_str().unwrap().contains("missing field `text`"), "{missing}");
    post(r#"{"text": 1}"#).expect_problem(422, "invalid");
    post(r#"{"text": "a", "more": 1}"#).expect_problem(422, "invalid");
    post(r#"{"text": "a", "text": "b"}"#).expect_problem(422, "invalid");
    for body in ["[]", r#"["a"]"#, "null", "1", "\"text\""] {
        post(body).expect_problem(422, "invalid");
    }
    post("[").expect_problem(400, "bad-request");
    post("\u{feff}{}").expect_problem(400, "bad-request");
    assert_eq!(house.changes(), 0);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let house = House::open();
    for (method, path, allowed) in [
        ("PATCH", "/sample", "allow: get,head,post"),
        ("GET", "/sample/begin", "allow: post"),
        ("DELETE", "/livez", "allow: get,head"),
        ("POST", "/openapi.json", "allow: get,head"),
        ("BREW", "/held", "allow: get,head"),
    ] {
        let reply = house.ask(method, path, &[], "");
        let reply = reply.expect_problem(405, "wrong-method");
        assert!(reply.head.contains(allowed), "{reply:?}");
    }
}

#[test]
fn every_type_of_a_problem_can_be_looked_up() {
    let house = House::open();
    for &kind in Kind::ALL {
        let reply = house.get(&kind.path());
        assert_eq!(reply.status, 200, "{kind:?}");
        assert!(reply.body.starts_with(kind.title()) && reply.body.len() > 60, "{reply:?}");
        assert!(reply.head.contains("content-type: text/plain"), "{reply:?}");
    }
    house.get("/problems/none").expect_problem(404, "not-found");
}

#[test]
fn a_panic_is_a_problem_and_its_words_stay_inside() {
    let house = House::open();
    let reply = house.get("/fault").expect_problem(500, "internal");
    assert!(!reply.body.contains("canary"), "{reply:?}");
    assert!(house.log.text().contains("a handler of the API panicked"));
    assert_eq!(house.get("/sample/1").status, 200);
}

#[test]
fn readiness_is_asked_and_life_is_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let house = House::with_readiness(
        Limits::default(),
        &[],
        Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err("the store cannot be reached".to_owned()) })
        }),
    );
    for path in ["/livez", "/healthz"] {
        assert_eq!(house.get(path).json()["status"], "ok");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let reply = house.get("/readyz").expect_problem(503, "unavailable");
    assert_eq!(reply.json()["detail"], "the store cannot be reached");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(House::open().get("/readyz").json()["status"], "ok");
}

#[test]
fn the_document_is_the_committed_one_and_refers_to_nothing_that_is_missing() {
    let served = House::open().get("/openapi.json").json();
    let document: Value = serde_json::from_str(&openapi::as_json()).unwrap();
    assert_eq!(served, document);
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 5, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            for status in ["400", "405", "421", "500", "503"] {
                assert!(answers.contains_key(status), "{method} {path} without {status}");
            }
            assert!(operation["tags"][0].is_string(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.push(reference.clone());
            }
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

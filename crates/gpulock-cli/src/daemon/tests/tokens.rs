//! Who may do what, on every route of the document.

use axum::http::Method;
use utoipa::openapi::OpenApi;

use super::house::{House, OPERATE, READ, bearer, policy, tokens};
use super::sample;
use crate::daemon::audit::{self, Caller, CallerName, Deed};
use crate::daemon::guard;
use crate::daemon::openapi;
use crate::daemon::server::Limits;

/// Every method and path of the document and of the samples, with values for what varies.
fn routes() -> Vec<(Method, String)> {
    let documents: [OpenApi; 2] = [openapi::document(), sample::routes().into_openapi()];
    let mut routes = Vec::new();
    for mut document in documents {
        for (path, item) in &mut document.paths.paths {
            let path: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "1" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            routes.extend(openapi::operations(item).map(|(method, _)| (method, path.clone())));
        }
    }
    assert!(routes.len() > 8, "{routes:?}");
    routes
}

/// Those that the tests may call: the others never answer.
fn answering() -> impl Iterator<Item = (Method, String)> {
    let silent = ["/held", "/endless", "/patient"];
    routes().into_iter().filter(move |(_, path)| !silent.contains(&path.as_str()))
}

#[test]
fn every_route_asks_for_the_role_that_it_needs() {
    for (method, path) in answering() {
        // Of its own, since wrong tokens are counted.
        let house = House::locked();
        let ask = |method: &Method, path: &str, header: &str| {
            house.ask(method.as_str(), path, &[header], "").status
        };
        let free = ["/healthz", "/livez", "/readyz", "/metrics"].contains(&path.as_str());
        // The sample house has no daemon, and so no figures.
        let refused = if path == "/metrics" {
            404
        } else if free {
            200
        } else {
            401
        };
        for wrong in [
            "X-Nothing: 1".to_owned(),
            bearer(""),
            format!("Authorization: Basic {OPERATE}"),
            format!("Authorization: {OPERATE}"),
        ] {
            assert_eq!(ask(&method, &path, &wrong), refused, "{method} {path} {wrong}");
        }
        let as_reader = ask(&method, &path, &bearer(READ));
        assert_eq!(as_reader == 403, guard::changes(&method), "{method} {path}: {as_reader}");
        let as_operator = ask(&method, &path, &bearer(OPERATE));
        assert!(![401, 403].contains(&as_operator), "{method} {path}: {as_operator}");
    }
}

#[test]
fn a_refused_request_changes_nothing_and_says_what_it_needs() {
    let house = House::locked();
    let json = "Content-Type: application/json";
    let word = r#"{"text": "a"}"#;
    let none = house.ask("POST", "/sample", &[json], word);
    let none = none.expect_problem(401, "not-authenticated");
    assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");
    house
        .ask("POST", "/sample", &[json, &bearer("wrong")], word)
        .expect_problem(401, "not-authenticated");
    house.ask("POST", "/sample", &[json, &bearer(READ)], word).expect_problem(403, "not-allowed");
    assert_eq!(house.changes(), 0);
    assert_eq!(house.ask("POST", "/sample", &[json, &bearer(OPERATE)], word).status, 200);
    assert_eq!(house.changes(), 1);
    let scheme = format!("authorization: bEaReR {OPERATE}");
    assert_eq!(house.ask("POST", "/sample", &[json, &scheme], word).status, 200);
}

#[test]
fn what_does_not_exist_is_not_told_to_strangers() {
    let house = House::locked();
    for path in ["/nowhere", "/docs/", "/openapi.json", "/problems/invalid", "/livez/", "//livez"] {
        house.get(path).expect_problem(401, "not-authenticated");
    }
    let reader = bearer(READ);
    house.ask("GET", "/nowhere", &[&reader], "").expect_problem(404, "not-found");
    assert_eq!(house.ask("GET", "/openapi.json", &[&reader], "").status, 200);
    house.ask("POST", "/livez", &[], "").expect_problem(401, "not-authenticated");
}

#[test]
fn metrics_are_free_unless_they_are_protected() {
    let house = House::locked();
    house.get("/metrics").expect_problem(404, "not-found");
    house
        .guard
        .replace(policy(&[("server.tokens", &tokens()), ("server.protect_metrics", "true")]));
    house.get("/metrics").expect_problem(401, "not-authenticated");
    house.ask("GET", "/metrics", &[&bearer(READ)], "").expect_problem(404, "not-found");
    assert_eq!(house.get("/livez").status, 200);
}

#[test]
fn another_policy_counts_from_the_next_request_on() {
    let house = House::open();
    assert_eq!(house.get("/sample/1").status, 200);
    house.guard.replace(policy(&[("server.tokens", &tokens())]));
    house.get("/sample/1").expect_problem(401, "not-authenticated");
    let reader = bearer(READ);
    assert_eq!(house.ask("GET", "/sample/1", &[&reader], "").status, 200);
    house.guard.replace(policy(&[("server.tokens", "read:another-canary-token")]));
    house.ask("GET", "/sample/1", &[&reader], "").expect_problem(401, "not-authenticated");
}

#[test]
fn who_tries_many_tokens_has_to_wait_and_locks_nobody_out() {
    let house = House::locked();
    let statuses: Vec<u16> = (0..25)
        .map(|number| house.ask("GET", "/sample/1", &[&bearer(&format!("guess-{number}"))], ""))
        .map(|reply| {
            let waits = reply.head.contains("retry-after: ");
            assert_eq!(waits, reply.status == 429, "{reply:?}");
            reply.status
        })
        .collect();
    assert_eq!(statuses[..20], [401; 20]);
    assert_eq!(statuses[20..], [429; 5]);
    assert_eq!(house.ask("GET", "/sample/1", &[&bearer(READ)], "").status, 200);
    let lines = house.log.text().matches("refused: wrong token").count();
    assert_eq!(lines, 20, "{}", house.log.text());
}

#[test]
fn secrets_are_neither_logged_nor_answered() {
    let house = House::locked();
    let mut told = String::new();
    for token in [READ, OPERATE, "canary-wrong-token", "canary wrong token"] {
        for (method, path) in answering() {
            let reply = house.ask(method.as_str(), &path, &[&bearer(token)], "");
            told += &format!("{}{}", reply.head, reply.body);
        }
    }
    told += &house.log.text();
    assert!(told.contains("refused: wrong token") && told.contains("refused: may only read"));
    assert!(!told.contains("canary"), "{:?}", told.split("canary").next().unwrap().lines().last());
    let shown = format!("{:?}", house.guard);
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn what_is_changed_leaves_one_line_that_says_who_did_it() {
    let house = House::locked();
    let reply = house.ask("DELETE", "/sample/7", &[&bearer(OPERATE)], "");
    assert_eq!(reply.body, "token 2");
    let log = house.log.text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(audit::TARGET)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["who=token 2", "peer=127.0.0.1:", "when=2", "what=\"remove\"", "on=\"7\""] {
        assert!(lines[0].contains(part), "{part}: {log}");
    }
    let anybody = House::open().ask("DELETE", "/sample/7", &[], "");
    assert_eq!(anybody.body, "anybody");
}

#[test]
fn a_reason_cannot_forge_lines_of_the_audit() {
    let log = super::house::Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let caller = Caller {
        role: gpulock::config::Role::Operate,
        name: CallerName::Token(1),
        peer: ([127, 0, 0, 1], 1).into(),
    };
    let why = format!("x\n2026 INFO forged\r\x1b[2J\u{202e}{}", "y".repeat(5_000));
    tracing::subscriber::with_default(subscriber, || {
        audit::record(
            &caller,
            Deed { what: "release", on: "gpu_lock:0", why: &why, outcome: "ok" },
        );
    });
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains(['\r', '\x1b', '\u{202e}']) && text.len() < 2_000, "{text}");
}

#[test]
fn anybody_may_do_anything_where_there_are_no_tokens() {
    let house = House::start(Limits::default(), &[]);
    for (method, path) in answering() {
        let status = house.ask(method.as_str(), &path, &[], "").status;
        assert!(![401, 403].contains(&status), "{method} {path}: {status}");
    }
}

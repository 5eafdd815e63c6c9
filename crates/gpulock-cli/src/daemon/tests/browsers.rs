//! What a page of another site could try through a browser on the same host.

use super::house::House;

const JSON: &str = "Content-Type: application/json";
const WORD: &str = r#"{"text": "a"}"#;

#[test]
fn only_known_names_of_the_server_are_answered() {
    let house = super::house::House::start(
        crate::daemon::server::Limits::default(),
        &[("server.allowed_hosts", "gpu1.example,gpu2.example:81")],
    );
    let ask = |line: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        house.raw(&format!("{line}\r\n{hosts}Connection: close\r\n\r\n"))
    };
    for host in [
        "127.0.0.1",
        "127.0.0.1:9",
        "[::1]:8788",
        "10.1.2.3",
        "localhost:8788",
        "GPU1.example:8788",
        "gpu1.example",
        "gpu2.example:81",
    ] {
        assert_eq!(ask("GET /sample/1 HTTP/1.1", &[host]).status, 200, "{host}");
    }
    for host in ["evil.example", "gpu2.example", "x.gpu1.example", "127.0.0.1.evil.example"] {
        ask("GET /sample/1 HTTP/1.1", &[host]).expect_problem(421, "wrong-host");
        ask("GET /livez HTTP/1.1", &[host]).expect_problem(421, "wrong-host");
    }
    for hosts in [&[][..], &[""], &["a b"], &["user@127.0.0.1"], &["127.0.0.1", "127.0.0.1"]] {
        ask("GET /sample/1 HTTP/1.1", hosts).expect_problem(400, "bad-request");
    }
    ask("GET http://evil.example/sample/1 HTTP/1.1", &["127.0.0.1"])
        .expect_problem(421, "wrong-host");
    assert_eq!(ask("GET /sample/1 HTTP/1.0", &[]).status, 200);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let house = House::open();
    let own = format!("Origin: http://{}", house.address);
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        for (method, path, body) in [
            ("POST", "/sample", WORD),
            ("POST", "/sample/begin", ""),
            ("PUT", "/sample/1", WORD),
            ("DELETE", "/sample/1", ""),
        ] {
            house.ask(method, path, &[JSON, foreign], body).expect_problem(403, "foreign-origin");
        }
        let both = [JSON, &own, foreign];
        house.ask("POST", "/sample", &both, WORD).expect_problem(403, "foreign-origin");
    }
    assert_eq!(house.changes(), 0);
    let from_own_page = [JSON, &own, "Sec-Fetch-Site: same-origin"];
    assert_eq!(house.ask("POST", "/sample", &from_own_page, WORD).status, 200);
    assert_eq!(house.changes(), 1);
}

#[test]
fn what_a_form_can_send_is_refused() {
    let house = House::open();
    for kind in [
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: application/jsonp",
        "Content-Type:",
        "X-Nothing: 1",
    ] {
        for body in [WORD, ""] {
            house.ask("POST", "/sample", &[kind], body).expect_problem(415, "not-json");
        }
    }
    house
        .ask("POST", "/sample/begin", &["Content-Type: text/plain"], "")
        .expect_problem(415, "not-json");
    house
        .ask("POST", "/sample", &[JSON, "Content-Type: text/plain"], WORD)
        .expect_problem(415, "not-json");
    assert_eq!(house.changes(), 0);
    let spelt = ["content-type: Application/JSON; charset=utf-8"];
    assert_eq!(house.ask("POST", "/sample", &spelt, WORD).status, 200);
    assert_eq!(house.ask("POST", "/sample/begin", &[], "").status, 200);
    assert_eq!(house.ask("DELETE", "/sample/1", &[], "").status, 200);
}

#[test]
fn a_get_never_changes_anything() {
    let house = House::open();
    let overrides = ["X-HTTP-Method-Override: POST", "X-Method-Override: DELETE", JSON];
    for path in ["/sample", "/sample/begin", "/sample/1", "/sample/1?_method=DELETE"] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            house.ask(method, path, &overrides, WORD);
        }
    }
    assert_eq!(house.changes(), 0);
}

#[test]
fn nothing_is_shared_with_other_origins_and_nothing_can_frame_it() {
    let house = House::open();
    let origin = ["Origin: http://evil.example"];
    for (method, path, status) in [
        ("GET", "/sample/1", 200),
        ("GET", "/nowhere", 404),
        ("OPTIONS", "/sample", 405),
        ("GET", "/docs/", 200),
        ("GET", "/openapi.json", 200),
    ] {
        let reply = house.ask(method, path, &origin, "");
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(!reply.head.contains("access-control"), "{reply:?}");
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(reply.head.contains(header), "{path} without {header}: {reply:?}");
        }
    }
}

#[test]
fn the_page_of_the_documentation_comes_from_this_server_alone() {
    let house = House::open();
    let redirect = house.get("/docs");
    assert!(redirect.head.contains("location: /docs/"), "{redirect:?}");
    let page = house.get("/docs/");
    assert!(page.head.contains("script-src 'self';"), "{page:?}");
    assert!(!page.body.contains("http"), "{page:?}");
    assert!(!page.body.contains("<script>") && !page.body.contains("<style"), "{page:?}");
    let linked = page
        .body
        .split(['"'])
        .filter(|text| [".css", ".js", ".png"].iter().any(|ending| text.ends_with(ending)));
    let linked: Vec<_> = linked.collect();
    assert!(linked.len() >= 5, "{linked:?}");
    for file in linked {
        let reply = house.get(&format!("/docs/{}", file.trim_start_matches("./")));
        assert_eq!(reply.status, 200, "{file}");
    }
    let start = house.get("/docs/swagger-initializer.js").body;
    assert!(start.contains("/openapi.json") && !start.contains("http"), "{start}");
    house.get("/docs/nothing.js").expect_problem(404, "not-found");
}

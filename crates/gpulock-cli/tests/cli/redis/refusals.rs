//! Servers that are there and of no use: one sentence, a way out, exit code 69.

use gpulock_testbed::RedisServer;

use super::OnRedis;

/// What `run` says with this store.
#[track_caller]
fn said(scene: &OnRedis, url: &str) -> String {
    let ended = scene.gpulock(&["--store", url, "run", "--", "touch", "ran"]);
    assert!(!scene.exists("ran"), "{ended:?}");
    ended.told()
}

#[test]
fn who_may_not_in_is_told_what_is_lacking() {
    let scene = OnRedis::at(RedisServer::with(&["--requirepass", "right"]));
    let port = scene.server.port();
    let cli = |arguments: &[&str]| {
        scene.server.cli(&[&["--no-auth-warning", "-a", "right"], arguments].concat())
    };
    assert_eq!(cli(&["ACL", "SETUSER", "reader", "on", ">right", "~*", "+@read", "+info"]), "OK");
    let url = |login: &str| format!("redis://{login}127.0.0.1:{port}/0?after_restart=trust");
    insta::assert_snapshot!(said(&scene, &url("")), @"");
    insta::assert_snapshot!(said(&scene, &url(":wrong@")), @"");
    insta::assert_snapshot!(said(&scene, &url("nobody:right@")), @"");
    insta::assert_snapshot!(said(&scene, &url("reader:right@")), @"");
}

#[test]
fn who_cannot_write_is_told_what_is_lacking() {
    let scene = OnRedis::new();
    let url = scene.server.url() + "?after_restart=trust&min_replicas=1&replica_timeout=100ms";
    insta::assert_snapshot!(said(&scene, &url), @"");
    assert_eq!(scene.pool()["leases"], serde_json::json!([]));
    assert_eq!(scene.server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    let url = scene.server.url() + "?after_restart=trust";
    insta::assert_snapshot!(said(&scene, &url), @"");
}

#[test]
fn who_is_not_what_the_url_says_is_not_talked_to() {
    let scene = OnRedis::at(RedisServer::with_tls());
    let tls = scene.server.tls_url();
    // A certificate, but not that of the authority that has signed the server's.
    let other = scene.server.client_certificate();
    insta::assert_snapshot!(said(&scene, &format!("{tls}?ca={}", other.display())), @"");
    insta::assert_snapshot!(said(&scene, &format!("{tls}?ca=/nowhere/ca.pem")), @"");
    insta::assert_snapshot!(said(&scene, &tls.replace("rediss:", "redis:")), @"");
    let good = format!("{tls}?after_restart=trust&ca={}", scene.server.ca_file().display());
    scene.gpulock(&["--store", &good, "run", "--", "true"]).expect(0);
}

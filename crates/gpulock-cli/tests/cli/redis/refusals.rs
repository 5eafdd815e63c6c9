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
    let scene = OnRedis::at(RedisServer::with(&["--requirepass", "sesame"]));
    let port = scene.server.port();
    let cli = |arguments: &[&str]| {
        scene.server.cli(&[&["--no-auth-warning", "-a", "sesame"], arguments].concat())
    };
    assert_eq!(cli(&["ACL", "SETUSER", "reader", "on", ">sesame", "~*", "+@read", "+info"]), "OK");
    let url = |login: &str| format!("redis://{login}127.0.0.1:{port}/0?after_restart=trust");
    insta::assert_snapshot!(said(&scene, &url("")), @"
    exit code 69
    --- stderr
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust turns us away: it wants a password

    hint: look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed
    ");
    insta::assert_snapshot!(said(&scene, &url(":wrong@")), @"
    exit code 69
    --- stderr
    error: the store redis://:***@127.0.0.1:PORT/0?after_restart=trust turns us away: it knows no user `default` with this password

    hint: look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed
    ");
    insta::assert_snapshot!(said(&scene, &url("nobody:sesame@")), @"
    exit code 69
    --- stderr
    error: the store redis://nobody:***@127.0.0.1:PORT/0?after_restart=trust turns us away: it knows no user `nobody` with this password

    hint: look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed
    ");
    insta::assert_snapshot!(said(&scene, &url("reader:sesame@")), @"
    exit code 69
    --- stderr
    error: the store redis://reader:***@127.0.0.1:PORT/0?after_restart=trust turns us away: user `reader` lacks a right: this user has no permissions to run the 'evalsha' command

    hint: look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed
    ");
}

#[test]
fn who_cannot_write_is_told_what_is_lacking() {
    let scene = OnRedis::new();
    let url = scene.server.url() + "?after_restart=trust&min_replicas=1&replica_timeout=100ms";
    insta::assert_snapshot!(said(&scene, &url), @"
    exit code 69
    --- stderr
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust&min_replicas=1&replica_timeout=100ms did not confirm the write: 0 of 1 replicas have it

    hint: look at `INFO replication` of the master; `min_replicas` in the store's URL says how many replicas must have each write
    ");
    assert_eq!(scene.pool()["leases"], serde_json::json!([]));
    assert_eq!(scene.server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    let url = scene.server.url() + "?after_restart=trust";
    insta::assert_snapshot!(said(&scene, &url), @"
    exit code 69
    --- stderr
    error: the store redis://127.0.0.1:PORT/0?after_restart=trust takes nothing new: its memory is full

    hint: raise `maxmemory` of the Redis server, or move what else is in it elsewhere; `gpulock doctor` shows both
    ");
}

#[test]
fn who_is_not_what_the_url_says_is_not_talked_to() {
    let scene = OnRedis::at(RedisServer::with_tls());
    let tls = scene.server.tls_url();
    // A certificate, but not that of the authority that has signed the server's.
    let other = scene.server.client_certificate();
    insta::assert_snapshot!(said(&scene, &format!("{tls}?ca={}", other.display())), @"
    exit code 69
    --- stderr
    error: the store rediss://localhost:PORT/0?ca=SERVER/client.crt turns us away: its certificate is signed by nobody trusted here; ca=/FILE.pem in the URL names the authority to trust

    hint: look at user, password, certificates and the rights of the user; `gpulock doctor` prints the rights that are needed
    ");
    insta::assert_snapshot!(said(&scene, &format!("{tls}?ca=/nowhere/ca.pem")), @"
    exit code 65
    --- stderr
    error: rediss://localhost:PORT/0?ca=/nowhere/ca.pem is not a store that this gpulock can use: /nowhere/ca.pem cannot be read: No such file or directory (os error 2)

    hint: stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:
    ");
    let good = format!("{tls}?after_restart=trust&ca={}", scene.server.ca_file().display());
    scene.gpulock(&["--store", &good, "run", "--", "true"]).expect(0);
}

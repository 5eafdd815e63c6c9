//! Every command on a Redis store, and who wins where several stores are named.

use gpulock_testbed::RedisServer;

use super::{KEEPS_ALL, OnRedis};

#[test]
fn people_see_who_holds_and_take_it_away() {
    let scene = OnRedis::new();
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stderr
    gpulock: nobody has asked for a GPU yet
    ");
    insta::assert_snapshot!(scene.gpulock(&["history"]).told(), @"
    exit code 0
    --- stderr
    gpulock: nothing has happened yet
    ");
    let holder = scene.holder("ocr", &[]);
    let waiter = scene.waiter("asr", &["--priority", "high"]);
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stdout
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  held  ocr  SPAN  SPAN ago  in SPAN  PID  tester  HOST

    PLACE  TASK  WANTS  PRIORITY  WAITS  PID  USER  HOST
    1  asr  any GPU  high  SPAN  PID  tester  HOST
    ");
    insta::assert_snapshot!(scene.gpulock(&["run", "--no-wait", "--", "true"]).told(), @"
    exit code 75
    --- stderr
    error: any GPU is not free: held by ocr (pid PID on HOST) for SPAN; 1 ahead in the queue

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    let lease = scene.lease();
    let (id, token) = (lease["lease_id"].as_str().unwrap(), lease["token"].to_string());
    scene.gpulock(&["verify", id, &token]).expect(0);
    let taken = ["release", "gpu_lock:0", "--force", "--reason", "stuck since noon"];
    insta::assert_snapshot!(scene.gpulock(&taken).expect(0).stdout, @"took lease LEASE away from ocr (pid PID on HOST)");
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 76
    --- stderr
    warning: the lease is lost: tester@HOST took it away (stuck since noon); stopping the command
    error: the lease was lost: tester@HOST took it away (stuck since noon); the command was stopped
    ");
    waiter.ended().expect(0);
    scene.gpulock(&["verify", id, &token]).expect(76);
    insta::assert_snapshot!(scene.gpulock(&taken).told(), @"
    exit code 76
    --- stderr
    error: nobody holds gpu_lock:0

    hint: `gpulock status` shows who holds what
    ");
    let seized = ["history", "--json", "--task", "ocr"];
    let events = scene.gpulock(&seized).expect(0).stdout;
    assert!(events.contains("stuck since noon"), "{events}");
}

#[test]
fn the_nearest_word_names_the_store() {
    let mut scene = OnRedis::at(RedisServer::with(KEEPS_ALL));
    scene.unset("GPULOCK_STORE");
    let port = scene.server.port();
    let store = |database: u32| format!("redis://127.0.0.1:{port}/{database}");
    let is_used = |scene: &OnRedis, database: u32, options: &[&str]| {
        let run = ["run", "--", "sh", "-c", "gpulock verify"];
        scene.gpulock(&[options, &run].concat()).expect(0);
        let pools = scene.server.cli(&["-n", &database.to_string(), "SMEMBERS", "gpulock:pools"]);
        assert_eq!(pools, "default", "database {database}");
        assert_eq!(scene.server.cli(&["FLUSHALL"]), "OK");
    };
    // The older application's section, and its variables.
    scene.write("config.yml", "redis: {host: nowhere.invalid, port: 1, db_locks: 1}\n");
    scene.set("REDIS_HOST", "127.0.0.1");
    scene.set("REDIS_PORT", &port.to_string());
    is_used(&scene, 1, &[]);
    scene.set("REDIS_LOCK_DB", "2");
    is_used(&scene, 2, &[]);
    let both = format!("store: {}\nredis: {{host: nowhere.invalid, db_locks: 1}}\n", store(3));
    scene.write("config.yml", both);
    is_used(&scene, 3, &[]);
    scene.set("GPULOCK_STORE", &store(4));
    is_used(&scene, 4, &[]);
    is_used(&scene, 5, &["--store", &store(5)]);
}

#[test]
fn a_queue_is_served_and_a_lease_can_be_verified() {
    let scene = OnRedis::new();
    let holder = scene.holder("first", &[]);
    let waiter = scene.waiter("second", &["--priority", "high"]);
    scene.let_go("first");
    holder.ended().expect(0);
    waiter.ended().expect(0);
    assert_eq!(scene.read("order"), "second\n");
    let script = "gpulock verify && gpulock verify $GPULOCK_LEASE_ID 1; echo $?";
    let ended = scene.gpulock(&["run", "--", "sh", "-c", script]).expect(0);
    assert!(ended.stdout.ends_with("76\n"), "{ended:?}");
}

//! A password is known to those who need it, and shown to nobody.

use std::fs;
use std::path::Path;

use gpulock_testbed::RedisServer;

use super::{KEEPS_ALL, OnRedis};

/// The right password, and a part of each wrong one.
const CANARY: &str = "canary";

/// Every command that opens a store or shows where it is.
const COMMANDS: [&[&str]; 12] = [
    &["run", "--no-wait", "--", "true"],
    &["run", "--", "true"],
    &["status"],
    &["status", "--json"],
    &["history", "--json"],
    &["verify", "0123456789abcdef0123456789abcdef", "1"],
    &["release", "gpu_lock:0", "--force", "--reason", "TEXT"],
    &["doctor"],
    &["doctor", "--json"],
    &["config", "show"],
    &["config", "show", "--json"],
    &["config", "check"],
];

/// A scene whose server wants a password, and in which no store is named yet.
fn scene() -> OnRedis {
    let guarded = [KEEPS_ALL, &["--requirepass", CANARY]].concat();
    let mut scene = OnRedis::at(RedisServer::with(&guarded));
    scene.unset("GPULOCK_STORE");
    scene.set_lock("store_patience", "0");
    scene
}

fn place(scene: &OnRedis) -> String {
    format!("127.0.0.1:{}", scene.server.port())
}

/// Calls every command.
#[track_caller]
fn nobody_tells(scene: &OnRedis, what: &str) {
    for command in COMMANDS {
        let told = scene.gpulock(command).told();
        assert!(!told.contains(CANARY), "{what}, {command:?}: {told}");
    }
}

#[test]
fn nobody_tells_the_password_of_a_url_right_or_wrong() {
    let mut scene = scene();
    let at = place(&scene);
    for url in [
        // The right one, in each place.
        format!("redis://:canary@{at}/0"),
        format!("redis://default:canary@{at}/0"),
        format!("redis://{at}/0?password=canary"),
        // A wrong one, a user that there is not, nobody there, and something else there.
        format!("redis://:canary2@{at}/0"),
        format!("redis://nobody:canary@{at}/0"),
        "redis://:canary@127.0.0.1:1/0".to_owned(),
        format!("redis+sentinel://:canary@{at}/main?sentinel_password=canary"),
        format!("redis+cluster://:canary@{at}"),
        // Written wrongly.
        format!("redis://:can/canary@{at}/0"),
        format!("redis://:canary@{at}/0?pasword=canary"),
        format!("redis://:can#canary@{at}/0"),
        format!("redis://default:canary/{at}/0"),
        format!("redis://{at}/0?canary"),
        format!("redis://canary@{at}/0"),
        format!("redis:canary@{at}/0"),
        format!("redis//:canary@{at}/0"),
    ] {
        scene.set("GPULOCK_STORE", &url);
        nobody_tells(&scene, &url);
    }
    // What is under way names its store in its environment and, if it was told so by flag,
    // among its arguments; it prints neither.
    let url = format!("redis://:canary@{at}/0");
    scene.set("GPULOCK_STORE", "memory:");
    for command in COMMANDS {
        let told = scene.gpulock(&[&["--store", &url], command].concat()).told();
        assert!(!told.contains(CANARY), "by flag, {command:?}: {told}");
    }
}

#[test]
fn nobody_tells_the_password_of_a_file_right_or_wrong() {
    let scene = scene();
    let at = place(&scene);
    let (host, port) = at.split_once(':').unwrap();
    for file in [
        format!("store: redis://:canary@{at}/0\n"),
        format!("redis: {{host: {host}, port: {port}, db_locks: 1, password: canary}}\n"),
        format!("redis: {{host: {host}, port: {port}, db_locks: 1, password: canary2}}\n"),
        // Written wrongly.
        format!("store: [redis://:canary@{at}/0]\n"),
        format!("store: {{url: redis://:canary@{at}/0}}\n"),
        format!("store: 'redis://:canary@{at}/0\n"),
        format!("store: redis:// :canary@{at}/0\n"),
        format!("stroe: redis://:canary@{at}/0\n"),
        format!("redis: {{host: {host}, port: {port}, db_locks: 1, password: [canary]}}\n"),
        format!("redis: {{host: {host}, port: {port}, db_locks: 1, pasword: canary}}\n"),
        format!("redis: {{host: 'canary@{host}', port: {port}, db_locks: 1}}\n"),
    ] {
        scene.write("config.yml", &file);
        nobody_tells(&scene, &file);
    }
}

/// Redis repeats what it does not understand, and some servers do not understand AUTH.
#[test]
fn nobody_tells_a_password_that_the_server_repeats() {
    let mut scene = OnRedis::at(RedisServer::with(&["--rename-command", "AUTH", "LOGIN"]));
    let at = place(&scene);
    for url in [
        format!("redis://:canary@{at}/0"),
        format!("redis://me:can%61ry@{at}/0"),
        format!("redis+cluster://:canary@{at}"),
        format!("redis+sentinel://{at}/main?sentinel_password=canary"),
    ] {
        scene.set("GPULOCK_STORE", &url);
        nobody_tells(&scene, &url);
    }
}

#[test]
fn the_command_knows_the_password_only_if_its_caller_named_the_store() {
    let mut scene = scene();
    let url = format!("redis://:canary@{}/0", place(&scene));
    let knows = |scene: &OnRedis, options: &[&str]| {
        let run = ["run", "--", "sh", "-c", "gpulock verify && env"];
        let environment = scene.gpulock(&[options, &run].concat()).expect(0).stdout;
        environment.lines().any(|line| line.starts_with("GPULOCK_STORE=") && line.contains(CANARY))
            || {
                assert!(!environment.contains(CANARY), "{environment}");
                false
            }
    };
    // What it calls in turn has to find the store.
    assert!(knows(&scene, &["--store", &url]));
    scene.set("GPULOCK_STORE", &url);
    assert!(knows(&scene, &[]));
    // It finds it where its caller found it.
    scene.unset("GPULOCK_STORE");
    scene.write("config.yml", format!("store: {url}\n"));
    assert!(!knows(&scene, &[]));
    nothing_written_holds_it(scene.server.folder());
}

/// Neither records nor journal: the server logs every write.
fn nothing_written_holds_it(folder: &Path) {
    let log = folder.join("appendonlydir");
    let mut written = String::new();
    for file in fs::read_dir(log).unwrap() {
        written += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    assert!(written.contains("granted"), "the journal is in it");
    assert!(!written.contains(CANARY));
}

//! A configuration that changes while the daemon runs.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use super::daemon::{BRISK, Daemon};
use crate::cli::program::until;
use crate::cli::scene::Scene;

const POOLS: &str = "/api/v1/pools";

/// A configuration in which leases reach their first level at this age.
fn with_warning(seconds: f64) -> String {
    format!(
        "{BRISK}  timeout_levels: {{warning: {seconds}, soft_timeout: 3600, hard_timeout: 7200}}\n"
    )
}

fn warning(daemon: &Daemon) -> f64 {
    daemon.monitoring("timeout/config")["warning"].as_f64().unwrap()
}

/// As an editor saves: the new file takes the place of the old one.
fn replace(scene: &Scene, text: &str) {
    scene.write("config.new", text);
    fs::rename(scene.path("config.new"), scene.path("config.yml")).unwrap();
}

#[test]
fn a_changed_file_counts_at_once_and_one_that_makes_no_sense_does_not() {
    let scene = Scene::with_config(&with_warning(100.0));
    let daemon = Daemon::start(&scene);
    assert_eq!(warning(&daemon), 100.0);
    // Written in place; a reader may see a part of it, and looks again.
    scene.write("config.yml", with_warning(200.0));
    until("the change counts", || warning(&daemon) == 200.0);
    daemon.until_it_says("the configuration was read again");
    scene.write("config.yml", "gpu_lock_monitor:\n  timeout_levels: {warning: soon}\n");
    daemon.until_it_says("the new configuration is refused, the old one stays");
    assert!(daemon.log().contains("config.yml:2"), "{}", daemon.log());
    assert_eq!(warning(&daemon), 200.0);
    scene.write("config.yml", with_warning(300.0));
    daemon.signal(Signal::HUP);
    until("it counts", || warning(&daemon) == 300.0);
}

#[test]
fn new_levels_act_on_a_lease_that_is_there() {
    let scene = Scene::with_config(&with_warning(1_000.0));
    let daemon = Daemon::start(&scene);
    let lease = daemon.api().acquire("ocr", 60.0);
    daemon.until_it_acts();
    replace(&scene, &with_warning(0.1));
    let overdue = daemon.until("timeout/status", |status| status["warning_count"] == 1);
    assert_eq!(overdue["overdue"][0]["lease_id"], lease["lease_id"]);
}

#[test]
fn a_hang_up_reads_again_what_the_file_refers_to() {
    let scene = Scene::new();
    scene.write("token", "the-first-of-the-secrets\n");
    let place = scene.path("token").display().to_string();
    scene.write("config.yml", format!("{BRISK}server: {{tokens: ['operate:@{place}']}}\n"));
    let daemon = Daemon::start(&scene);
    let first = daemon.api().with_token("the-first-of-the-secrets");
    let second = daemon.api().with_token("the-second-of-the-secrets");
    first.get(POOLS).expect(200);
    scene.write("token", "the-second-of-the-secrets\n");
    daemon.signal(Signal::HUP);
    until("the old token counts no more", || first.get(POOLS).status == 401);
    second.get(POOLS).expect(200);
    fs::remove_file(scene.path("token")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.until_it_says("the new configuration is refused, the old one stays");
    second.get(POOLS).expect(200);
}

#[test]
fn one_that_makes_no_sense_is_refused_with_its_place_and_the_old_one_stays() {
    for (broken, told) in [
        ("gpu_lock_monitor:\n  timeout_levels:\n    warning: soon\n", "config.yml:3"),
        ("gpu_lock_monitor:\n  monitor_intervall: 5\n", "config.yml:2"),
        ("gpu_lock_monitor: [\n", "config.yml"),
    ] {
        let scene = Scene::with_config(&with_warning(1_000.0));
        let daemon = Daemon::start(&scene);
        replace(&scene, broken);
        daemon.until_it_says("the new configuration is refused, the old one stays");
        let log = daemon.log();
        let refused = log.split_once("the old one stays").unwrap().1;
        assert!(refused.contains(told), "{broken}: {refused}");
        assert_eq!(warning(&daemon), 1_000.0);
        daemon.api().get("/readyz").expect(200);
        replace(&scene, &with_warning(1_003.0));
        until("a good one counts again", || warning(&daemon) == 1_003.0);
    }
}

#[test]
fn a_token_that_is_added_is_asked_for() {
    let secret = "only-just-thought-of";
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let (stranger, reader) = (daemon.api(), daemon.api().with_token(secret));
    stranger.get(POOLS).expect(200);
    replace(&scene, &format!("{BRISK}server: {{tokens: ['read:{secret}']}}\n"));
    until("a token is asked for", || stranger.get(POOLS).status == 401);
    stranger.get("/healthz").expect(200);
    reader.get(POOLS).expect(200);
    reader.post("/api/v1/leases", json!({ "task": "ocr" })).expect(403).detail();
    assert!(!daemon.log().contains(secret));
    replace(&scene, BRISK);
    until("none is asked for", || stranger.get(POOLS).status == 200);
}

#[test]
fn what_counts_only_at_the_start_is_told() {
    let scene = Scene::with_config("pool: first\n");
    let daemon = Daemon::start(&scene);
    replace(&scene, "pool: second\n");
    daemon.until_it_says("the new value of `pool` counts when gpulock serve is started again");
    assert_eq!(daemon.api().get("/api/v1/leases").expect(200).body["pool"], "first");
}

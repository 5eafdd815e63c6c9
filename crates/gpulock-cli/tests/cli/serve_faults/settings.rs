//! A configuration that changes while the daemon runs.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use super::super::program::until;
use super::super::scene::Scene;
use super::daemon::Daemon;

fn levels(warning: u32) -> String {
    format!(
        "gpu_lock_monitor:\n  timeout_levels:\n    warning: {warning}\n    soft_timeout: 2000\n    hard_timeout: 3000\n"
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
fn a_changed_file_is_read_again() {
    let scene = Scene::with_config(&levels(1_000));
    let daemon = Daemon::start(&scene);
    assert_eq!(warning(&daemon), 1_000.0);
    replace(&scene, &levels(1_001));
    until("the new value counts", || warning(&daemon) == 1_001.0);
    daemon.until_it_logs("the configuration was read again");
    // Written in place; a reader may see a part of it, and looks again.
    scene.write("config.yml", levels(10_002).replace("2000", "20000").replace("3000", "30000"));
    until("the new value counts", || warning(&daemon) == 10_002.0);
}

#[test]
fn new_levels_act_on_a_lease_that_is_there() {
    let scene = Scene::with_config(&levels(1_000));
    let daemon = Daemon::start(&scene);
    let lease = daemon.acquire(&json!({"task": "ocr"}));
    daemon.until("monitor/status", |status| status["is_acting"] == true);
    replace(&scene, &levels(1_000).replace("warning: 1000", "warning: 0.1"));
    daemon.until("timeout/status", |status| status["warning_count"] == 1);
    assert_eq!(daemon.monitoring("timeout/status")["overdue"][0]["lease_id"], lease["lease_id"]);
}

#[test]
fn a_hang_up_reads_again_what_the_file_refers_to() {
    let scene = Scene::new();
    scene.write("token", "the-first-of-the-secrets\n");
    let place = scene.path("token").display().to_string();
    scene.write("config.yml", format!("server:\n  tokens: ['operate:@{place}']\n"));
    let mut daemon = Daemon::start(&scene).with_token("the-first-of-the-secrets");
    daemon.get("/api/v1/pools").expect(200);
    scene.write("token", "the-second-of-the-secrets\n");
    daemon.signal(Signal::HUP);
    until("the old token counts no more", || daemon.get("/api/v1/pools").status == 401);
    daemon.show("the-second-of-the-secrets");
    daemon.get("/api/v1/pools").expect(200);
    fs::remove_file(scene.path("token")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.until_it_logs("the new configuration is refused, the old one stays");
    daemon.get("/api/v1/pools").expect(200);
}

#[test]
fn one_that_makes_no_sense_is_refused_with_its_place_and_the_old_one_stays() {
    for (broken, told) in [
        ("gpu_lock_monitor:\n  timeout_levels:\n    warning: soon\n", "config.yml:3"),
        ("gpu_lock_monitor:\n  monitor_intervall: 5\n", "config.yml:2"),
        ("gpu_lock_monitor: [\n", "config.yml"),
    ] {
        let scene = Scene::with_config(&levels(1_000));
        let daemon = Daemon::start(&scene);
        replace(&scene, broken);
        daemon.until_it_logs("the new configuration is refused, the old one stays");
        let log = daemon.log();
        let refused = log.split_once("the old one stays").unwrap().1;
        assert!(refused.contains(told), "{broken}: {refused}");
        assert_eq!(warning(&daemon), 1_000.0);
        assert_eq!(daemon.get("/readyz").status, 200);
        replace(&scene, &levels(1_003));
        until("a good one counts again", || warning(&daemon) == 1_003.0);
    }
}

#[test]
fn a_token_that_is_added_is_asked_for() {
    let scene = Scene::with_config(&levels(1_000));
    let mut daemon = Daemon::start(&scene);
    daemon.get("/api/v1/pools").expect(200);
    let secret = "only-just-thought-of";
    replace(&scene, &format!("{}server:\n  tokens: ['read:{secret}']\n", levels(1_000)));
    until("a token is asked for", || daemon.get("/api/v1/pools").status == 401);
    daemon.get("/healthz").expect(200);
    daemon.show(secret);
    daemon.get("/api/v1/pools").expect(200);
    daemon.post("/api/v1/leases", &json!({"task": "ocr"})).problem(403);
    assert!(!daemon.log().contains(secret));
    replace(&scene, &levels(1_000));
    daemon.show_nothing();
    until("none is asked for", || daemon.get("/api/v1/pools").status == 200);
}

#[test]
fn what_counts_only_at_the_start_is_told() {
    let scene = Scene::with_config("pool: first\n");
    let daemon = Daemon::start(&scene);
    replace(&scene, "pool: second\n");
    daemon.until_it_logs("the new value of `pool` counts when gpulock serve is started again");
    assert_eq!(daemon.get("/api/v1/leases").expect(200)["pool"], "first");
}

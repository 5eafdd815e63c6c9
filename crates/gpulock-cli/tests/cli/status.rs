//! `gpulock status`.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use super::program::until;
use super::scene::Scene;

#[test]
fn people_see_who_holds_and_who_waits() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stderr
    gpulock: nobody has asked for a GPU yet
    ");
    let _pair = scene.holder("ocr", &["--gpus", "2"]);
    let _waiter = scene.waiter("asr", &["--priority", "high", "--gpu", "1"]);
    let _other = scene.waiter("tts", &[]);
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stdout
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  held  ocr  SPAN  SPAN ago  in SPAN  PID  tester  HOST
    1  held  ocr  SPAN  SPAN ago  in SPAN  PID  tester  HOST

    PLACE  TASK  WANTS  PRIORITY  WAITS  PID  USER  HOST
    1  asr  GPU 1  high  SPAN  PID  tester  HOST
    2  tts  any GPU  normal  SPAN  PID  tester  HOST
    ");
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    // Made up, so that every machine knows the same of it.
    let scene = Scene::with_config("gpus: [GPU-made-up]\n");
    let _holder = scene.holder("ocr", &["--priority", "low"]);
    let _waiter = scene.waiter("asr", &["--gpu", "0"]);
    let _other = scene.waiter("tts", &[]);
    let report: Value =
        serde_json::from_str(&scene.gpulock(&["status", "--json"]).expect(0).stdout).unwrap();
    assert_eq!(fields(&report), "pools");
    let pool = &report["pools"][0];
    assert_eq!(fields(pool), "gpus gpus_from leases name queue version");
    assert_eq!(fields(&pool["gpus"][0]), "id lease_id lock_key state uuid");
    assert_eq!(
        fields(&pool["leases"][0]),
        "acquired_at age_seconds deadline_in_seconds gpus heartbeats host last_heartbeat_seconds_ago \
         lease_id pid priority state task token user"
    );
    assert_eq!(
        fields(&pool["queue"][0]),
        "host lease_id pid position priority task user waiting_seconds wants"
    );
    let (gpu, lease) = (&pool["gpus"][0], &pool["leases"][0]);
    assert_eq!(
        (&gpu["id"], &gpu["lock_key"], &gpu["state"]),
        (&0.into(), &"gpu_lock:0".into(), &"held".into())
    );
    assert_eq!(gpu["lease_id"], lease["lease_id"]);
    assert_eq!(
        (&lease["task"], &lease["priority"], &lease["heartbeats"]),
        (&"ocr".into(), &"low".into(), &true.into())
    );
    let wants: Vec<_> =
        pool["queue"].as_array().unwrap().iter().map(|waiter| &waiter["wants"]["gpus"]).collect();
    assert_eq!(wants, [&serde_json::json!([0]), &serde_json::json!(1)]);
    assert_eq!(
        (&pool["queue"][0]["position"], &pool["queue"][1]["position"]),
        (&1.into(), &2.into())
    );
}

fn fields(object: &Value) -> String {
    let names: BTreeSet<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_pool_is_shown_unless_one_is_named() {
    let scene = Scene::with_config("gpus: [0]\n");
    scene.gpulock(&["run", "--", "true"]).expect(0);
    scene.gpulock(&["run", "--pool", "lab", "--", "true"]).expect(0);
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 0
    --- stdout
    pool default
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  free
    pool lab
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  free
    ");
    insta::assert_snapshot!(scene.gpulock(&["status", "--pool", "lab"]).told(), @"
    exit code 0
    --- stdout
    pool lab
    GPU  STATE  TASK  HELD  HEARTBEAT  ENDS  PID  USER  HOST
    0  free
    ");
}

#[test]
fn watch_shows_the_next_picture() {
    let scene = Scene::with_config("gpus: [0]\n");
    let watch = scene.start(&["status", "--watch"]);
    until("there are two pictures", || {
        watch.stdout().matches("GPU  STATE").count()
            + watch.stderr().matches("nobody has asked").count()
            >= 2
    });
    let _holder = scene.holder("ocr", &[]);
    until("the new holder is seen", || watch.stdout().contains("ocr"));
    watch.signal(Signal::INT);
    assert_eq!(watch.ended().code(), 128 + 2);
}

#[test]
fn watch_ends_when_its_reader_does() {
    let scene = Scene::with_config("gpus: [0]\n");
    scene.gpulock(&["run", "--", "true"]).expect(0);
    let ended = scene.shell("gpulock status --watch | head -1").expect(0);
    assert!(ended.stdout.starts_with("GPU"), "{ended:?}");
}

#[test]
fn names_of_others_cannot_move_the_cursor() {
    let mut scene = Scene::with_config("gpus: [0]\n");
    scene.set("USER", "evil\u{1b}[2J\u{7}");
    let _holder = scene.holder("ocr", &[]);
    let ended = scene.gpulock(&["status"]).expect(0);
    assert!(!ended.stdout.contains(['\u{1b}', '\u{7}']), "{ended:?}");
    assert!(ended.stdout.contains("evil"), "{ended:?}");
}

//! Signs of life of tasks, with or without a GPU.

use serde_json::{Value, json};

use super::daemon::{Api, BRISK, Daemon};
use crate::cli::program::until;
use crate::cli::scene::Scene;

const TASK: &str = "/api/v1/monitoring/heartbeat/task";

fn all(api: &Api) -> Value {
    api.get("/api/v1/monitoring/heartbeat/all").expect(200).body
}

#[test]
fn a_task_begins_tells_its_progress_and_is_forgotten() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let begun =
        api.post(&format!("{TASK}/job-1/start"), json!({ "message": "begins" })).expect(201);
    assert_eq!(begun.body["heartbeat_status"], "active");
    let word = json!({ "progress": 40.5, "message": "half" });
    let told = api.put(&format!("{TASK}/job-1"), word).expect(200).body;
    assert_eq!(told["start_time"], begun.body["start_time"]);
    let active = all(&api)["active_tasks"]["job-1"].clone();
    assert_eq!((&active["progress"], &active["message"]), (&json!(40.5), &json!("half")));
    assert_eq!(active["status"], "running");
    let done = api.put(&format!("{TASK}/job-1"), json!({ "status": "completed" })).expect(200).body;
    assert_eq!((&done["heartbeat_status"], &done["progress"]), (&json!("finished"), &json!(40.5)));
    assert_eq!(all(&api)["statistics"]["total_tasks"], 0);
    api.delete(&format!("{TASK}/job-1"), json!({})).expect(204);
    api.get(&format!("{TASK}/job-1")).expect(404);
}

#[test]
fn a_silent_task_is_dead_one_without_its_lease_is_an_orphan_and_both_are_cleaned_up() {
    let scene = Scene::with_config(
        "gpus: [0]\ngpu_lock_monitor:\n  heartbeat: {interval: 0.2, timeout: 1}\n",
    );
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let lease = api.acquire("asr", 60.0);
    let works = json!({ "lease_id": lease["lease_id"] });
    api.post(&format!("{TASK}/orphan/start"), works).expect(201);
    assert_eq!(
        all(&api)["active_tasks"]["asr"]["lease_id"],
        lease["lease_id"],
        "a lease is one too"
    );
    api.give_back(&lease).expect(204);
    until("it is an orphan", || all(&api)["orphaned_tasks"]["orphan"].is_object());
    api.post(&format!("{TASK}/silent/start"), json!({})).expect(201);
    until("it is dead", || all(&api)["dead_tasks"]["silent"].is_object());
    assert_eq!(all(&api)["statistics"]["heartbeat_failures"], 1);
    let cleaned = api.post("/api/v1/monitoring/heartbeat/cleanup", json!({})).expect(200).body;
    assert_eq!(cleaned["removed"], 2);
    assert_eq!(all(&api)["statistics"]["total_tasks"], 0);
}

#[test]
fn signs_of_life_outlive_the_daemon() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    daemon.api().post(&format!("{TASK}/job-1/start"), json!({ "message": "begins" })).expect(201);
    daemon.kill();
    let daemon = Daemon::start(&scene);
    let known = daemon.api().get(&format!("{TASK}/job-1")).expect(200).body;
    assert_eq!(known["message"], "begins");
}

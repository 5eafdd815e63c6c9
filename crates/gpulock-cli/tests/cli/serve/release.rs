//! Taking a lease away by the name of its GPU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::daemon::{Api, BRISK, Daemon};
use crate::cli::scene::Scene;

const PATHS: [&str; 2] = ["/api/v1/monitoring/release-lock", "/api/v1/monitoring/lock/release"];

/// How often a release and a forced release meet.
const TRIES: usize = 10_000;

fn release(api: &Api, path: &str) -> Value {
    api.post(path, json!({ "lock_key": "gpu_lock:0", "reason": "stuck" })).expect(200).body
}

#[test]
fn it_takes_the_lease_that_it_finds_and_says_which() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    for path in PATHS {
        let lease = api.acquire("asr", 60.0);
        let released = release(&api, path);
        assert_eq!(released["success"], true);
        assert_eq!(
            (&released["lease_id"], &released["token"]),
            (&lease["lease_id"], &lease["token"])
        );
        assert!(released["message"].as_str().unwrap().contains("asr"));
        assert_eq!(release(&api, path)["success"], false, "nobody holds it any more");
    }
    daemon.until_it_says("changed by the API");
    let history = api.get("/api/v1/history?task=asr").body;
    assert_eq!(history["events"][0]["how"]["seized"]["reason"], "stuck");
}

#[test]
fn it_needs_a_token_that_may_operate() {
    let mut scene = Scene::with_config(BRISK);
    scene
        .set("GPULOCK_SERVER__TOKENS", "read:a-token-to-read-with,operate:a-token-to-operate-with");
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let operator = api.with_token("a-token-to-operate-with");
    let lease = operator.acquire("asr", 60.0);
    let asked = json!({ "lock_key": "gpu_lock:0", "reason": "stuck" });
    for path in PATHS {
        api.post(path, asked.clone()).expect(401);
        api.with_token("a-token-that-is-wrong").post(path, asked.clone()).expect(401);
        api.with_token("a-token-to-read-with").post(path, asked.clone()).expect(403);
    }
    let reader = api.with_token("a-token-to-read-with");
    assert_eq!(reader.get("/api/v1/leases").expect(200).body["leases"][0]["token"], lease["token"]);
    assert_eq!(release(&operator, PATHS[0])["success"], true);
    daemon.until_it_says("who=token 2");
    assert!(!daemon.log().contains("a-token-to-operate-with"));
}

#[test]
fn it_never_frees_a_successor() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let is_over = AtomicBool::new(false);
    let seized = thread::scope(|scope| {
        let robber = scope.spawn(|| {
            let mut seized = Vec::new();
            for _ in 0..TRIES {
                let released = release(&api, PATHS[0]);
                if released["success"] == true {
                    seized.push(released["token"].as_u64().unwrap());
                }
            }
            is_over.store(true, Ordering::Relaxed);
            seized
        });
        // Each of its leases either ends by its own release, or is one that was robbed.
        let mut robbed = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let lease = api.acquire("worker", 60.0);
            if api.give_back(&lease).status != 204 {
                robbed.push(lease["token"].as_u64().unwrap());
            }
        }
        let seized = robber.join().unwrap();
        assert_eq!(seized, robbed, "what was taken away, and what its holder lost");
        seized
    });
    assert!(!seized.is_empty(), "they never met");
}

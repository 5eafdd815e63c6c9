//! Callers that hang up while they wait.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::program::until;
use super::super::scene::Scene;
use super::daemon::Daemon;
use super::{set_monitor, story};

/// More than one in ten of them hits the moment between grant and answer.
const TRIES: u32 = 60;

#[test]
fn a_caller_that_hangs_up_leaves_the_queue() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene);
    let holder = daemon.acquire(&json!({"task": "holder"}));
    let mut asking = daemon.connect();
    asking.send("POST", "/api/v1/leases", &[], Some(&json!({"task": "ocr"})));
    scene.until_queued("ocr");
    drop(asking);
    until("the queue is empty", || daemon.get("/api/v1/queue").expect(200)["queue"] == json!([]));
    assert_eq!(story(&daemon.history(), "ocr"), ["queued", "cancelled"]);
    daemon.give_back(&holder);
    assert_eq!(daemon.get("/api/v1/leases").expect(200)["leases"], json!([]));
}

#[test]
fn who_hangs_up_in_the_moment_of_the_grant_has_the_answer_or_no_lease() {
    let mut scene = Scene::new();
    // Nobody else takes back what is left behind.
    set_monitor(&mut scene, "enabled", "false");
    let daemon = Daemon::start(&scene);
    let mut answered = 0;
    for number in 0..TRIES {
        let lease_id = format!("{:032x}", 0xabc_0000 + number);
        let holder = daemon.acquire(&json!({"task": "holder"}));
        let mut asking = daemon.connect();
        let wish = json!({"task": "ocr", "lease_id": lease_id, "max_wait_time": 100});
        asking.send("POST", "/api/v1/leases", &[], Some(&wish));
        until("it waits", || !queue(&daemon).is_empty());
        let line = asking.line();
        // From before the release to after the answer.
        let pause = Duration::from_micros(u64::from(number) * 150);
        let hanging_up = thread::spawn(move || {
            thread::sleep(pause);
            let _ = line.shutdown(Shutdown::Write);
        });
        daemon.give_back(&holder);
        hanging_up.join().unwrap();
        if let Some(answer) = asking.answer() {
            answered += 1;
            daemon.give_back(&answer.expect(201));
        }
        until(&format!("try {number} has left nothing"), || {
            queue(&daemon).is_empty() && leases(&daemon).is_empty()
        });
    }
    assert!(answered > 0, "some hung up after the answer");
}

fn queue(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/api/v1/queue").expect(200)["queue"].as_array().unwrap().clone()
}

fn leases(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/api/v1/leases").expect(200)["leases"].as_array().unwrap().clone()
}

#[test]
fn who_hangs_up_and_asks_again_keeps_what_is_granted_then() {
    let scene = Scene::new();
    let daemon = Daemon::start(&scene);
    for number in 0..TRIES {
        let lease_id = format!("{:032x}", 0xdef_0000 + number);
        let wish = json!({"task": "ocr", "lease_id": lease_id, "max_wait_time": 100});
        let holder = daemon.acquire(&json!({"task": "holder"}));
        let mut asking = daemon.connect();
        asking.send("POST", "/api/v1/leases", &[], Some(&wish));
        until("it waits", || !queue(&daemon).is_empty());
        let releasing = || daemon.give_back(&holder);
        let lease = thread::scope(|scope| {
            drop(asking);
            scope.spawn(releasing);
            ask_until_let_in(&daemon, &wish)
        });
        let renew = format!("{}/renew", super::daemon::place_of(&lease));
        // What was taken back late would have been taken back by now.
        for _ in 0..20 {
            daemon.post(&renew, &json!({"token": lease["token"]})).expect(200);
        }
        daemon.give_back(&lease);
    }
}

/// Asks again while the first request is still being taken back.
fn ask_until_let_in(daemon: &Daemon, wish: &Value) -> Value {
    let mut lease = Value::Null;
    until("it is let in", || {
        let answer = daemon.post("/api/v1/leases", wish);
        let is_granted = answer.status == 201;
        lease = answer.expect_one_of([201, 409]);
        is_granted
    });
    lease
}

//! Callers that hang up while they wait.

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::Answer;
use super::daemon::{Api, BRISK, Daemon, path_of, story};
use crate::cli::program::until;
use crate::cli::scene::Scene;

/// About one in ten of them hits the moment between grant and answer.
const TRIES: u32 = 60;

/// What a caller asks for in this try, each time under an id of its own.
fn wish(number: u32) -> Value {
    json!({ "task": "ocr", "lease_id": format!("{number:032x}"), "max_wait_time": 100 })
}

/// A call that waits behind the holder.
fn waiting(api: &Api, wish: &Value) -> TcpStream {
    let call = api.send("POST", "/api/v1/leases", Some(wish.clone()), "");
    until("it waits", || api.queue().len() == 1);
    call
}

#[test]
fn a_caller_that_hangs_up_has_left_the_queue() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let held = api.acquire("asr", 60.0);
    drop(waiting(&api, &wish(1)));
    until("nobody waits", || api.queue().is_empty());
    assert_eq!(story(&api.history(), "ocr"), ["queued", "cancelled"]);
    api.give_back(&held).expect(204);
    assert_eq!(api.leases(), Vec::<Value>::new());
}

#[test]
fn who_hangs_up_in_the_moment_of_the_grant_has_the_answer_or_no_lease() {
    // Nobody else takes back what is left behind.
    let scene = Scene::with_config("gpus: [0]\ngpu_lock_monitor: {enabled: false}\n");
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    let mut answered = 0;
    let mut pause = Duration::from_micros(300);
    for number in 0..TRIES {
        let held = api.acquire("holder", 60.0);
        let call = waiting(&api, &wish(number));
        let line = call.try_clone().unwrap();
        let hanging_up = thread::spawn(move || {
            thread::sleep(pause);
            let _ = line.shutdown(Shutdown::Write);
        });
        api.give_back(&held).expect(204);
        hanging_up.join().unwrap();
        // Who came too late for the moment is earlier the next time, and the other way round.
        if let Some(answer) = Answer::receive(call) {
            answered += 1;
            api.give_back(&answer.expect(201).body).expect(204);
            pause = pause * 7 / 8;
        } else {
            pause = pause * 9 / 8 + Duration::from_micros(10);
        }
        until(&format!("try {number} has left nothing"), || {
            api.queue().is_empty() && api.leases().is_empty()
        });
    }
    assert!((1..TRIES).contains(&answered), "some hung up after the answer, some before");
}

#[test]
fn who_hangs_up_and_asks_again_keeps_what_is_granted_then() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    let api = daemon.api();
    for number in 0..TRIES {
        let held = api.acquire("holder", 60.0);
        let call = waiting(&api, &wish(number));
        let lease = thread::scope(|scope| {
            scope.spawn(|| api.give_back(&held).expect(204));
            // From before the grant to after the answer.
            thread::sleep(Duration::from_micros(u64::from(number) * 10));
            drop(call);
            ask_until_let_in(&api, &wish(number))
        });
        let renew = format!("{}/renew", path_of(&lease));
        // What was taken back late would have been taken back by now.
        for _ in 0..20 {
            api.post(&renew, json!({ "token": lease["token"] })).expect(200);
        }
        api.give_back(&lease).expect(204);
    }
}

/// Asks again while the first request is still being taken back.
fn ask_until_let_in(api: &Api, wish: &Value) -> Value {
    let mut lease = Value::Null;
    until("it is let in", || {
        let answer = api.post("/api/v1/leases", wish.clone());
        let is_granted = answer.status == 201;
        lease = answer.expect(if is_granted { 201 } else { 409 }).body;
        is_granted
    });
    lease
}

//! Waiting for a GPU: who goes first, and what those who give up are told.

use std::collections::HashSet;

use super::program::until;
use super::scene::Scene;

#[test]
fn no_wait_gives_75_and_says_who_holds() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    insta::assert_snapshot!(scene.gpulock(&["run", "--no-wait", "--", "touch", "ran"]).told(), @"
    exit code 75
    --- stderr
    error: any GPU is not free: held by ocr (pid PID on HOST) for SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    assert!(!scene.exists("ran"));
}

#[test]
fn giving_up_says_who_holds_for_how_long_and_how_many_are_ahead() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    insta::assert_snapshot!(scene.gpulock(&["run", "--wait", "300ms", "--", "touch", "ran"]).told(), @"
    exit code 75
    --- stderr
    gpulock: waiting, place 1 in the queue; GPU 0 held by ocr (pid PID on HOST) for SPAN
    error: any GPU did not become free within SPAN: held by ocr (pid PID on HOST) for SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    let _first = scene.waiter("asr", &[]);
    let _second = scene.waiter("tts", &["--priority", "high"]);
    let given_up = scene.gpulock(&["run", "--wait", "300ms", "--gpu", "0", "--", "touch", "ran"]);
    insta::assert_snapshot!(given_up.told(), @"
    exit code 75
    --- stderr
    gpulock: waiting, place 3 in the queue; GPU 0 held by ocr (pid PID on HOST) for SPAN
    error: GPU 0 did not become free within SPAN: held by ocr (pid PID on HOST) for SPAN; 2 ahead in the queue

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    assert!(!scene.exists("ran"));
}

#[test]
fn those_who_wait_for_another_gpu_keep_nobody_from_a_free_one() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let one = scene.holder("one", &["--gpu", "0"]);
    let pair = scene.waiter("pair", &["--gpus", "2"]);
    scene.gpulock(&["run", "--no-wait", "--gpu", "1", "--", "true"]).expect(0);
    scene.gpulock(&["run", "--no-wait", "--gpu", "0", "--", "true"]).expect(75);
    scene.let_go("one");
    one.ended().expect(0);
    pair.ended().expect(0);
}

#[test]
fn the_urgent_go_before_the_others() {
    let scene = Scene::new();
    let holder = scene.holder("first", &[]);
    let waiters: Vec<_> = ["low", "normal", "high", "urgent"]
        .into_iter()
        .flat_map(|priority| [(priority, 1), (priority, 2)])
        .map(|(priority, number)| {
            scene.waiter(&format!("{priority}{number}"), &["--priority", priority])
        })
        .collect();
    scene.let_go("first");
    holder.ended().expect(0);
    waiters.into_iter().for_each(|waiter| drop(waiter.ended().expect(0)));
    let order = scene.read("order");
    let expected = ["urgent1", "urgent2", "high1", "high2", "normal1", "normal2", "low1", "low2"];
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
}

/// Fails if another one is inside, and notes in which order they come.
const ALONE: &str = "mkdir inside || echo $GPULOCK_LEASE_ID >> overlap
    echo $GPULOCK_LEASE_ID >> order
    rmdir inside";

#[test]
fn sixty_four_at_once_run_one_by_one_in_the_order_of_arrival() {
    let scene = Scene::new();
    let all: Vec<_> = (0..64).map(|n| scene.start_run(&format!("job{n}"), &[], ALONE)).collect();
    for one in all {
        let ended = one.ended().expect(0);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(scene.read("overlap"), "");
    let order = scene.read("order");
    let ran: Vec<_> = order.lines().collect();
    let events = scene.events();
    let mut known = HashSet::new();
    let arrived: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "queued" || event["event"] == "granted")
        .map(|event| event["lease_id"].as_str().unwrap())
        .filter(|lease| known.insert(*lease))
        .collect();
    assert_eq!(arrived.len(), 64);
    assert_eq!(ran, arrived);
}

#[test]
fn many_on_two_gpus_never_share_one() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let script = "mkdir inside$GPULOCK_LEASE_GPUS || echo overlap >> overlap
        echo $GPULOCK_LEASE_GPUS >> used
        rmdir inside$GPULOCK_LEASE_GPUS";
    let all: Vec<_> = (0..20).map(|n| scene.start_run(&format!("job{n}"), &[], script)).collect();
    all.into_iter().for_each(|one| drop(one.ended().expect(0)));
    assert_eq!(scene.read("overlap"), "");
    assert_eq!(scene.read("used").lines().count(), 20);
}

#[test]
fn two_that_want_both_gpus_by_name_do_not_block_each_other() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let script = "mkdir inside || echo overlap >> overlap; rmdir inside";
    let all: Vec<_> = (0..10)
        .map(|n| {
            scene.start_run("pair", &["--gpu", if n % 2 == 0 { "0,1" } else { "1,0" }], script)
        })
        .collect();
    all.into_iter().for_each(|one| drop(one.ended().expect(0)));
    assert_eq!(scene.read("overlap"), "");
}

#[test]
fn elsewhere_than_on_a_terminal_the_waiting_line_comes_once() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let waiter = scene.waiter("asr", &[]);
    waiter.until_it_says("waiting");
    // It has looked at least once more when the place in the queue changes.
    let urgent = scene.waiter("tts", &["--priority", "urgent"]);
    scene.let_go("ocr");
    holder.ended().expect(0);
    urgent.ended().expect(0);
    insta::assert_snapshot!(waiter.ended().told(), @"
    exit code 0
    --- stderr
    gpulock: waiting, place 1 in the queue; GPU 0 held by ocr (pid PID on HOST) for SPAN
    ");
}

#[test]
fn pools_do_not_know_each_other() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    scene.gpulock(&["run", "--pool", "lab", "--no-wait", "--", "true"]).expect(0);
    scene.gpulock(&["run", "--no-wait", "--", "true"]).expect(75);
}

#[test]
fn the_first_request_of_a_pool_may_be_one_that_does_not_wait() {
    let scene = Scene::new();
    for number in 0..30 {
        let pool = format!("pool{number}");
        scene.gpulock(&["run", "--pool", &pool, "--no-wait", "--", "true"]).expect(0);
    }
}

#[test]
fn those_who_wait_run_in_the_order_that_status_shows() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let all: Vec<_> = (0..32).map(|n| scene.start_run(&format!("job{n}"), &[], ALONE)).collect();
    let mut queue = Vec::new();
    until("all of them wait", || {
        let pool = scene.pool();
        let waiters = pool["queue"].as_array().unwrap().iter();
        queue = waiters.map(|waiter| waiter["lease_id"].as_str().unwrap().to_owned()).collect();
        queue.len() == all.len()
    });
    scene.let_go("ocr");
    holder.ended().expect(0);
    all.into_iter().for_each(|one| drop(one.ended().expect(0)));
    assert_eq!(scene.read("order").lines().collect::<Vec<_>>(), queue);
    assert_eq!(scene.read("overlap"), "");
}

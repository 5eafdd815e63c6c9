//! `gpulock history`.

use serde_json::Value;

use super::scene::Scene;

fn lines(scene: &Scene, options: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["history", "--json"];
    arguments.extend(options);
    let ended = scene.gpulock(&arguments).expect(0);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn nothing_has_happened_yet() {
    let scene = Scene::new();
    insta::assert_snapshot!(scene.gpulock(&["history"]).told(), @"
    exit code 0
    --- stderr
    gpulock: nothing has happened yet
    ");
    assert!(lines(&scene, &[]).is_empty());
}

#[test]
fn people_read_what_happened() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let holder = scene.holder("ocr", &["--gpus", "2"]);
    scene.gpulock(&["run", "--task", "hasty", "--wait", "10ms", "--", "true"]).expect(75);
    let waiter = scene.waiter("asr", &["--gpu", "1"]);
    scene.let_go("ocr");
    holder.ended().expect(0);
    waiter.ended().expect(0);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]{12}", "DATE");
    settings.add_filter(r"  [0-9]+  ", "  PID  ");
    let told = scene.gpulock(&["history"]).told();
    settings.bind(|| {
        insta::assert_snapshot!(told, @"
    exit code 0
    --- stdout
    WHEN  TASK  PID  WHAT
    DATE  -  -  the pool has GPUs 0 and 1
    DATE  ocr  PID  gets GPU 0,1 after SPAN
    DATE  ocr  PID  starts to work
    DATE  hasty  PID  waits for any GPU, priority normal
    DATE  hasty  PID  gives up after SPAN
    DATE  asr  PID  waits for GPU 1, priority normal
    DATE  ocr  PID  gives back GPU 0,1 after SPAN
    DATE  asr  PID  gets GPU 1 after SPAN
    DATE  asr  PID  starts to work
    DATE  asr  PID  gives back GPU 1 after SPAN
    ")
    });
}

#[test]
fn json_gives_one_event_a_line_the_latest_last() {
    let scene = Scene::with_config("gpus: [0]\n");
    scene.gpulock(&["run", "--task", "ocr", "--", "true"]).expect(0);
    scene.gpulock(&["run", "--task", "asr", "--", "true"]).expect(0);
    let all = lines(&scene, &[]);
    let named: Vec<_> =
        all.iter().map(|e| (e["event"].as_str().unwrap(), e["task"].as_str())).collect();
    let of = |task| [("granted", Some(task)), ("claimed", Some(task)), ("ended", Some(task))];
    assert_eq!(named, [&[("configured", None)][..], &of("ocr"), &of("asr")].concat());
    assert!(all.is_sorted_by_key(|event| event["at"].as_u64().unwrap()));
}

#[test]
fn limit_and_task_choose_the_latest_of_what_is_asked_for() {
    let scene = Scene::with_config("gpus: [0]\n");
    for task in ["ocr", "asr", "ocr"] {
        scene.gpulock(&["run", "--task", task, "--", "true"]).expect(0);
    }
    let all = lines(&scene, &[]);
    assert_eq!(lines(&scene, &["--limit", "2"]), all[all.len() - 2..]);
    let of_ocr = lines(&scene, &["--task", "ocr"]);
    assert_eq!(of_ocr.len(), 6);
    assert!(of_ocr.iter().all(|event| event["task"] == "ocr"));
    assert_eq!(lines(&scene, &["--task", "ocr", "--limit", "3"]), of_ocr[3..]);
    assert!(lines(&scene, &["--task", "nobody"]).is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let scene = Scene::with_config("gpus: [0]\n");
    for _ in 0..5 {
        scene.gpulock(&["run", "--", "true"]).expect(0);
    }
    let ended = scene.shell("{ gpulock history --json; echo $? >&2; } | head -1").expect(0);
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, "0\n"));
}

//! What a command tells of its progress through the pipe that `gpulock run` gives it.

use std::fs;

use super::program::{Running, until};
use super::scene::Scene;

/// Starts a command that tells something and then holds its GPU until `go` is there.
fn telling(scene: &Scene, words: &str) -> Running {
    let script = format!("{words}\necho told > told; until [ -e go ]; do sleep 0.01; done");
    let running = scene.start_run("ocr", &[], &script);
    scene.wait_for_line("told");
    running
}

#[track_caller]
fn until_shown(scene: &Scene, progress: f64, message: &str) {
    until(&format!("the status shows {progress} and {message:?}"), || {
        let lease = scene.lease();
        lease["progress"] == progress && lease["message"] == message
    });
}

#[track_caller]
fn let_end(scene: &Scene, running: Running) -> String {
    scene.write("go", "");
    let ended = running.ended().expect(0);
    assert_eq!(ended.stdout, "");
    ended.stderr
}

#[test]
fn what_a_command_tells_stands_in_the_status() {
    let scene = Scene::new();
    let words = "echo progress 45.5 frame 100 of 220 >&$GPULOCK_PROGRESS_FD";
    let running = telling(&scene, words);
    until_shown(&scene, 45.5, "frame 100 of 220");
    assert_eq!(let_end(&scene, running), "");
}

#[test]
fn without_a_word_there_is_no_progress() {
    let scene = Scene::new();
    let running = telling(&scene, "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-");
    let lease = scene.lease();
    assert!(lease["progress"].is_null() && lease["message"].is_null(), "{lease}");
    assert_eq!(let_end(&scene, running), "");
}

#[test]
fn the_last_of_many_words_arrives() {
    let scene = Scene::new();
    let words = "i=0; while [ $i -lt 100 ]; do
        echo progress $i step $i >&$GPULOCK_PROGRESS_FD; i=$((i+1)); done
        echo progress 100 all of them >&$GPULOCK_PROGRESS_FD";
    let running = telling(&scene, words);
    until_shown(&scene, 100.0, "all of them");
    assert_eq!(let_end(&scene, running), "");
}

#[test]
fn what_is_not_understood_is_ignored_with_one_warning() {
    let scene = Scene::new();
    let words = "echo half way there >&$GPULOCK_PROGRESS_FD
        echo progress 101 >&$GPULOCK_PROGRESS_FD
        head -c 1000000 /dev/zero >&$GPULOCK_PROGRESS_FD
        printf '\\nprogress 7 seven\\nprogress 8 without an end' >&$GPULOCK_PROGRESS_FD";
    let running = telling(&scene, words);
    until_shown(&scene, 7.0, "seven");
    insta::assert_snapshot!(let_end(&scene, running), @r#"
    warning: the command wrote "half way there" to GPULOCK_PROGRESS_FD; such lines are ignored

    hint: write lines `progress PERCENT [MESSAGE]` with PERCENT from 0 to 100
    "#);
}

#[test]
fn a_flood_ends_neither_the_lease_nor_the_listening() {
    let mut scene = Scene::new();
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", "200ms");
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", "2s");
    let words = "yes 'progress 1 flood' | head -c 30000000 >&$GPULOCK_PROGRESS_FD
        echo >&$GPULOCK_PROGRESS_FD; echo progress 2 after it >&$GPULOCK_PROGRESS_FD";
    let running = telling(&scene, words);
    until_shown(&scene, 2.0, "after it");
    scene.write("go", "");
    running.ended().expect(0);
}

#[test]
fn a_flood_keeps_nobody_from_stopping_the_command() {
    let scene = Scene::new();
    let script = "echo $$ > worker.pid; exec yes progress 1 flood >&$GPULOCK_PROGRESS_FD";
    let running = scene.start_run("ocr", &[], script);
    scene.wait_for_pid("worker.pid");
    until_shown(&scene, 1.0, "flood");
    scene.gpulock(&["release", "gpu_lock:0", "--ask", "--reason", "maintenance"]).expect(0);
    let ended = running.ended().expect(128 + 15);
    assert_eq!(ended.stderr, "gpulock: asked to stop: maintenance\n");
}

#[test]
fn what_the_command_leaves_behind_may_keep_the_pipe() {
    let scene = Scene::new();
    let script = "setsid sh -c 'echo $$ > left.pid; until [ -e go ]; do sleep 0.01; done
        trap \"\" PIPE; echo progress 1 >&$GPULOCK_PROGRESS_FD || echo nobody listens > heard' \
        2>/dev/null & until [ -s left.pid ]; do sleep 0.01; done";
    scene.start_run("ocr", &[], script).ended().expect(0);
    scene.write("go", "");
    assert_eq!(scene.wait_for_line("heard"), "nobody listens");
}

#[test]
fn only_the_command_has_the_end_to_write_to() {
    let scene = Scene::new();
    let words =
        "echo $GPULOCK_PROGRESS_PIPE > pipe; readlink /proc/$$/fd/$GPULOCK_PROGRESS_FD > end
        ls -l /proc/$$/fd | grep -cF \"$(cat end)\" > count";
    let running = telling(&scene, words);
    let pipe = format!("pipe:[{}]", scene.wait_for_line("pipe"));
    assert_eq!(scene.wait_for_line("end"), pipe);
    assert_eq!(scene.wait_for_line("count"), "1");
    let own = fs::read_dir(format!("/proc/{}/fd", running.pid().as_raw_nonzero())).unwrap();
    let ends: Vec<_> = own
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy() == pipe)
        .collect();
    assert_eq!(ends.len(), 1, "the end to read from, and no other: {ends:?}");
    assert_eq!(let_end(&scene, running), "");
}

#[test]
fn a_run_inside_a_run_has_a_pipe_of_its_own() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let words = "gpulock run --task inner -- sh -c 'echo progress 2 inner >&$GPULOCK_PROGRESS_FD
            until [ -e go ]; do sleep 0.01; done' &
        echo progress 1 outer >&$GPULOCK_PROGRESS_FD; trap wait EXIT";
    let running = telling(&scene, words);
    until("both have told", || {
        let pool = scene.pool();
        let told = |task: &str| {
            let mut leases = pool["leases"].as_array().unwrap().iter();
            leases.find(|lease| lease["task"] == task).map(|lease| lease["message"].clone())
        };
        told("ocr") == Some("outer".into()) && told("inner") == Some("inner".into())
    });
    assert_eq!(let_end(&scene, running), "");
}

#[test]
fn a_command_without_a_lease_has_no_pipe() {
    let mut scene = Scene::new();
    fs::write(scene.store_path(), "my notes\n").unwrap();
    scene.set_lock("on_store_error", "run_unlocked");
    let script = "echo ${GPULOCK_PROGRESS_FD-none}; readlink /proc/self/fd/* > files";
    let pipes = || {
        let ended = scene.read("files");
        ended.lines().filter(|file| file.starts_with("pipe:")).map(str::to_owned).collect()
    };
    scene.shell(script);
    let inherited: Vec<String> = pipes();
    assert!(!scene.read("files").is_empty());
    let ended = scene.gpulock(&["run", "--", "sh", "-c", script]);
    assert_eq!((ended.stdout.as_str(), pipes()), ("none\n", inherited), "{ended:?}");
}

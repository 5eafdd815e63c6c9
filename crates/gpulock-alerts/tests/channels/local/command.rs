//! Commands: well-behaved, deaf, endless, and gone before they are done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpulock_alerts::channels::command::{Program, Settings};
use gpulock_alerts::{Channel as _, Failure, Message, Reason, Text};
use gpulock_testbed::wait_until;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{around, assert_is_alertmanagers, notification, send, settings, text};

/// A script of the shell in a folder of its own, which is its `$1`.
struct Scene {
    folder: TempDir,
    program: Program,
}

impl Scene {
    fn of(script: &str) -> Self {
        Self::with(script, "60s")
    }

    fn with(script: &str, timeout: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let argv = json!(["sh", "-c", script, "sh", folder.path()]);
        let settings: Settings = settings(json!({"argv": argv, "timeout": timeout}));
        let program = settings.open(&around("command")).unwrap();
        Self { folder, program }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn send(&self, text: &Text) -> Result<(), Failure> {
        send(&self.program, &notification("1"), text).await
    }
}

/// Whether the process whose number is in this file works: it is there, and no zombie.
fn lives(file: &Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['R', 'S', 'D', 'T']))
}

#[tokio::test]
async fn it_finds_the_facts_on_its_input_and_in_its_environment() {
    let scene = Scene::of("cat > \"$1/input\"; env > \"$1/env\"; echo unseen");
    assert_eq!(scene.program.kind(), "command");
    scene.send(&text("GPU 0 is\nstuck\0", "since noon")).await.unwrap();
    let input: Value = serde_json::from_str(&scene.read("input")).unwrap();
    assert_is_alertmanagers(&input);
    assert_eq!(
        (&input["title"], &input["text"]),
        (&json!("GPU 0 is\nstuck\0"), &json!("since noon"))
    );
    let environment = scene.read("env");
    for line in [
        "GPULOCK_ALERT_STATUS=firing",
        "GPULOCK_ALERT_SEVERITY=P0",
        "GPULOCK_ALERT_NAME=gpu_lock_critical_failure",
        "GPULOCK_ALERT_TITLE=GPU 0 is stuck ",
    ] {
        assert!(environment.lines().any(|one| one == line), "{line}: {environment}");
    }
    scene.send(&text(&"€".repeat(100_000), "")).await.unwrap();
    let environment = scene.read("env");
    let title = environment.lines().find(|line| line.starts_with("GPULOCK_ALERT_TITLE=")).unwrap();
    assert!(title.len() < 1_100 && title.ends_with('…'), "{} bytes", title.len());
}

#[tokio::test]
async fn nothing_of_it_is_read_by_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a name with $(touch no) and 'quotes'");
    let settings: Settings = settings(json!({"argv": ["touch", file]}));
    let program = settings.open(&around("command")).unwrap();
    send(&program, &notification("1"), &text("$(touch no); `touch no`", "")).await.unwrap();
    assert!(file.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_command_that_fails_is_quoted() {
    let scene = Scene::of("printf 'first %01000d\\nlast \\033[1mwords\\n' 0 >&2; exit 3");
    let failure = scene.send(&text("t", "b")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Local);
    assert!(failure.detail.contains("/sh ended with exit code 3: 000"), "{failure}");
    assert!(failure.detail.ends_with("00 last  [1mwords"), "{failure}");
    assert!(failure.detail.len() < 400 && !failure.detail.contains("first"), "{failure}");
    let scene = Scene::of("kill -9 $$");
    let failure = scene.send(&text("t", "b")).await.unwrap_err();
    assert!(failure.detail.ends_with("/sh ended with signal 9"), "{failure}");
}

#[tokio::test]
async fn who_does_not_read_its_input_is_not_waited_for() {
    let large = text("t", &"x".repeat(1_000_000));
    Scene::of("exit 0").send(&large).await.unwrap();
    Scene::of("exec <&-; exit 0").send(&large).await.unwrap();
    Scene::of("head -c 10 > \"$1/some\"").send(&large).await.unwrap();
}

#[tokio::test]
async fn a_command_that_says_much_is_listened_to() {
    let scene = Scene::of("head -c 1000000 /dev/zero | tr '\\0' x >&2; cat > \"$1/input\"; exit 1");
    let failure = scene.send(&text("t", &"y".repeat(300_000))).await.unwrap_err();
    assert!(failure.detail.ends_with(&"x".repeat(300)), "{failure}");
    assert!(scene.read("input").len() > 300_000);
}

/// Notes who it is and stays; a child of it does not care for SIGTERM.
const STAYS: &str = "
    (trap '' TERM; echo $$ > /dev/null; sh -c 'echo $PPID' > \"$1/child\"; while :; do sleep 0.05; done) &
    trap 'echo asked > \"$1/asked\"; exit 0' TERM
    echo $$ > \"$1/leader.new\"
    until [ -s \"$1/child\" ]; do sleep 0.01; done
    echo about to hang >&2
    mv \"$1/leader.new\" \"$1/leader\"
    while :; do sleep 0.05; done";

#[tokio::test]
async fn one_that_does_not_end_is_asked_and_then_stopped_with_all_its_children() {
    let scene = Scene::with(STAYS, "2s");
    let failure = scene.send(&text("t", "b")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ContextDeadlineExceeded);
    // The shell may add that its child was terminated.
    let text = "did not end within 2.0s and was stopped: about to hang";
    assert!(failure.detail.contains(text), "{failure}");
    assert_eq!(scene.read("asked"), "asked\n");
    assert!(!lives(&scene.path("leader")) && !lives(&scene.path("child")));
}

#[tokio::test]
async fn who_loses_interest_stops_it_too() {
    let scene = Scene::of(STAYS);
    let (notification, text) = (notification("1"), text("t", "b"));
    let message = Message { notification: &notification, text: &text };
    {
        let sending = scene.program.send(&message);
        tokio::pin!(sending);
        while !scene.path("leader").exists() {
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut sending).await.is_err());
        }
        assert!(lives(&scene.path("leader")) && lives(&scene.path("child")));
    }
    wait_until("its processes are gone", || {
        !lives(&scene.path("leader")) && !lives(&scene.path("child"))
    });
}

#[tokio::test]
async fn what_a_command_leaves_behind_in_its_group_is_stopped() {
    let scene = Scene::of("sleep 1000 & echo $! > \"$1/child\"; exit 0");
    scene.send(&text("t", "b")).await.unwrap();
    assert!(!lives(&scene.path("child")));
    // Who left the group keeps the pipe open and lives on.
    let scene = Scene::of("setsid sleep 1000 & echo $! > \"$1/child\"; echo bye >&2; exit 1");
    let failure = scene.send(&text("t", "b")).await.unwrap_err();
    assert!(failure.detail.ends_with(": bye"), "{failure}");
    let pid = scene.read("child");
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().is_ok());
}

#[test]
fn a_program_that_is_not_there_is_said_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = |argv: Value| {
        settings::<Settings>(json!({"argv": argv})).open(&around("command")).unwrap_err()
    };
    assert!(said(json!([])).contains("`argv` names no program"));
    assert!(said(json!(["no-such-program"])).contains("`no-such-program` was not found"));
    assert!(said(json!([folder.path()])).contains("is a folder"));
    assert!(said(json!([file])).contains("cannot be executed by this user"));
    assert!(said(json!(["sh", "a\0b"])).contains("zero byte"));
    let endless = json!({"argv": ["sh"], "timeout": 0});
    assert!(settings::<Settings>(endless).open(&around("command")).is_err());
}

#[tokio::test]
async fn a_program_that_vanished_after_load_is_a_trouble_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let settings: Settings = settings(json!({"argv": [file]}));
    let program = settings.open(&around("command")).unwrap();
    let failure = send(&program, &notification("1"), &text("t", "b")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Local);
    assert!(failure.detail.contains("script cannot be executed: No such file"), "{failure}");
    fs::remove_file(&file).unwrap();
    assert!(send(&program, &notification("1"), &text("t", "b")).await.is_err());
}

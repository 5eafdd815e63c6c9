//! Several users of one host, and folders that a user may not write.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::program::{Running, until};
use super::scene::{GPULOCK, Scene};

/// Lets other users into the scene, and gives them a program that they may execute: the
/// build folder may be closed to them.
#[track_caller]
pub(super) fn open_to_all(scene: &Scene) {
    need_root();
    for folder in [scene.folder(), &scene.path("")] {
        allow(folder, 0o777);
    }
    fs::copy(GPULOCK, scene.path("gpulock")).unwrap();
    allow(&scene.path("gpulock"), 0o755);
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn start_as(scene: &Scene, user: u32, arguments: &[&str]) -> Running {
    let mut setpriv = scene.program("setpriv");
    let user = user.to_string();
    setpriv
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "./gpulock"])
        .args(arguments);
    setpriv.env("USER", format!("user{user}"));
    scene.launch(setpriv)
}

const ONE: u32 = 65_534;
const OTHER: u32 = 65_533;

fn shared() -> Scene {
    let scene = Scene::with_config("gpus: [0]\n");
    open_to_all(&scene);
    allow(&scene.folder().join("store"), 0o2777);
    scene
}

fn hold_as(scene: &Scene, user: u32) -> Running {
    let script = "echo $$ > held.pid; until [ -e held.go ]; do sleep 0.01; done";
    let holder = start_as(scene, user, &["run", "--task", "held", "--", "sh", "-c", script]);
    scene.wait_for_pid("held.pid");
    holder
}

#[test]
fn two_users_contend_for_one_gpu() {
    let scene = shared();
    let holder = hold_as(&scene, ONE);
    let refused = start_as(&scene, OTHER, &["run", "--no-wait", "--", "touch", "ran"]).ended();
    insta::assert_snapshot!(refused.told(), @"
    exit code 75
    --- stderr
    error: any GPU is not free: held by held (pid PID on HOST) for SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    let status = start_as(&scene, OTHER, &["status"]).ended().expect(0);
    assert!(status.stdout.contains("user65534"), "{status:?}");
    let waiter =
        start_as(&scene, OTHER, &["run", "--task", "asr", "--", "sh", "-c", "echo asr >> order"]);
    scene.until_queued("asr");
    scene.let_go("held");
    holder.ended().expect(0);
    waiter.ended().expect(0);
    assert_eq!(scene.read("order"), "asr\n");
}

#[test]
fn the_death_of_another_users_run_is_seen() {
    let scene = shared();
    let holder = hold_as(&scene, ONE);
    let waiter =
        start_as(&scene, OTHER, &["run", "--task", "asr", "--", "sh", "-c", "echo asr >> order"]);
    scene.until_queued("asr");
    holder.signal(Signal::KILL);
    waiter.ended().expect(0);
    assert_eq!(scene.read("order"), "asr\n");
}

#[test]
fn what_another_user_left_running_is_waited_for_and_not_overrun() {
    let scene = shared();
    let script = "sh -c 'trap \"\" TERM; echo $$ > worker.pid; until [ -e finish ]; do sleep 0.02; done' & wait";
    let holder = start_as(&scene, ONE, &["run", "--task", "held", "--", "sh", "-c", script]);
    scene.wait_for_pid("worker.pid");
    holder.signal(Signal::KILL);
    holder.ended();
    scene.write("check.sh", "kill -0 $(cat worker.pid) 2>/dev/null; echo $? > worker-gone");
    let waiter =
        start_as(&scene, OTHER, &["run", "--task", "asr", "--", "sh", "-c", "echo asr >> order"]);
    scene.until_queued("asr");
    until("the wait is seen to be for its processes", || {
        scene.pool()["gpus"][0]["state"] == "draining"
    });
    assert!(!scene.exists("order"));
    scene.write("finish", "");
    waiter.ended().expect(0);
}

#[test]
fn a_folder_that_the_user_may_not_write() {
    let scene = Scene::with_config("gpus: [0]\n");
    open_to_all(&scene);
    allow(&scene.folder().join("store"), 0o555);
    let told = start_as(&scene, ONE, &["run", "--", "touch", "ran"]).ended().told();
    insta::assert_snapshot!(told, @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be used: SQLite cannot open it and the files beside it

    hint: make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH
    ");
    assert!(!scene.exists("ran") && !scene.store_path().exists());
}

#[test]
fn a_store_that_the_user_may_not_write() {
    let scene = Scene::with_config("gpus: [0]\n");
    open_to_all(&scene);
    allow(&scene.folder().join("store"), 0o755);
    scene.gpulock(&["run", "--", "true"]).expect(0);
    let before = fs::read(scene.store_path()).unwrap();
    insta::assert_snapshot!(start_as(&scene, ONE, &["run", "--", "touch", "ran"]).ended().told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be used: permission denied

    hint: make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH
    ");
    allow(&scene.store_path(), 0o644);
    insta::assert_snapshot!(start_as(&scene, ONE, &["run", "--", "touch", "ran"]).ended().told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be used: SQLite cannot open it and the files beside it

    hint: make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH
    ");
    assert_eq!(fs::read(scene.store_path()).unwrap(), before);
    assert!(!scene.exists("ran"));
}

/// Fails with a clear sentence where a test could not mean anything.
#[track_caller]
fn need_root() {
    assert!(
        rustix::process::getuid().is_root(),
        "this test takes on other users, so it must be run as root"
    );
    let found = Command::new("setpriv").arg("--version").output();
    assert!(found.is_ok(), "this test needs setpriv (Debian package util-linux)");
}

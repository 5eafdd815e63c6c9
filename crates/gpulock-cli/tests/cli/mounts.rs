//! What depends on file systems: a full one, and the places where the embedded store lies
//! by default. Each test has its own view of the mounts, by unshare(1).

use super::program::Ended;
use super::scene::Scene;

/// Runs a script that may mount things.
#[track_caller]
pub(super) fn in_own_mounts(scene: &Scene, script: &str) -> Ended {
    let mut unshare = scene.program("unshare");
    if !rustix::process::getuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "sh", "-ec", script]);
    scene.launch(unshare).ended()
}

/// `cmp` and `dd` speak for themselves; `full` fills the file system.
const FULL: &str = "
    mount -t tmpfs -o size=1m,mode=777 tmpfs ../store
    code=0
    [ -z \"$BEFORE\" ] || gpulock run -- true
    dd if=/dev/zero of=../store/filler bs=4k 2>/dev/null || true
    cat ../store/gpulock.db > before 2>/dev/null || true
    gpulock run -- touch ran || code=$?
    cat ../store/gpulock.db > after 2>/dev/null || true
    cmp before after
    ls ../store > left
    exit $code";

#[test]
fn a_full_disk_is_named_and_the_store_stays_whole() {
    let mut scene = Scene::with_config("gpus: [0]\n");
    scene.set_lock("store_patience", "100ms");
    scene.set("BEFORE", "used");
    insta::assert_snapshot!(in_own_mounts(&scene, FULL).told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be written: no space is left on its disk

    hint: free some space on that disk; leases that are held end at their deadlines
    ");
    assert!(!scene.exists("ran"));
}

#[test]
fn on_a_full_disk_no_half_of_a_store_is_left() {
    let mut scene = Scene::with_config("gpus: [0]\n");
    scene.set_lock("store_patience", "100ms");
    insta::assert_snapshot!(in_own_mounts(&scene, FULL).told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be written: no space is left on its disk

    hint: free some space on that disk; leases that are held end at their deadlines
    ");
    assert_eq!(scene.read("left"), "filler\n");
    assert!(!scene.exists("ran"));
}

/// Lets this host look as if `/var/lib` were empty.
const EMPTY_HOST: &str = "mount -t tmpfs -o mode=755 tmpfs /var/lib\n";

#[test]
fn a_private_store_says_once_that_it_is_private() {
    let mut scene = Scene::with_config("gpus: [GPU-made-up]\n");
    scene.unset("GPULOCK_STORE");
    let state = scene.folder().join("state").display().to_string();
    scene.set("XDG_STATE_HOME", &state);
    let first = in_own_mounts(&scene, &format!("{EMPTY_HOST} gpulock run -- echo ran"));
    insta::assert_snapshot!(first.told(), @"
    exit code 0
    --- stdout
    ran
    --- stderr
    warning: FOLDER/state/gpulock/gpulock.db is private to you; other users of this host have stores of their own

    hint: `sudo install -d -m 2770 -g GROUP /var/lib/gpulock` makes one for all users in GROUP
    ");
    let second = in_own_mounts(&scene, &format!("{EMPTY_HOST} gpulock run -- echo ran")).expect(0);
    assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("ran\n", ""));
    // Whoever asks is told again.
    let status = in_own_mounts(&scene, &format!("{EMPTY_HOST} gpulock status")).expect(0);
    assert!(status.stderr.contains("private to you"), "{status:?}");
    let mode = std::fs::metadata(format!("{state}/gpulock")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o700);
}

#[test]
fn without_a_state_folder_it_lies_below_home() {
    let mut scene = Scene::with_config("gpus: [GPU-made-up]\n");
    scene.unset("GPULOCK_STORE");
    in_own_mounts(&scene, &format!("{EMPTY_HOST} gpulock run -- true")).expect(0);
    assert!(scene.folder().join(".local/state/gpulock/gpulock.db").exists());
}

#[test]
fn the_folder_of_the_host_is_used_without_a_word() {
    let mut scene = Scene::with_config("gpus: [GPU-made-up]\n");
    scene.unset("GPULOCK_STORE");
    let script = format!("{EMPTY_HOST} mkdir /var/lib/gpulock; gpulock run -- ls /var/lib/gpulock");
    let ended = in_own_mounts(&scene, &script).expect(0);
    assert!(ended.stdout.starts_with("gpulock.db\n"), "{ended:?}");
    assert_eq!(ended.stderr, "");
}

#[test]
fn who_may_not_write_the_folder_of_the_host_is_told_each_time() {
    let mut scene = Scene::with_config("gpus: [GPU-made-up]\n");
    super::users::open_to_all(&scene);
    scene.unset("GPULOCK_STORE");
    let run = "setpriv --reuid 65534 --clear-groups ./gpulock run -- echo ran";
    let script = format!("{EMPTY_HOST} mkdir -m 755 /var/lib/gpulock; {run}; {run}");
    let ended = in_own_mounts(&scene, &script).expect(0);
    assert_eq!(ended.stdout, "ran\nran\n");
    assert_eq!(ended.stderr.matches("jobs of other users are not seen").count(), 2, "{ended:?}");
}

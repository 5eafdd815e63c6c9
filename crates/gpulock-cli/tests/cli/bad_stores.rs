//! Store files that cannot be used: one sentence, a way out, exit code 69, and the file is
//! left as it is, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::scene::Scene;

/// A store that was used, and its files.
fn used() -> Scene {
    let scene = Scene::with_config("gpus: [0]\n");
    for _ in 0..3 {
        scene.gpulock(&["run", "--", "true"]).expect(0);
    }
    scene
}

/// Lets SQLite's own tool bring everything into the one file.
fn without_log(scene: &Scene) {
    python(scene, "db.execute('PRAGMA wal_checkpoint(TRUNCATE)')");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(scene.folder().join(format!("store/gpulock.db{suffix}")));
    }
}

/// Does something to the store as another program would.
fn python(scene: &Scene, what: &str) {
    let script = format!(
        "import sqlite3\ndb = sqlite3.connect({:?}, isolation_level=None)\n{what}\ndb.close()\n",
        scene.store_path().display().to_string()
    );
    let mut python = scene.program("python3");
    python.args(["-c", &script]);
    scene.launch(python).ended().expect(0);
}

fn files(scene: &Scene) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(scene.folder().join("store")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// `run` and `doctor` refuse the store, and nothing is changed.
#[track_caller]
fn refused(scene: &Scene) -> String {
    let before = files(scene);
    let run = scene.gpulock(&["run", "--", "touch", "ran"]).expect(69);
    assert!(!scene.exists("ran"));
    let doctor = scene.gpulock(&["doctor"]).expect(69);
    assert!(doctor.stdout.contains("bad      ") && doctor.stdout.contains("hint: "), "{doctor:?}");
    let mut after = files(scene);
    // To look into a database, SQLite makes a log beside it; nothing is in it.
    after.retain(|path, bytes| {
        let name = path.to_string_lossy();
        before.contains_key(path)
            || !(name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty())
    });
    assert!(after == before, "the store was changed: {:?}", after.keys());
    run.told()
}

#[test]
fn a_store_that_is_cut_off() {
    let scene = used();
    without_log(&scene);
    let whole = fs::read(scene.store_path()).unwrap();
    for length in [whole.len() - 4_096, 5_000, 4_096, 512] {
        fs::write(scene.store_path(), &whole[..length]).unwrap();
        let told = refused(&scene);
        assert!(told.contains("damaged") && told.contains("hint: "), "{length}: {told}");
    }
    fs::write(scene.store_path(), &whole[..50]).unwrap();
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db is damaged: the file is cut off in its header

    hint: stop everything that uses it and move FOLDER/store/gpulock.db and the files beside it that begin with its name to a safe place; the next command starts a new store
    ");
    fs::write(scene.store_path(), "").unwrap();
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db is damaged: the file is cut off in its header

    hint: stop everything that uses it and move FOLDER/store/gpulock.db and the files beside it that begin with its name to a safe place; the next command starts a new store
    ");
}

#[test]
fn a_store_with_a_spoilt_page() {
    let scene = used();
    without_log(&scene);
    let mut bytes = fs::read(scene.store_path()).unwrap();
    bytes[4_096..8_192].fill(0xa5);
    fs::write(scene.store_path(), bytes).unwrap();
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db is damaged: database disk image is malformed

    hint: stop everything that uses it and move FOLDER/store/gpulock.db and the files beside it that begin with its name to a safe place; the next command starts a new store
    ");
}

#[test]
fn a_database_of_another_program() {
    let scene = Scene::new();
    python(&scene, "db.execute('CREATE TABLE bookmarks (url TEXT)')");
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: FOLDER/store/gpulock.db is not a gpulock store

    hint: choose another file with --store sqlite:///PATH; this one was left as it is
    ");
}

#[test]
fn a_file_that_is_no_database() {
    let scene = Scene::new();
    fs::write(scene.store_path(), "my notes\n").unwrap();
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: FOLDER/store/gpulock.db is not a gpulock store

    hint: choose another file with --store sqlite:///PATH; this one was left as it is
    ");
}

#[test]
fn a_store_of_a_newer_version() {
    let scene = used();
    python(&scene, "db.execute('PRAGMA user_version = 2')");
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db has format 2, this gpulock knows formats up to 1

    hint: upgrade this gpulock; the store was left as it is
    ");
}

#[test]
fn a_log_whose_store_is_gone() {
    let scene = used();
    fs::remove_file(scene.store_path()).unwrap();
    insta::assert_snapshot!(refused(&scene), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db is damaged: the file is gone, but its log (-wal) is still there

    hint: stop everything that uses it and move FOLDER/store/gpulock.db and the files beside it that begin with its name to a safe place; the next command starts a new store
    ");
}

#[test]
fn a_folder_in_its_place() {
    let scene = Scene::new();
    fs::create_dir(scene.store_path()).unwrap();
    let ended = scene.gpulock(&["run", "--", "touch", "ran"]);
    insta::assert_snapshot!(ended.told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be used: it is not a file

    hint: make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH
    ");
}

#[test]
fn a_folder_that_does_not_exist() {
    let scene = Scene::new();
    fs::remove_dir(scene.folder().join("store")).unwrap();
    let ended = scene.gpulock(&["run", "--", "touch", "ran"]);
    insta::assert_snapshot!(ended.told(), @"
    exit code 69
    --- stderr
    error: the store FOLDER/store/gpulock.db cannot be used: its folder does not exist

    hint: make the folder if there is none, give yourself write access to it and the file, or choose another store with --store sqlite:///PATH
    ");
    assert!(!scene.folder().join("store").exists());
}

#[test]
fn on_store_error_run_unlocked_is_a_choice_that_is_said_aloud() {
    let mut scene = Scene::new();
    fs::write(scene.store_path(), "my notes\n").unwrap();
    scene.set_lock("on_store_error", "run_unlocked");
    let ended = scene.gpulock(&["run", "--", "sh", "-c", "echo ran; exit 6"]);
    insta::assert_snapshot!(ended.told(), @"
    exit code 6
    --- stdout
    ran
    --- stderr
    warning: FOLDER/store/gpulock.db is not a gpulock store; the command runs without a lease, because on_store_error is run_unlocked
    ");
}

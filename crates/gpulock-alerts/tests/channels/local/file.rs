//! Files of lines: who writes them at the same time, what moves them, what breaks them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gpulock_alerts::channels::file::{Lines, Settings};
use gpulock_alerts::{Channel as _, Reason};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{around, assert_is_alertmanagers, notification, send, settings, text};

fn open(folder: &TempDir, more: &Value) -> Lines {
    let mut all = json!({"path": folder.path().join("alerts.jsonl")});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings::<Settings>(all).open(&around("file")).unwrap()
}

async fn write(lines: &Lines, title: &str) {
    send(lines, &notification(title), &text(title, "body")).await.unwrap();
}

/// The titles in a file, each of whose lines must be whole.
fn titles(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let title = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        line["title"].as_str().unwrap().to_owned()
    };
    text.lines().map(title).collect()
}

#[tokio::test]
async fn a_message_is_a_line_that_only_its_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let lines = open(&folder, &json!({"fsync": true}));
    assert_eq!(lines.kind(), "file");
    write(&lines, "a \"title\"\nof two lines").await;
    write(&lines, "second").await;
    let file = folder.path().join("alerts.jsonl");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_is_alertmanagers(&first);
    assert_eq!(first["title"], "a \"title\"\nof two lines");
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    assert_eq!(text.lines().count(), 2);
}

#[tokio::test]
async fn a_full_file_rolls_over_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    // Two lines fit.
    let one = {
        let probe = open(&folder, &json!({}));
        write(&probe, "00").await;
        fs::metadata(folder.path().join("alerts.jsonl")).unwrap().len()
    };
    let lines = open(&folder, &json!({"max_bytes": 2 * one, "keep": 2}));
    for number in 1..=8 {
        write(&lines, &format!("{number:02}")).await;
    }
    let at = |name: &str| titles(&folder.path().join(name));
    assert_eq!(at("alerts.jsonl"), ["08"]);
    assert_eq!(at("alerts.jsonl.1"), ["06", "07"]);
    assert_eq!(at("alerts.jsonl.2"), ["04", "05"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    let none = open(&folder, &json!({"max_bytes": 1, "keep": 0}));
    write(&none, "larger than the limit").await;
    assert_eq!(at("alerts.jsonl"), ["larger than the limit"]);
    assert_eq!(at("alerts.jsonl.1"), ["06", "07"], "nothing was kept");
}

#[tokio::test]
async fn a_file_that_cannot_roll_over_gets_the_line_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("alerts.jsonl.1/full")).unwrap();
    let lines = open(&folder, &json!({"max_bytes": 1, "keep": 1}));
    write(&lines, "first").await;
    write(&lines, "second").await;
    assert_eq!(titles(&folder.path().join("alerts.jsonl")), ["first", "second"]);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let lines = open(&folder, &json!({}));
    let (file, moved) = (folder.path().join("alerts.jsonl"), folder.path().join("moved"));
    write(&lines, "before").await;
    fs::rename(&file, &moved).unwrap();
    write(&lines, "after").await;
    assert_eq!((titles(&moved), titles(&file)), (vec!["before".into()], vec!["after".into()]));
    // A link is followed.
    let linked = folder.path().join("linked");
    symlink(&file, &linked).unwrap();
    let lines = settings::<Settings>(json!({"path": linked})).open(&around("file")).unwrap();
    write(&lines, "by the link").await;
    assert_eq!(titles(&file), ["after", "by the link"]);
}

#[tokio::test]
async fn a_line_that_is_not_whole_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.jsonl");
    fs::write(&file, "{\"title\": \"cut of").unwrap();
    let lines = open(&folder, &json!({}));
    write(&lines, "whole").await;
    let text = fs::read_to_string(&file).unwrap();
    let (cut, rest) = text.split_once('\n').unwrap();
    assert_eq!(cut, "{\"title\": \"cut of");
    let line: Value = serde_json::from_str(rest).unwrap();
    assert_eq!(line["title"], "whole");
}

#[tokio::test]
async fn who_holds_the_lock_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let lines = open(&folder, &json!({}));
    let file = folder.path().join("alerts.jsonl");
    let other = OpenOptions::new().append(true).create(true).open(&file).unwrap();
    other.lock().unwrap();
    let sending = write(&lines, "later");
    tokio::pin!(sending);
    let moment = Duration::from_millis(200);
    assert!(tokio::time::timeout(moment, &mut sending).await.is_err(), "it does not wait");
    (&other).write_all(b"{\"title\": \"earlier\"}\n").unwrap();
    drop(other);
    sending.await;
    assert_eq!(titles(&file), ["earlier", "later"]);
}

#[test]
fn several_processes_write_and_roll_over_and_lose_nothing() {
    const WRITERS: usize = 3;
    const EACH: usize = 60;
    if let Some(folder) = std::env::var_os("GPULOCK_TEST_LINES") {
        let name = std::env::var("GPULOCK_TEST_WRITER").unwrap();
        let path = Path::new(&folder).join("alerts.jsonl");
        // About three lines a file.
        let all = json!({"path": path, "max_bytes": 2_500, "keep": 500});
        let lines = settings::<Settings>(all).open(&around("file")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for number in 0..EACH {
            runtime.block_on(write(&lines, &format!("{name}-{number:03}")));
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "channels::local::file::several_processes_write_and_roll_over_and_lose_nothing";
    let writer = |number: usize| {
        let mut writer = Command::new(std::env::current_exe().unwrap());
        writer.args(["--exact", name]).env("GPULOCK_TEST_LINES", folder.path());
        writer.env("GPULOCK_TEST_WRITER", number.to_string()).spawn().unwrap()
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > WRITERS * EACH / 10, "{} files", files.len());
    let mut all: Vec<String> = files.iter().flat_map(|file| titles(file)).collect();
    all.sort();
    let expected: Vec<String> = (0..WRITERS)
        .flat_map(|writer| (0..EACH).map(move |number| format!("{writer}-{number:03}")))
        .collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn what_is_no_file_is_a_trouble_of_this_machine() {
    let lines = settings::<Settings>(json!({"path": "/dev/full"})).open(&around("file")).unwrap();
    let failure = send(&lines, &notification("1"), &text("t", "b")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Local);
    assert!(failure.detail.starts_with("/dev/full cannot be written: it is no"), "{failure}");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("alerts.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let lines = open(&folder, &json!({}));
    let failure = send(&lines, &notification("1"), &text("t", "b")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Local, "{failure}");
}

#[test]
fn a_full_disk_leaves_no_part_of_a_line() {
    let name = "channels::local::file::a_full_disk_leaves_no_part_of_a_line";
    if let Some(folder) = std::env::var_os("GPULOCK_TEST_FULL") {
        let path = Path::new(&folder).join("alerts.jsonl");
        let lines = settings::<Settings>(json!({"path": path})).open(&around("file")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (notification, text) = (notification("1"), text("t", "b"));
        while runtime.block_on(send(&lines, &notification, &text)).is_ok() {}
        let failure = runtime.block_on(send(&lines, &notification, &text)).unwrap_err();
        assert_eq!(failure.reason, Reason::Local, "{failure}");
        assert!(!titles(&path).is_empty());
        return;
    }
    // A disk of 64 KiB, in a namespace of its own.
    let script = "mount -t tmpfs -o size=64k none \"$GPULOCK_TEST_FULL\" && exec \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", script, "sh"]).arg(own).args(["--exact", name]);
    shell.env("GPULOCK_TEST_FULL", folder.path());
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1 passed"), "a disk of its own needs root: {said}{error}");
}

#[test]
fn what_cannot_be_a_file_is_said_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let said = |all: Value| settings::<Settings>(all).open(&around("file")).unwrap_err();
    assert!(said(json!({"path": "alerts.jsonl"})).contains("is not absolute"));
    assert!(said(json!({"path": folder.path()})).contains("is a folder"));
    let missing = folder.path().join("none/alerts.jsonl");
    assert!(said(json!({"path": missing})).contains("its folder is not there"));
    let file = folder.path().join("alerts.jsonl");
    assert!(said(json!({"path": file, "keep": 1001})).contains("`keep: 1001`"));
    assert!(serde_json::from_value::<Settings>(json!({"path": "/x", "mode": 1})).is_err());
}

//! The critical failure log. `critical_failure.jsonl` is a line of it; the tests of the Python package
//! compare theirs with the same one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use gpulock::critical::{CriticalFailure, write_down};
use serde_json::Value;

const SAMPLE: &str = include_str!("critical_failure.jsonl");

/// The names of the fields, in the order in which the line has them.
fn names(line: &str) -> Vec<String> {
    let fields: Value = serde_json::from_str(line).unwrap();
    let place = |name: &String| line.find(&format!("\"{name}\":")).unwrap();
    let mut names: Vec<String> = fields.as_object().unwrap().keys().cloned().collect();
    names.sort_by_key(place);
    names
}

fn failure() -> CriticalFailure {
    let sample: Value = serde_json::from_str(SAMPLE).unwrap();
    let text = |name: &str| sample[name].as_str().unwrap().to_owned();
    CriticalFailure {
        lock_key: text("lock_key"),
        task: text("task"),
        lease_id: text("lease_id"),
        token: sample["token"].as_u64().unwrap(),
        error: text("error"),
        traceback: text("traceback"),
    }
}

#[test]
fn a_record_is_the_same_line_as_in_python() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("new/folder/log.jsonl");
    for _ in 0..2 {
        assert_eq!(write_down(&log, &failure()).unwrap(), log);
    }
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.ends_with('\n') && text.lines().count() == 2, "{text}");
    let line = text.lines().next().unwrap();
    assert_eq!(names(line), names(SAMPLE));
    let (mut written, sample): (Value, Value) =
        (serde_json::from_str(line).unwrap(), serde_json::from_str(SAMPLE).unwrap());
    let shape = |time: &Value| time.as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(shape(&written["time"]), shape(&sample["time"]));
    assert_eq!(written["pid"], std::process::id());
    assert!(!written["host"].as_str().unwrap().is_empty());
    for name in ["time", "pid", "host"] {
        written[name] = sample[name].clone();
    }
    assert_eq!(written, sample);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_log_that_cannot_be_written_has_a_stand_in() {
    if let Some(log) = std::env::var_os("GPULOCK_TEST_LOG") {
        match write_down(Path::new(&log), &failure()) {
            Ok(file) => println!("in {}", file.display()),
            Err(error) => println!("nowhere: {error}"),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let log = file.join("log.jsonl");
    let said = |state: &Path, home: &Path| {
        let mut own = Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "library::critical::a_log_that_cannot_be_written_has_a_stand_in"]);
        own.args(["--nocapture"]).env("GPULOCK_TEST_LOG", &log);
        own.env("XDG_STATE_HOME", state).env("HOME", home);
        String::from_utf8(own.output().unwrap().stdout).unwrap()
    };
    let state = folder.path().join("state");
    let stand_in = state.join("gpulock/critical_failures.jsonl");
    let text = said(&state, &file);
    assert!(text.contains(&format!("in {}", stand_in.display())), "{text}");
    assert_eq!(names(fs::read_to_string(&stand_in).unwrap().trim_end()), names(SAMPLE));
    // A folder that is not absolute is none.
    let text = said(Path::new("relative"), folder.path());
    assert!(text.contains("/.local/state/gpulock/critical_failures.jsonl"), "{text}");
    let text = said(&file, folder.path());
    assert!(text.contains("nowhere: ") && text.contains(&log.display().to_string()), "{text}");
}

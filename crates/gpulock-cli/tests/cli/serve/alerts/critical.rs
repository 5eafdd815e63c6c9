//! A GPU that could not be taken back: the most urgent of alerts, and a record on the disk for the
//! case that nobody is told.

use rustix::process::Signal;
use serde_json::Value;

use super::receiver::Receiver;
use super::{config, deaf};
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::Daemon;

const GIVEN_UP: &str = "GPU_LOCK_NOT_RECOVERED";

#[test]
fn a_gpu_that_was_given_up_is_told_and_written_down_once() {
    let hook = Receiver::start();
    let config = config(&[hook.webhook("hook")], "0s", "").replace(
        "gpu_lock_monitor:",
        "gpu_lock_monitor:\n  cleanup: {max_retry: 1, retry_delay: 1}",
    );
    let mut scene = Scene::with_config(&config);
    let log = scene.path("critical_failures.jsonl");
    scene.set("GPULOCK_CRITICAL_FAILURE_LOG", log.to_str().unwrap());
    let (first, second) = (Daemon::start(&scene), Daemon::start(&scene));
    let run = scene.start_run("asr", &[], &deaf("asr"));
    scene.wait_for_pid("asr.pid");
    run.signal(Signal::KILL);
    let told = &hook.until_told(GIVEN_UP, 1)[0];
    let alert = &told.alerts()[0];
    assert_eq!(
        (&alert["labels"]["severity"], &alert["labels"]["task"]),
        (&"P0".into(), &"asr".into())
    );
    until("it is written down", || scene.read("critical_failures.jsonl").ends_with('\n'));
    first.stop();
    second.stop();
    let written = scene.read("critical_failures.jsonl");
    let record: Value = serde_json::from_str(&written).unwrap();
    assert_eq!((&record["lock_key"], &record["task"]), (&"gpu_lock:0".into(), &"asr".into()));
    assert_eq!(record["lease_id"], alert["annotations"]["lease_id"]);
    assert!(record["error"].as_str().unwrap().contains("given up"), "{record}");
}

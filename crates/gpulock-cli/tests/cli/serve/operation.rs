//! Starting and ending it, and what it tells others meanwhile.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::json;

use super::daemon::{BRISK, Daemon};
use crate::cli::program::until;
use crate::cli::scene::Scene;

#[test]
fn where_others_could_reach_it_it_wants_tokens() {
    let scene = Scene::with_config(BRISK);
    let refused = scene.gpulock(&["serve", "--listen", "0.0.0.0:0"]).expect(65);
    assert!(refused.stderr.contains("--insecure-no-auth"), "{refused:?}");
    let daemon = scene.start(&["serve", "--listen", "0.0.0.0:0", "--insecure-no-auth"]);
    daemon.until_it_says("answers at");
}

#[test]
fn systemd_hears_that_it_is_ready_lives_and_ends() {
    let mut scene = Scene::with_config(BRISK);
    let path = scene.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    scene.set("NOTIFY_SOCKET", path.to_str().unwrap());
    scene.set("WATCHDOG_USEC", "900000");
    // The manager names the process that it means.
    let script = "WATCHDOG_PID=$$ exec gpulock serve --listen 127.0.0.1:0";
    let daemon = scene.start_shell(script);
    let mut heard = String::new();
    let mut until_heard = |word: &str| {
        while !heard.contains(word) {
            let mut letter = [0; 256];
            let length = manager.recv(&mut letter).unwrap();
            heard.push_str(std::str::from_utf8(&letter[..length]).unwrap());
        }
    };
    until_heard("READY=1");
    until_heard("WATCHDOG=1");
    daemon.signal(Signal::TERM);
    until_heard("STOPPING=1");
}

#[test]
fn its_log_can_be_json() {
    let scene = Scene::with_config(BRISK);
    let daemon = scene.start(&["serve", "--listen", "127.0.0.1:0", "--log", "json"]);
    daemon.until_it_says("answers at");
    let said = daemon.stderr();
    let line: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], json!("INFO"));
}

#[test]
fn a_folder_tells_dcgm_exporter_who_holds_which_gpu() {
    let scene = Scene::with_config(&format!("{BRISK}server: {{job_mapping_dir: jobs}}\n"));
    let daemon = Daemon::start(&scene);
    let held = daemon.api().acquire("asr", 60.0);
    until("the holder stands there", || scene.read("jobs/0") == "asr\n");
    daemon.api().give_back(&held).expect(204);
    until("it is gone", || !scene.exists("jobs/0"));
}

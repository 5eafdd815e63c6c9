//! Who is told: `gpulock alerts test` and `gpulock alerts route`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::{filters, hear, hung, signal};
use crate::cli::scene::Scene;
use gpulock::core::alert::{Change, Urgency};

/// Channels of this host alone, and a route with everything.
const ROUTES: &str = "alerts:
  channels:
    journal: {file: {path: FOLDER/alerts.jsonl}}
    ops: {command: {argv: [sh, -c, 'cat > FOLDER/told.json']}, min_level: P2}
    phone: {command: {argv: [sh, -c, 'echo no line >&2; exit 3']}, min_level: P0}
    console: {log: {}}
  route:
    channels: [journal]
    routes:
      - matchers: ['severity=~\"P0|P1\"', pool=default]
        channels: [ops, journal]
        mute_times: [never]
        escalation:
          - {after: 15m, channels: [phone]}
          - {after: 1h, channels: [console]}
  mute_times:
    never: [{months: [2], days_of_month: [30]}]
";

fn scene() -> Scene {
    let scene = Scene::new();
    let folder = scene.path("").display().to_string();
    scene.write("config.yml", ROUTES.replace("FOLDER", folder.trim_end_matches('/')));
    scene
}

/// Answers one request like this, and gives what came.
fn answering(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        let is_whole = |text: &str| {
            let length = text.to_lowercase();
            let length = length.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
            length.is_some() && body >= length
        };
        while !is_whole(&text) {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{text}");
            text += &String::from_utf8_lossy(&bytes[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        text
    });
    (url, served)
}

fn webhook(url: &str) -> Scene {
    let section = format!("{{webhook: {{url: '{url}'}}, allow_private: true}}");
    Scene::with_config(&format!("alerts: {{channels: {{ops: {section}}}}}\n"))
}

#[test]
fn a_test_message_really_goes_out_and_needs_no_store() {
    let mut scene = scene();
    scene.set("GPULOCK_STORE", "redis://127.0.0.1:9/0");
    let _filters = filters();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "test", "ops", "journal"]).told(), @"
    exit code 0
    --- stdout
    ops (command) has it: [test] [info] This is a test of gpulock; nothing is wrong. (Pool default)
    journal (file) has it: [test] [info] This is a test of gpulock; nothing is wrong. (Pool default)
    ");
    let told: serde_json::Value = serde_json::from_str(&scene.read("told.json")).unwrap();
    assert_eq!(told["alerts"][0]["labels"]["alertname"], "GPU_LOCK_TEST", "{told}");
    assert_eq!((&told["status"], &told["receiver"]), (&"firing".into(), &"ops".into()));
    assert_eq!(scene.read("alerts.jsonl").lines().count(), 1);
    scene.gpulock(&["alerts", "test", "ops", "--resolved"]).expect(0);
    let over: serde_json::Value = serde_json::from_str(&scene.read("told.json")).unwrap();
    assert_eq!(over["status"], "resolved");
    assert_eq!(over["alerts"][0]["fingerprint"], told["alerts"][0]["fingerprint"]);
    let console = scene.gpulock(&["alerts", "test", "console"]).expect(0);
    assert!(console.stderr.contains("GPU_LOCK_TEST"), "{console:?}");
}

#[test]
fn a_dry_run_shows_what_would_be_sent_and_sends_nothing() {
    let scene = scene();
    let told = scene.gpulock(&["alerts", "test", "ops", "--dry-run"]).expect(0);
    assert!(told.stdout.starts_with("to ops:\n"), "{told:?}");
    assert!(told.stdout.contains("This is a test of gpulock; nothing is wrong."), "{told:?}");
    let json = &told.stdout[told.stdout.find("\n{").unwrap()..];
    let told: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((&told["version"], &told["status"]), (&"4".into(), &"firing".into()));
    assert!(!scene.exists("told.json"));
}

#[test]
fn a_channel_that_does_not_take_it_says_why_and_what_to_do() {
    let scene = scene();
    let _filters = filters();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "test", "phone", "ops"]).told(), @"
    exit code 70
    --- stdout
    ops (command) has it: [test] [info] This is a test of gpulock; nothing is wrong. (Pool default)
    --- stderr
    error: phone (command) has not taken it, local: /usr/bin/sh ended with exit code 3: no line

    hint: look at alerts.channels.phone.command, and at rights on this host
    ");
    assert!(scene.exists("told.json"), "the others are tried too");
    insta::assert_snapshot!(scene.gpulock(&["alerts", "test", "ops", "pager"]).told(), @"
    exit code 64
    --- stderr
    error: there is no channel `pager`

    hint: there are: console, journal, ops, phone
    ");
    insta::assert_snapshot!(Scene::new().gpulock(&["alerts", "test", "ops"]).told(), @"
    exit code 64
    --- stderr
    error: there is no channel `ops`

    hint: there is none at all; docs/guides/alerts.md says how to describe one
    ");
}

#[test]
fn the_code_tells_a_wrong_secret_from_a_server_in_trouble() {
    let none = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    let cases = [
        ("HTTP/1.1 200 OK\r\n", 0, "ops (webhook) has it: "),
        (
            "HTTP/1.1 401 Unauthorized\r\n",
            65,
            "hint: look at the secret in alerts.channels.ops.webhook",
        ),
        ("HTTP/1.1 400 Bad Request\r\n", 65, "hint: look at alerts.channels.ops.webhook"),
        ("HTTP/1.1 503 Service Unavailable\r\n", 75, "hint: try again later"),
        (
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\n",
            75,
            "hint: it wants nothing for 30s; ",
        ),
    ];
    for (answer, code, said) in cases {
        let (url, served) = answering(Box::leak(format!("{answer}{none}").into_boxed_str()));
        let told = webhook(&url).gpulock(&["alerts", "test", "ops"]);
        assert!(served.join().unwrap().contains("GPU_LOCK_TEST"));
        assert_eq!(told.code(), code, "{told:?}");
        assert!((told.stdout.clone() + &told.stderr).contains(said), "{told:?}");
    }
    webhook("http://127.0.0.1:9/").gpulock(&["alerts", "test", "ops"]).expect(75);
    let guarded = "alerts: {channels: {ops: {webhook: {url: 'http://127.0.0.1:9/'}}}}\n";
    let told = Scene::with_config(guarded).gpulock(&["alerts", "test", "ops"]).expect(65);
    assert!(told.stderr.contains("allow_private: true"), "{told:?}");
}

#[test]
fn a_route_says_who_is_told_and_when_and_why_not() {
    let scene = scene();
    let route = |labels: &[&str]| scene.gpulock(&[&["alerts", "route"], labels].concat());
    insta::assert_snapshot!(route(&["GPU_LOCK_HARD_TIMEOUT", "pool=default"]).told(), @r#"
    exit code 0
    --- stdout
    labels  alertname="GPU_LOCK_HARD_TIMEOUT" pool="default" severity="P1"
    route  {}/{severity=~"P0|P1",pool="default"}/0
      group  {alertname="GPU_LOCK_HARD_TIMEOUT" pool="default"}
      rhythm  first message after SPAN, news 5m later, again every 4h
      at once  ops
      at once  journal
      after 15m  phone: not told, its min_level is P0
      after 1h  console
      mute time  never (not now)
    "#);
    insta::assert_snapshot!(route(&["alertname=GPU_LOCK_HARD_TIMEOUT", "pool=lab", "severity=P0"]).told(), @r#"
    exit code 0
    --- stdout
    labels  alertname="GPU_LOCK_HARD_TIMEOUT" pool="lab" severity="P0"
    route  {} (the top)
      group  {alertname="GPU_LOCK_HARD_TIMEOUT" pool="lab"}
      rhythm  first message after SPAN, news 5m later, again every 4h
      at once  journal
    "#);
}

#[test]
fn a_route_says_what_mutes_an_alert_now() {
    let scene = scene();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\bsilence [0-9a-f]{8}\b", "silence ID");
    let _filters = settings.bind_to_scope();
    let route = |labels: &[&str]| scene.gpulock(&[&["alerts", "route"], labels].concat());
    let silence = ["alerts", "silence", "pool=default", "--for", "1h"];
    let words = ["--by", "alice", "--comment", "new cards"];
    scene.gpulock(&[&silence[..], &words].concat()).expect(0);
    hear(&scene, &[hung(), signal("GPU_LOCK_ZOMBIE", "a", Urgency::P2, Change::Present)]);
    let muted = ["GPU_LOCK_SOFT_TIMEOUT", "pool=default", "gpu=0", "task=ocr"];
    insta::assert_snapshot!(route(&muted).told(), @r#"
    exit code 0
    --- stdout
    labels  alertname="GPU_LOCK_SOFT_TIMEOUT" gpu="0" pool="default" severity="P2" task="ocr"
    route  {} (the top)
      group  {alertname="GPU_LOCK_SOFT_TIMEOUT" pool="default"}
      rhythm  first message after SPAN, news 5m later, again every 4h
      at once  journal
    muted by  silence ID: pool="default" (alice: new cards)
    muted by  alert a2912b46b5de6c28: GPU_LOCK_HARD_TIMEOUT
    nobody is told while it is muted
    "#);
    let json = route(&["disk_full", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["labels"]["severity"], "warning");
    assert_eq!(json["routes"][0]["channels"][0]["channel"], "journal");
    assert!(!scene.exists("alerts.jsonl"), "nothing is sent");
}

#[test]
fn labels_that_make_no_sense_are_refused_and_where_there_are_no_channels_nobody_is_told() {
    let scene = Scene::new();
    insta::assert_snapshot!(scene.gpulock(&["alerts", "route", "MONITOR_SERVICE_DOWN"]).told(), @r#"
    exit code 0
    --- stdout
    labels  alertname="MONITOR_SERVICE_DOWN" severity="P1"
    route  {} (the top)
      group  {alertname="MONITOR_SERVICE_DOWN"}
      rhythm  first message after SPAN, news 5m later, again every 4h
    nobody is told; docs/guides/alerts.md says how to describe channels and routes
    "#);
    insta::assert_snapshot!(scene.gpulock(&["alerts", "route", "pool=a", "pool=b"]).told(), @"
    exit code 64
    --- stderr
    error: the label pool is there twice

    hint: an alert has one value for each label
    ");
    for wrong in ["", "=a", "a=", "1=b", "a b", "severity=P7"] {
        scene.gpulock(&["alerts", "route", wrong]).expect(64);
    }
}

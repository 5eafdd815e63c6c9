//! `gpulock config` and `gpulock doctor`: what is in force, and what is wrong.

use serde_json::Value;

use super::scene::Scene;

/// `FROM` of a key in `config show`.
fn origin(scene: &Scene, options: &[&str], key: &str) -> (String, String) {
    let ended = scene.gpulock(&[options, &["config", "show", "--json"]].concat()).expect(0);
    let all: Value = serde_json::from_str(&ended.stdout).unwrap();
    let entry = all.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

#[test]
fn show_says_where_each_value_came_from() {
    let mut scene = Scene::with_config("pool: of-file\n\ngpu_lock:\n  max_wait_time: 120\n");
    scene.set_lock("poll_interval", "0.5");
    let folder = scene.path("");
    let file = |line: u32| format!("{}config.yml:{line}", folder.display());
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin(&scene, &[], "gpu_lock.max_wait_time"), is("2m", &file(4)));
    assert_eq!(
        origin(&scene, &[], "gpu_lock.poll_interval"),
        is("500ms", "environment variable GPULOCK_GPU_LOCK__POLL_INTERVAL")
    );
    assert_eq!(origin(&scene, &[], "gpu_lock.max_poll_interval"), is("10s", "default"));
    assert_eq!(origin(&scene, &[], "pool"), is("of-file", &file(1)));
    scene.set("GPULOCK_POOL", "of-environment");
    assert_eq!(
        origin(&scene, &[], "pool"),
        is("of-environment", "environment variable GPULOCK_POOL")
    );
    assert_eq!(origin(&scene, &["--pool", "of-flag"], "pool"), is("of-flag", "flag"));
}

#[test]
fn show_is_a_table_for_people() {
    let scene = Scene::with_config("pool: lab\n");
    let ended = scene.gpulock(&["config", "show"]).expect(0);
    let mut lines = ended.stdout.lines();
    let heading: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["KEY", "VALUE", "FROM"]);
    assert!(lines.clone().count() > 20);
    assert!(
        lines.any(|line| line.starts_with("pool ") && line.ends_with("config.yml:1")),
        "{ended:?}"
    );
}

#[test]
fn a_password_is_not_shown() {
    let scene = Scene::new();
    let store = ["--store", "redis://user:secret@host:6379/0"];
    let ended = scene.gpulock(&[&store[..], &["config", "show"]].concat()).expect(0);
    assert!(!ended.stdout.contains("secret") && ended.stdout.contains("***"), "{ended:?}");
}

#[test]
fn check_is_content_with_a_good_file() {
    let scene =
        Scene::with_config("gpu_lock:\n  max_wait_time: 3600\nour_application:\n  port: 80\n");
    insta::assert_snapshot!(scene.gpulock(&["config", "check"]).told(), @"
    exit code 0
    --- stdout
    FOLDER/work/config.yml: good, no warnings to think about
    ");
}

#[test]
fn check_explains_contradictions() {
    let scene = Scene::with_config(
        "gpu_lock_monitor:\n  timeout_levels:\n    soft_timeout: 2h\n  heartbeat:\n    interval: 20\n\
         gpu_lock:\n  max_wait_time: 60\n",
    );
    insta::assert_snapshot!(scene.gpulock(&["config", "check"]).told(), @"
    exit code 65
    --- stdout
    error: FOLDER/work/config.yml:3: `gpu_lock_monitor.timeout_levels.soft_timeout` (2h, FOLDER/work/config.yml:3) is not below `gpu_lock_monitor.timeout_levels.hard_timeout` (2h, default), so a GPU is taken back before its holder was asked to stop
    hint: make the soft timeout the lower of the two

    error: FOLDER/work/config.yml:5: `gpu_lock_monitor.heartbeat.interval` (20s, FOLDER/work/config.yml:5) is not below half of `gpu_lock_monitor.heartbeat.timeout` (30s, default), so a single late heartbeat ends a lease
    hint: make the interval a third of the timeout or less

    warning: FOLDER/work/config.yml:7: `gpu_lock.max_wait_time` (1m, FOLDER/work/config.yml:7) is below `gpu_lock_monitor.timeout_levels.warning` (30m, default), so a request may give up behind a task that takes no longer than usual
    hint: raise max_wait_time, or lower the warning if tasks are shorter

    --- stderr
    error: FOLDER/work/config.yml: 2 errors and 1 warning
    ");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let scene = Scene::with_config("pool: lab\ngpu_lock:\n  max_wait_tine: 60\n");
    insta::assert_snapshot!(scene.gpulock(&["config", "check"]).told(), @"
    exit code 65
    --- stderr
    error: failed to understand FOLDER/work/config.yml:3: there is no key `gpu_lock.max_wait_tine`; the nearest is `gpu_lock.max_wait_time`

    hint: write `gpu_lock.max_wait_time` if that is meant, or remove it
    ");
    let ended = scene.gpulock(&["run", "--", "touch", "ran"]).expect(65);
    assert!(
        ended.stderr.contains("config.yml:3") && ended.stderr.contains("`gpu_lock.max_wait_time`"),
        "{ended:?}"
    );
    assert!(!scene.exists("ran") && !scene.store_path().exists());
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    let scene = Scene::new();
    for text in [
        "gpu_lock: [",
        "just text",
        "gpu_lock:\n  poll_interval: soon\n",
        "pool: a b\n",
        "gpus: [0, x]\n",
        "\0\u{1}",
    ] {
        scene.write("config.yml", text);
        let ended = scene.gpulock(&["status"]).expect(65);
        assert!(
            ended.stderr.contains("config.yml:") && ended.stderr.contains("\nhint: "),
            "{text:?}: {ended:?}"
        );
    }
    insta::assert_snapshot!(scene.gpulock(&["--config", "none.yml", "status"]).told(), @"
    exit code 65
    --- stderr
    error: failed to read the configuration file FOLDER/work/none.yml: No such file or directory (os error 2)

    hint: name another with --config or GPULOCK_CONFIG, or create it
    ");
}

#[test]
fn an_unknown_variable_of_ours_is_refused() {
    let mut scene = Scene::new();
    scene.set_lock("pol_interval", "1");
    insta::assert_snapshot!(scene.gpulock(&["status"]).told(), @"
    exit code 65
    --- stderr
    error: failed to understand environment variable GPULOCK_GPU_LOCK__POL_INTERVAL: there is no key `gpu_lock.pol_interval`; the nearest is `GPULOCK_GPU_LOCK__POLL_INTERVAL`

    hint: write `GPULOCK_GPU_LOCK__POLL_INTERVAL` if that is meant, or remove it
    ");
}

#[test]
fn doctor_finds_a_healthy_store() {
    let scene = Scene::with_config("gpus: [GPU-made-up]\n");
    insta::assert_snapshot!(scene.gpulock(&["doctor"]).told(), @"
    exit code 0
    --- stdout
    good  configuration: FOLDER/work/config.yml
    good  processes: a dead holder is noticed at once
    good  store: sqlite://FOLDER/store/gpulock.db
    good  integrity: the file is whole, SIZE
    good  gpus: the configuration lists 0 = GPU-made-up
    good  leases: 0 held, 0 waiting
    ");
}

#[test]
fn doctor_speaks_json() {
    let scene = Scene::with_config("gpus: [GPU-made-up]\n");
    let ended = scene.gpulock(&["doctor", "--json"]).expect(0);
    let checks: Value = serde_json::from_str(&ended.stdout).unwrap();
    let names: Vec<_> =
        checks.as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["configuration", "processes", "store", "integrity", "gpus", "leases"]);
    assert!(checks.as_array().unwrap().iter().all(|check| check["state"] == "good"), "{checks}");
}

#[test]
fn doctor_names_each_trouble_with_a_fix() {
    let scene = Scene::with_config("gpus: [GPU-made-up]\ngpu_lock:\n  max_wait_time: 60\n");
    std::fs::write(scene.store_path(), "not a database").unwrap();
    insta::assert_snapshot!(scene.gpulock(&["doctor"]).told(), @"
    exit code 69
    --- stdout
    warning  configuration: FOLDER/work/config.yml:3: `gpu_lock.max_wait_time` (1m, FOLDER/work/config.yml:3) is below `gpu_lock_monitor.timeout_levels.warning` (30m, default), so a request may give up behind a task that takes no longer than usual
      hint: raise max_wait_time, or lower the warning if tasks are shorter; `gpulock config check` lists them all
    good  processes: a dead holder is noticed at once
    bad  store: FOLDER/store/gpulock.db is not a gpulock store
      hint: choose another file with --store sqlite:///PATH; this one was left as it is
    ");
    let ended = scene.gpulock(&["doctor", "--json"]).expect(69);
    let checks: Value = serde_json::from_str(&ended.stdout).unwrap();
    let store = checks.as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap();
    assert_eq!(store["state"], "bad");
    assert!(store["hint"].is_string(), "{store}");
}

#[test]
fn doctor_sees_processes_that_keep_a_gpu_from_the_next() {
    let scene = Scene::with_config("gpus: [GPU-made-up]\n");
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > worker.pid; while :; do sleep 0.02; done' & wait";
    let holder = scene.start_run("ocr", &[], script);
    scene.wait_for_pid("worker.pid");
    holder.signal(rustix::process::Signal::KILL);
    holder.ended();
    // Nobody has asked since, so nobody has noticed.
    scene.gpulock(&["run", "--no-wait", "--", "true"]).expect(75);
    let ended = scene.gpulock(&["doctor"]).expect(0);
    assert!(
        ended.stdout.contains("warning  leases: GPU 0 waits for the processes of ocr"),
        "{ended:?}"
    );
}

#[test]
fn check_looks_into_the_section_on_alerts_and_other_commands_do_not() {
    let file = "alerts:\n  channels:\n    ops:\n      slack: {url: '${SLACK_URL}'}\n  route:\n    \
                channels: [oops]\n";
    let mut scene = Scene::with_config(file);
    insta::assert_snapshot!(scene.gpulock(&["config", "check"]).told(), @"
    exit code 65
    --- stderr
    error: failed to understand FOLDER/work/config.yml:4: `alerts.channels.ops.slack.url` uses the environment variable SLACK_URL, which is not set

    hint: set it, or write a default as ${SLACK_URL:DEFAULT}
    ");
    scene.gpulock(&["run", "--", "true"]).expect(0);
    scene.set("SLACK_URL", "https://hooks.example.org/services/s3cret");
    insta::assert_snapshot!(scene.gpulock(&["config", "check"]).told(), @"
    exit code 65
    --- stderr
    error: failed to understand FOLDER/work/config.yml:6: `alerts.route.channels[0]` names a channel that does not exist

    hint: write `ops` if that is meant, or remove it
    ");
    scene.write("config.yml", file.replace("oops", "ops"));
    scene.gpulock(&["config", "check"]).expect(0);
    assert_eq!(origin(&scene, &[], "alerts").0, "set");
}

//! Command lines that make no sense: one sentence, a way out, exit code 64, nothing done.

use super::scene::Scene;

/// Runs `gpulock run OPTIONS -- touch ran` and shows what came of it.
fn run(scene: &Scene, options: &[&str]) -> String {
    let ended = scene.gpulock(&[&["run"], options, &["--", "touch", "ran"]].concat());
    assert!(!scene.exists("ran"), "{ended:?}");
    ended.told()
}

#[test]
fn options_that_do_not_exist() {
    let scene = Scene::new();
    insta::assert_snapshot!(run(&scene, &["--frobnicate"]), @"
    exit code 64
    --- stderr
    error: unexpected argument '--frobnicate' found

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--vram", "8G"]), @"
    exit code 64
    --- stderr
    error: unexpected argument '--vram' found

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--gpuss", "2"]), @"
    exit code 64
    --- stderr
    error: unexpected argument '--gpuss' found

    hint: a similar argument exists: '--gpus'
    ");
    insta::assert_snapshot!(scene.gpulock(&["statsu"]).told(), @"
    exit code 64
    --- stderr
    error: unrecognized subcommand 'statsu'

    hint: a similar subcommand exists: 'status'
    ");
    insta::assert_snapshot!(scene.gpulock(&["run"]).told(), @"
    exit code 64
    --- stderr
    error: the following required arguments were not provided: <COMMAND>...

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--priority", "highest"]), @"
    exit code 64
    --- stderr
    error: invalid value 'highest' for '--priority <P>' [possible values: low, normal, high, urgent]

    hint: a similar value exists: 'high'
    ");
    assert!(!scene.store_path().exists());
}

#[test]
fn options_that_exclude_each_other() {
    let scene = Scene::new();
    insta::assert_snapshot!(run(&scene, &["--gpu", "0", "--gpus", "1"]), @"
    exit code 64
    --- stderr
    error: the argument '--gpu <ID>' cannot be used with '--gpus <N>'

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--wait", "1s", "--no-wait"]), @"
    exit code 64
    --- stderr
    error: the argument '--wait <SPAN>' cannot be used with '--no-wait'

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    let both = ["release", "gpu_lock:0", "--ask", "--force", "--reason", "x"];
    insta::assert_snapshot!(scene.gpulock(&both).told(), @"
    exit code 64
    --- stderr
    error: the argument '--ask' cannot be used with '--force'

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
}

#[test]
fn gpus_that_do_not_exist() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    insta::assert_snapshot!(run(&scene, &["--gpu", "9"]), @"
    exit code 64
    --- stderr
    error: there is no GPU 9 in this pool, which has GPUs 0 and 1

    hint: `gpulock status` lists the GPUs; `gpulock doctor` asks the driver again
    ");
    insta::assert_snapshot!(run(&scene, &["--gpu", "GPU-unknown"]), @"
    exit code 64
    --- stderr
    error: there is no GPU GPU-unknown in this pool, which has GPUs 0 and 1

    hint: `gpulock status` lists the GPUs; `gpulock doctor` asks the driver again
    ");
    insta::assert_snapshot!(run(&scene, &["--gpus", "5"]), @"
    exit code 64
    --- stderr
    error: the pool cannot lend any 5 GPUs: it has GPUs 0 and 1

    hint: `gpulock status` lists the GPUs; `gpulock doctor` asks the driver again
    ");
    insta::assert_snapshot!(run(&scene, &["--gpus", "0"]), @"
    exit code 64
    --- stderr
    error: invalid value '0' for '--gpus <N>': 0 is not in 1..=4294967295

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--gpus", "-1"]), @"
    exit code 64
    --- stderr
    error: invalid value '-1' for '--gpus <N>': -1 is not in 1..=4294967295

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--gpus", "many"]), @"
    exit code 64
    --- stderr
    error: invalid value 'many' for '--gpus <N>': invalid digit found in string

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--gpu", "zero"]), @"
    exit code 64
    --- stderr
    error: invalid value 'zero' for '--gpu <ID>': a GPU is named by its number (0) or its UUID (GPU-…)

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--gpu", ""]), @"
    exit code 64
    --- stderr
    error: invalid value '' for '--gpu <ID>': a GPU is named by its number (0) or its UUID (GPU-…)

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    // Whoever is refused does not stand in the queue.
    assert_eq!(scene.pool()["queue"], serde_json::json!([]));
}

#[test]
fn lengths_of_time_that_are_none() {
    let scene = Scene::new();
    insta::assert_snapshot!(run(&scene, &["--wait", "0"]), @"
    exit code 64
    --- stderr
    error: invalid value '0' for '--wait <SPAN>': write at least 0.001 seconds

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--wait", "-5s"]), @"
    exit code 64
    --- stderr
    error: invalid value '-5s' for '--wait <SPAN>': write seconds (90 or 1.5) or a length such as 90s, 30m, 1h30m

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(run(&scene, &["--wait", "soon"]), @"
    exit code 64
    --- stderr
    error: invalid value 'soon' for '--wait <SPAN>': write seconds (90 or 1.5) or a length such as 90s, 30m, 1h30m

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    for text in [
        "",
        " ",
        "nan",
        "inf",
        "1e99",
        "5 parsecs",
        "99999999999999999999s",
        "0s",
        "-1",
        "\u{1b}[2J",
    ] {
        let ended =
            scene.gpulock(&["run", &format!("--wait={text}"), "--", "touch", "ran"]).expect(64);
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.contains("\nhint: "),
            "{text:?}: {ended:?}"
        );
        assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
    }
    assert!(!scene.exists("ran"));
}

#[test]
fn names_that_would_spoil_a_log() {
    let scene = Scene::new();
    for name in ["", "a\nb", "\u{1b}]0;title\u{7}", "a\u{202e}b", "\u{9b}1m"] {
        let ended = scene.gpulock(&["run", "--task", name, "--", "touch", "ran"]).expect(64);
        assert!(ended.stderr.contains("\nhint: "), "{name:?}: {ended:?}");
        assert!(
            !ended.stderr.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']),
            "{name:?}: {ended:?}"
        );
        assert_eq!(ended.stderr.lines().count(), 3, "{name:?}: {ended:?}");
    }
    let ended =
        scene.gpulock(&["run", "--task", &"x".repeat(100_000), "--", "touch", "ran"]).expect(64);
    assert!(
        ended.stderr.len() < 1_000 && ended.stderr.contains("this one has 100000"),
        "{ended:?}"
    );
    for pool in ["", "a b", "a/b", "{a}", &"p".repeat(65)] {
        scene.gpulock(&["run", "--pool", pool, "--", "touch", "ran"]).expect(64);
    }
    assert!(!scene.exists("ran"));
}

#[test]
fn a_command_whose_name_is_no_label_gets_one() {
    use std::os::unix::ffi::OsStrExt;

    let scene = Scene::new();
    let name = std::ffi::OsStr::from_bytes(b"./bad\x1b\n\xff");
    std::os::unix::fs::symlink("/bin/sh", scene.path("").join(name)).unwrap();
    let mut command = scene.command(&["run", "--"]);
    command.arg(name).args(["-c", "exit 4"]);
    scene.launch(command).ended().expect(4);
    let granted = scene.events().into_iter().find(|event| event["event"] == "granted").unwrap();
    assert_eq!(granted["task"], "bad\u{fffd}");
}

#[test]
fn stores_that_do_not_exist() {
    let scene = Scene::new();
    let say = |url: &str| {
        let ended = scene.gpulock(&["--store", url, "run", "--", "touch", "ran"]);
        assert!(!scene.exists("ran"), "{ended:?}");
        ended.told()
    };
    insta::assert_snapshot!(say("mysql://host/db"), @"
    exit code 65
    --- stderr
    error: mysql://host/db is not a store that this gpulock can use: its scheme is unknown

    hint: stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:
    ");
    insta::assert_snapshot!(say("redis://:secret@host?prefx=a"), @"
    exit code 65
    --- stderr
    error: redis://:***@host?prefx=*** is not a store that this gpulock can use: it has no option `prefx`; the nearest is `prefix`

    hint: stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:
    ");
    insta::assert_snapshot!(say("sqlite://"), @"
    exit code 65
    --- stderr
    error: sqlite:// is not a store that this gpulock can use: it names no file

    hint: stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:
    ");
    insta::assert_snapshot!(say("sqlite:///a/folder/"), @"
    exit code 65
    --- stderr
    error: sqlite:///a/folder/ is not a store that this gpulock can use: it names no file

    hint: stores look like sqlite:///PATH/FILE.db, redis://[USER:PASSWORD@]HOST:6379/0, rediss://… (TLS), redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, http://HOST:8788 (a running `gpulock serve`) or memory:
    ");
    insta::assert_snapshot!(say("just a path"), @"
    exit code 65
    --- stderr
    error: failed to understand flag: `store` does not begin with the scheme of a URL

    hint: write for instance sqlite:///var/lib/gpulock/gpulock.db or redis://host:6379/0
    ");
    insta::assert_snapshot!(say(""), @"
    exit code 64
    --- stderr
    error: a value is required for '--store <URL>' but none was supplied

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
}

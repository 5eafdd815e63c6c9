//! `gpulock run` with a free GPU: the command does not notice that it is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::scene::Scene;

#[test]
fn the_exit_code_is_that_of_the_command() {
    let scene = Scene::new();
    for code in [0, 1, 3, 75, 76, 255] {
        let ended = scene.gpulock(&["run", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((ended.code(), ended.told().lines().count()), (code, 1), "{ended:?}");
    }
}

#[test]
fn a_command_that_a_signal_ends_gives_128_and_its_number() {
    let scene = Scene::new();
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("HUP", 1)] {
        let ended = scene.gpulock(&["run", "--", "sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(128 + number), ""));
    }
}

#[test]
fn a_command_that_is_not_there_gives_127_before_anybody_waits() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "no-such-command"]).told(), @"
    exit code 127
    --- stderr
    error: the command no-such-command was not found

    hint: write its path, or put its folder on PATH
    ");
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "./no-such-file", "-x"]).told(), @"
    exit code 127
    --- stderr
    error: the command ./no-such-file was not found

    hint: write its path, or put its folder on PATH
    ");
    scene.let_go("ocr");
    holder.ended().expect(0);
    assert!(scene.events().iter().all(|event| event["event"] != "queued"));
}

#[test]
fn a_command_that_is_no_program_gives_126_before_anybody_waits() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    scene.write("notes.txt", "not a program\n");
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "./notes.txt"]).told(), @"
    exit code 126
    --- stderr
    error: the command ./notes.txt cannot be executed

    hint: `chmod +x ./notes.txt`, or name its interpreter first
    ");
    fs::create_dir(scene.path("folder")).unwrap();
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "./folder"]).told(), @"
    exit code 126
    --- stderr
    error: the command ./folder is a folder

    hint: name a program in it
    ");
    scene.let_go("ocr");
    holder.ended().expect(0);
}

#[test]
fn a_program_without_its_interpreter_gives_the_code_of_the_shell_and_frees_the_gpu() {
    let scene = Scene::new();
    scene.write("broken", "#!/no/such/interpreter\n");
    fs::set_permissions(scene.path("broken"), fs::Permissions::from_mode(0o755)).unwrap();
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "./broken"]).told(), @"
    exit code 127
    --- stderr
    error: the command cannot be executed: No such file or directory (os error 2)

    hint: the interpreter that its first line names, or its loader, is not there
    ");
    assert_eq!(scene.pool()["gpus"][0]["state"], "free");
}

#[test]
fn output_and_errors_of_the_command_are_untouched() {
    let scene = Scene::new();
    let script = r"printf 'out\0\377\n'; printf 'err' >&2";
    let bare = scene.shell(script);
    let under = scene.gpulock(&["run", "--", "sh", "-c", script]);
    assert_eq!((&under.stdout, &under.stderr), (&bare.stdout, &bare.stderr));
}

#[test]
fn standard_input_reaches_the_command() {
    let scene = Scene::new();
    let text = b"first\nsecond \0\xff\n".repeat(10_000);
    let mut command = scene.command(&["run", "--", "sh", "-c", "cat > copy; echo done"]);
    command.stdin(Stdio::piped());
    let mut running = scene.launch(command);
    running.feed(&text);
    assert_eq!(running.ended().expect(0).stdout, "done\n");
    assert_eq!(fs::read(scene.path("copy")).unwrap(), text);
}

#[test]
fn a_pipeline_works_from_both_sides() {
    let scene = Scene::new();
    let script = "seq 100 | gpulock run -- sort -rn | head -2; seq 3 | gpulock run -- cat";
    assert_eq!(scene.shell(script).expect(0).stdout, "100\n99\n1\n2\n3\n");
    // A reader that goes away ends the writer, as it would without gpulock.
    let ended = scene.shell("{ gpulock run -- yes; echo $? >&2; } | head -1").expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("y\n", "141\n"));
}

/// What the command sees of its lease.
const SHOW: &str = "echo $CUDA_VISIBLE_DEVICES/$GPULOCK_LEASE_GPUS/$CUDA_DEVICE_ORDER/$GPULOCK_LEASE_ID/$GPULOCK_TOKEN";

fn shown(scene: &Scene, options: &[&str]) -> Vec<String> {
    let mut arguments = vec!["run"];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", SHOW]);
    let ended = scene.gpulock(&arguments).expect(0);
    ended.stdout.trim_end().split('/').map(str::to_owned).collect()
}

#[test]
fn the_command_sees_its_gpus_by_number() {
    // No machine has so many that a driver could know these.
    let scene = Scene::with_config("gpus: [40, 41, 42]\n");
    let mut tokens = Vec::new();
    for (options, gpus) in [
        (&[][..], "40"),
        (&["--gpus", "2"], "40,41"),
        (&["--gpu", "41"], "41"),
        (&["--gpu", "42,40"], "40,42"),
        (&["--gpus", "3"], "40,41,42"),
    ] {
        let seen = shown(&scene, options);
        assert_eq!(seen[..3], [gpus, gpus, "PCI_BUS_ID"], "{options:?}");
        assert_eq!(seen[3].len(), 32, "{seen:?}");
        tokens.push(seen[4].parse::<u64>().unwrap());
    }
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
    assert!(tokens.iter().all(|token| *token < 1 << 53), "JSON numbers are exact up to there");
}

#[test]
fn the_command_sees_uuids_where_the_pool_has_them() {
    let scene = Scene::with_config("gpus: [GPU-aaaa-1, GPU-bbbb-2, GPU-cccc-3]\n");
    assert_eq!(shown(&scene, &["--gpus", "2"])[..3], ["GPU-aaaa-1,GPU-bbbb-2", "0,1", ""]);
    assert_eq!(shown(&scene, &["--gpu", "GPU-cccc-3"])[..3], ["GPU-cccc-3", "2", ""]);
    assert_eq!(shown(&scene, &["--gpu", "1"])[..3], ["GPU-bbbb-2", "1", ""]);
}

#[test]
fn variables_of_the_caller_reach_the_command_and_those_of_the_lease_win() {
    let mut scene = Scene::with_config("gpus: [40]\n");
    scene.set("MODEL", "large v3");
    scene.set("CUDA_VISIBLE_DEVICES", "7");
    let ended = scene.gpulock(&["run", "--", "sh", "-c", "echo $MODEL, $CUDA_VISIBLE_DEVICES"]);
    assert_eq!(ended.expect(0).stdout, "large v3, 40\n");
}

#[test]
fn several_gpus_are_lent_side_by_side() {
    let scene = Scene::with_config("gpus: [0, 1, 2]\n");
    let pair = scene.holder("pair", &["--gpus", "2"]);
    let single = scene.holder("single", &["--gpu", "2"]);
    let pool = scene.pool();
    let held: Vec<_> =
        pool["leases"].as_array().unwrap().iter().map(|l| l["gpus"].clone()).collect();
    assert_eq!(held, [serde_json::json!([0, 1]), serde_json::json!([2])]);
    insta::assert_snapshot!(scene.gpulock(&["run", "--no-wait", "--gpus", "2", "--", "true"]).told(), @"
    exit code 75
    --- stderr
    error: any 2 GPUs are not free: held by pair (pid PID on HOST) for SPAN; by single (pid PID on HOST) for SPAN

    hint: `gpulock status` shows who holds and who waits; wait longer with --wait
    ");
    scene.let_go("pair");
    scene.let_go("single");
    pair.ended().expect(0);
    single.ended().expect(0);
}

#[test]
fn a_run_inside_a_run_is_told_that_it_would_wait_for_itself() {
    let scene = Scene::new();
    insta::assert_snapshot!(scene.gpulock(&["run", "--", "gpulock", "run", "--", "true"]).told(), @"
    exit code 64
    --- stderr
    error: the request would wait for its own lease LEASE on GPU 0

    hint: work inside a lease may use its GPUs as they are; leave out the inner `gpulock run`
    ");
    // Of two GPUs it may have the other one.
    let scene = Scene::with_config("gpus: [0, 1]\n");
    let inner = "gpulock run -- sh -c 'echo $GPULOCK_LEASE_GPUS'";
    let ended = scene.gpulock(&["run", "--gpu", "0", "--", "sh", "-c", inner]);
    assert_eq!(ended.expect(0).stdout, "1\n");
}

#[test]
fn the_work_is_called_after_its_command_unless_it_has_a_name() {
    let scene = Scene::new();
    scene.gpulock(&["run", "--", "/bin/sh", "-c", "true"]).expect(0);
    scene.gpulock(&["run", "--task", "speech → text, part 2", "--", "true"]).expect(0);
    let tasks: Vec<_> = scene
        .events()
        .iter()
        .filter(|e| e["event"] == "granted")
        .map(|e| e["task"].clone())
        .collect();
    assert_eq!(tasks, ["sh", "speech → text, part 2"]);
}

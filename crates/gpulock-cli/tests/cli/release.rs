//! `gpulock release`: give back, ask to stop, take away.

use super::program::until;
use super::scene::Scene;

const FORCE: [&str; 3] = ["--force", "--reason", "stuck since noon"];

fn release(scene: &Scene, target: &str, options: &[&str]) -> super::program::Ended {
    scene.gpulock(&[&["release", target], options].concat())
}

#[test]
fn a_stranger_needs_force() {
    let scene = Scene::new();
    let mut holder = scene.holder("ocr", &[]);
    insta::assert_snapshot!(release(&scene, "gpu_lock:0", &[]).told(), @"
    exit code 77
    --- stderr
    error: gpu_lock:0 is held by ocr (pid PID on HOST), and is not yours to give back

    hint: --ask --reason TEXT asks the holder to stop; --force --reason TEXT takes the lease away
    ");
    let lease = scene.lease()["lease_id"].as_str().unwrap().to_owned();
    release(&scene, &lease, &[]).expect(77);
    assert!(!holder.has_ended());
    assert_eq!(scene.lease()["state"], "held");
}

#[test]
fn inside_a_run_its_own_lease_stays_until_the_command_ends() {
    let scene = Scene::new();
    let script = "gpulock release gpu_lock:0; echo $? > code; gpulock verify; echo $? >> code";
    let holder = scene.start_run("ocr", &[], script);
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 0
    --- stderr
    error: gpu_lock:0 goes back when this command ends, and not before

    hint: --ask --reason TEXT asks the holder to stop; --force --reason TEXT takes the lease away
    ");
    assert_eq!(scene.read("code"), "77\n0\n");
    scene.gpulock(&["run", "--no-wait", "--", "true"]).expect(0);
}

#[test]
fn asking_reaches_the_command_and_leaves_it_the_lease() {
    let scene = Scene::new();
    let script = "exec 2>/dev/null; trap 'echo asked > asked' TERM; echo $$ > worker.pid; until [ -e finish ]; do sleep 0.01; done; exit 5";
    let holder = scene.start_run("ocr", &[], script);
    scene.wait_for_pid("worker.pid");
    insta::assert_snapshot!(release(&scene, "gpu_lock:0", &["--ask", "--reason", "maintenance at 18:00"]).told(), @"
    exit code 0
    --- stdout
    asked ocr (pid PID on HOST) to stop
    ");
    assert_eq!(scene.wait_for_line("asked"), "asked");
    assert_eq!(scene.lease()["state"], "stopping");
    scene.write("finish", "");
    insta::assert_snapshot!(holder.ended().told(), @"
    exit code 5
    --- stderr
    gpulock: asked to stop: maintenance at 18:00
    ");
}

#[test]
fn force_takes_it_stops_the_command_and_the_next_one_runs() {
    let scene = Scene::new();
    let script = "exec 2>/dev/null; trap 'echo asked > asked; exit 9' TERM; echo $$ > worker.pid; while :; do sleep 0.01; done";
    let holder = scene.start_run("ocr", &[], script);
    scene.wait_for_pid("worker.pid");
    let successor = scene.successor(&["worker.pid"]);
    scene.until_queued("successor");
    let taken = release(&scene, "gpu_lock:0", &FORCE).expect(0);
    assert!(taken.stdout.starts_with("took lease "), "{taken:?}");
    let ended = holder.ended().expect(76);
    assert!(ended.stderr.contains("error: the lease "), "{ended:?}");
    successor.ended().expect(0);
    assert_eq!((scene.read("asked").as_str(), scene.read("alive").as_str()), ("asked\n", ""));
    let seized =
        scene.events().into_iter().find(|event| event["how"]["seized"].is_object()).unwrap();
    assert_eq!(seized["how"]["seized"]["reason"], "stuck since noon");
    assert!(seized["how"]["seized"]["by"].as_str().unwrap().starts_with("tester@"), "{seized}");
}

#[test]
fn force_by_lease_id_needs_a_reason_and_names_what_it_took() {
    let scene = Scene::new();
    let holder = scene.holder("ocr", &[]);
    let lease = scene.lease()["lease_id"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(release(&scene, &lease, &["--force"]).told(), @"
    exit code 64
    --- stderr
    error: the following required arguments were not provided: --reason <TEXT>

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(release(&scene, &lease, &["--ask"]).told(), @"
    exit code 64
    --- stderr
    error: the following required arguments were not provided: --reason <TEXT>

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    let taken = release(&scene, &lease, &FORCE).expect(0);
    assert!(taken.stdout.contains(&lease), "{taken:?}");
    holder.ended().expect(76);
}

#[test]
fn force_ignoring_processes_hands_the_gpu_on_at_once() {
    let scene = Scene::new();
    // Nobody can ask it: its `gpulock run` sleeps.
    let holder = scene.holder("ocr", &[]);
    holder.signal(rustix::process::Signal::STOP);
    let options = [&FORCE[..], &["--ignore-processes"]].concat();
    release(&scene, "gpu_lock:0", &options).expect(0);
    scene.gpulock(&["run", "--no-wait", "--", "touch", "ran"]).expect(0);
    assert!(scene.exists("ran"));
    holder.signal(rustix::process::Signal::CONT);
    holder.ended().expect(76);
}

#[test]
fn what_is_not_held_cannot_be_released() {
    let scene = Scene::with_config("gpus: [0, 1]\n");
    insta::assert_snapshot!(release(&scene, "gpu_lock:0", &FORCE).told(), @"
    exit code 64
    --- stderr
    error: there is no GPU 0 in pool default

    hint: `gpulock status` lists the GPUs
    ");
    scene.gpulock(&["run", "--", "true"]).expect(0);
    insta::assert_snapshot!(release(&scene, "gpu_lock:0", &FORCE).told(), @"
    exit code 76
    --- stderr
    error: nobody holds gpu_lock:0

    hint: `gpulock status` shows who holds what
    ");
    insta::assert_snapshot!(release(&scene, "gpu_lock:7", &FORCE).told(), @"
    exit code 64
    --- stderr
    error: there is no GPU 7 in pool default

    hint: `gpulock status` lists the GPUs
    ");
    insta::assert_snapshot!(release(&scene, "0123456789abcdef0123456789abcdef", &FORCE).told(), @"
    exit code 76
    --- stderr
    error: there is no lease LEASE in pool default

    hint: `gpulock status` shows who holds what
    ");
    insta::assert_snapshot!(release(&scene, "ocr", &FORCE).told(), @r#"
    exit code 64
    --- stderr
    error: "ocr" is neither a lock key nor a lease id

    hint: lock keys look like gpu_lock:0 or gpu_lock:POOL/0; `gpulock status --json` shows lease ids
    "#);
}

#[test]
fn a_lock_key_names_the_pool() {
    let scene = Scene::new();
    let lab = scene.holder("lab", &["--pool", "lab"]);
    let mut other = scene.holder("other", &[]);
    release(&scene, "gpu_lock:lab/0", &FORCE).expect(0);
    lab.ended().expect(76);
    assert!(!other.has_ended());
    scene.let_go("other");
    other.ended().expect(0);
    until("the pool is free", || scene.pool()["leases"] == serde_json::json!([]));
}

//! `gpulock verify`: is this lease still the current one?

use super::scene::Scene;

#[test]
fn inside_a_run_the_lease_is_the_current_one() {
    let scene = Scene::new();
    let ended = scene.gpulock(&["run", "--", "gpulock", "verify"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}

#[test]
fn options_of_the_run_reach_the_commands_inside() {
    let mut scene = Scene::new();
    let url = scene.store_url();
    scene.unset("GPULOCK_STORE");
    let inside =
        "gpulock verify && cd / && gpulock verify && gpulock status --json | grep -c lease_id";
    let options = ["--store", &url, "--pool", "lab", "run", "--", "sh", "-c", inside];
    let ended = scene.gpulock(&options).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("2\n", ""));
}

#[test]
fn a_configuration_named_to_the_run_counts_inside_it_too() {
    let mut scene = Scene::new();
    scene.unset("GPULOCK_STORE");
    scene.write("lab.yml", format!("store: {}\npool: lab\n", scene.store_url()));
    let options = ["--config", "lab.yml", "run", "--", "sh", "-c", "cd / && gpulock verify"];
    scene.gpulock(&options).expect(0);
}

#[test]
fn after_the_run_it_is_not() {
    let scene = Scene::new();
    let named = scene.gpulock(&["run", "--", "sh", "-c", "echo $GPULOCK_LEASE_ID $GPULOCK_TOKEN"]);
    let (lease, token) = named.stdout.trim().split_once(' ').unwrap();
    insta::assert_snapshot!(scene.gpulock(&["verify", lease, token]).told(), @"
    exit code 76
    --- stderr
    error: lease LEASE is not the current one
    ");
}

#[test]
fn the_token_counts_too() {
    let scene = Scene::new();
    let _holder = scene.holder("ocr", &[]);
    let held = scene.lease();
    let (lease, token) = (held["lease_id"].as_str().unwrap(), held["token"].as_u64().unwrap());
    scene.gpulock(&["verify", lease, &token.to_string()]).expect(0);
    scene.gpulock(&["verify", lease, &(token - 1).to_string()]).expect(76);
    scene.gpulock(&["verify", lease, &(token + 1).to_string()]).expect(76);
    let mut stranger = scene.command(&["verify"]);
    stranger.env("GPULOCK_LEASE_ID", lease).env("GPULOCK_TOKEN", token.to_string());
    scene.launch(stranger).ended().expect(0);
}

#[test]
fn without_a_lease_it_is_a_usage_error() {
    let scene = Scene::new();
    insta::assert_snapshot!(scene.gpulock(&["verify"]).told(), @"
    exit code 64
    --- stderr
    error: no lease is named: GPULOCK_LEASE_ID and GPULOCK_TOKEN are not set

    hint: call it inside `gpulock run`, or `gpulock verify LEASE_ID TOKEN`
    ");
    insta::assert_snapshot!(scene.gpulock(&["verify", "0123456789abcdef0123456789abcdef"]).told(), @"
    exit code 64
    --- stderr
    error: the following required arguments were not provided: <TOKEN>

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
    insta::assert_snapshot!(scene.gpulock(&["verify", "x", "1"]).told(), @"
    exit code 64
    --- stderr
    error: invalid value 'x' for '[LEASE_ID]': a lease id has 32 hexadecimal digits

    hint: `gpulock COMMAND --help` shows what there is, with examples
    ");
}

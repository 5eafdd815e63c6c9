//! `gpulock generate`, `--help` and `--version`.

use super::scene::Scene;

#[test]
fn completions_are_scripts_that_their_shells_accept() {
    let scene = Scene::new();
    for (shell, mark) in [
        ("bash", "complete -F _gpulock"),
        ("zsh", "#compdef gpulock"),
        ("fish", "complete -c gpulock"),
    ] {
        let ended = scene.gpulock(&["generate", "completions", shell]).expect(0);
        assert!(ended.stdout.contains(mark) && ended.stdout.contains("no-wait"), "{shell}");
        assert_eq!(ended.stderr, "");
        scene.write(shell, &ended.stdout);
    }
    let completed = "source ./bash; COMP_WORDS=(gpulock sta); COMP_CWORD=1
        _gpulock gpulock sta gpulock; echo ${COMPREPLY[*]}";
    let mut bash = scene.program("bash");
    bash.args(["--norc", "-c", completed]);
    assert_eq!(scene.launch(bash).ended().expect(0).stdout, "status\n");
    scene.gpulock(&["generate", "completions", "tcl"]).expect(64);
}

#[test]
fn every_command_has_a_manual_page() {
    let scene = Scene::new();
    let ended = scene.gpulock(&["generate", "man", "new/folder"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    for page in
        ["gpulock", "gpulock-run", "gpulock-status", "gpulock-release", "gpulock-config-show"]
    {
        let text = scene.read(&format!("new/folder/{page}.1"));
        assert!(text.contains(".TH"), "{page}: {text:?}");
    }
    scene.write("file", "");
    insta::assert_snapshot!(scene.gpulock(&["generate", "man", "file/folder"]).told(), @"
    exit code 70
    --- stderr
    error: manual pages cannot be written to file/folder: Not a directory (os error 20)
    ");
}

#[test]
fn help_comes_with_examples_and_exit_codes() {
    let scene = Scene::new();
    let help = scene.gpulock(&["run", "--help"]).expect(0);
    assert!(help.stdout.contains("Examples:\n  gpulock run -- python train.py"), "{help:?}");
    let all = scene.gpulock(&["--help"]).expect(0);
    assert!(all.stdout.contains("76 lease lost") && all.stderr.is_empty(), "{all:?}");
    let nothing = scene.gpulock(&[]).expect(64);
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("Usage: gpulock"), "{nothing:?}");
    let version = scene.gpulock(&["--version"]).expect(0);
    assert_eq!(version.stdout, format!("gpulock {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_document_of_the_api_is_json_of_openapi_3_1() {
    let document = Scene::new().gpulock(&["generate", "openapi"]).expect(0).stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/livez"]["get"].is_object(), "{document}");
}

#[test]
fn generating_needs_neither_store_nor_configuration() {
    let mut scene = Scene::with_config("gpu_lock: [");
    scene.set("GPULOCK_STORE", "sqlite:///no/such/folder/db");
    scene.gpulock(&["generate", "completions", "bash"]).expect(0);
    assert!(!scene.store_path().exists());
}

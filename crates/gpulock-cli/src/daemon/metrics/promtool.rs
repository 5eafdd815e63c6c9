//! Prometheus' own checker, for tests.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Calls it in the folder `deploy/prometheus`; what it complains about fails the test.
#[track_caller]
pub(crate) fn accepts(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(repository().join("deploy/prometheus"));
    command.env("PATH", path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!(
            "failed to find promtool, which checks metrics and rules\n\n\
             hint: `scripts/setup test` puts it into target/tools/bin"
        ),
        _ => panic!("promtool cannot be started: {error}"),
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}\n{}",
        output.status,
        said.concat()
    );
}

/// The folder that everything is in.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `scripts/test` has the folder of tools on the path already; others may not.
fn path() -> String {
    let tools = repository().join("target/tools/bin");
    format!("{}:{}", std::env::var("PATH").unwrap_or_default(), tools.display())
}

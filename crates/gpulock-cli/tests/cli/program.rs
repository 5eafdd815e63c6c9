//! Programs under way and programs that have ended, and ways to wait for what they do.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything takes that a test waits for.
const LONG: Duration = Duration::from_secs(100);

/// A program under way.
pub(super) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub(super) fn new(child: Child, stdout: PathBuf, stderr: PathBuf) -> Self {
        Self { child, stdout, stderr }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Writes to its standard input, and closes that.
    pub(super) fn feed(&mut self, text: &[u8]) {
        self.child.stdin.take().unwrap().write_all(text).unwrap();
    }

    pub(super) fn stdout(&self) -> String {
        read_all(&self.stdout)
    }

    pub(super) fn stderr(&self) -> String {
        read_all(&self.stderr)
    }

    /// Waits until it says this on standard error.
    #[track_caller]
    pub(super) fn until_it_says(&self, text: &str) {
        until_or(
            || self.stderr().contains(text),
            || format!("{text:?} is said; so far it is {:?}", self.stderr()),
        );
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn ended(mut self) -> Ended {
        let said = || format!("{:?} and {:?}", read_all(&self.stdout), read_all(&self.stderr));
        let status = end_of(&mut self.child, said);
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

/// Waits for the end of a program.
#[track_caller]
pub(super) fn end_of(child: &mut Child, said: impl FnOnce() -> String) -> ExitStatus {
    let mut status = None;
    let has_ended = || {
        status = child.try_wait().unwrap();
        status.is_some()
    };
    until_or(has_ended, || format!("it has ended; it said {}", said()));
    status.unwrap()
}

fn read_all(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    /// The exit code, as a shell shows it.
    pub(super) fn code(&self) -> i32 {
        let by_signal = || 128 + self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(by_signal)
    }

    /// Fails with everything that it said unless it ended with this code.
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "\n{}", self.told());
        self
    }

    /// The whole conversation, for a snapshot.
    pub(super) fn told(&self) -> String {
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => format!("--- {name}\n{text}"),
        };
        let (output, errors) = (part("stdout", &self.stdout), part("stderr", &self.stderr));
        format!("exit code {}\n{output}{errors}", self.code())
    }
}

/// Starts a program, or says which one is missing.
#[track_caller]
pub(super) fn start(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!(
            "this test needs the program {:?}, which cannot be started: {error}; scripts/setup installs what is missing",
            command.get_program()
        ),
    }
}

/// Waits for a condition.
#[track_caller]
pub(super) fn until(what: &str, condition: impl FnMut() -> bool) {
    until_or(condition, || what.to_owned());
}

#[track_caller]
pub(super) fn until_or(mut condition: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "waited in vain until {}", what());
        sleep(Duration::from_millis(10));
    }
}

/// Whether a process works: it is there, and no zombie.
pub(super) fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat.ok().and_then(|stat| stat.rsplit(") ").next()?.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

//! Child processes that never outlive the test process.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait_until;

/// A running child process, killed on drop.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command that was made by [`mortal`].
    pub(crate) fn start(command: Command) -> Self {
        let name = format!("{command:?}");
        match born(command) {
            Ok(child) => Self { child },
            Err(error) => panic!("failed to start {name}: {error}"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Kills it and waits for its end. One that has ended stays so.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it, and returns when no thread of it runs any more.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        wait_until("a paused process stands still", || self.state() == Some('T'));
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
        wait_until("a resumed process runs", || self.state() != Some('T'));
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a process id"), signal)
            .expect("a child that was not waited for takes signals");
    }

    /// The letter in `/proc/PID/stat`, behind the name, which may contain anything.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command for `program` that the kernel kills when this process ends, however that comes about.
pub(crate) fn mortal(program: impl AsRef<OsStr>) -> Command {
    // `setpriv` asks for the signal, the shell sees that it did not ask too late, and each becomes
    // what comes next: the process id stays the same.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", "[ \"$PPID\" = \"$0\" ] && exec \"$@\""]);
    command.arg(std::process::id().to_string()).arg(program);
    command
}

/// Panics if a program is missing.
pub(crate) fn demand(program: &str, package: &str) {
    let path = env::var_os("PATH").unwrap_or_default();
    assert!(
        env::split_paths(&path).any(|folder| folder.join(program).is_file()),
        "failed to find {program}: install the package {package}, or run `scripts/setup test`"
    );
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
///
/// If it fails, with everything that it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed.trim_end().to_owned()
}

type Birth = (Command, Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process: a death signal is sent when
/// the thread ends that asked for the child, and a test is a thread.
fn born(command: Command) -> io::Result<Child> {
    static NURSERY: OnceLock<Sender<Birth>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (births, orders) = channel::<Birth>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // Whoever asked waits for the reply; it can only be gone if its thread is.
                let _ = reply.send(command.spawn());
            }
        });
        births
    });
    let (reply, child) = channel();
    nursery.send((command, reply)).expect("the nursery lives as long as the process");
    child.recv().expect("the nursery answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_started_it() {
        let mut sleep = mortal("sleep");
        sleep.arg("600");
        let mut process = thread::spawn(|| Process::start(sleep)).join().expect("it starts");
        process.pause();
        process.resume();
        assert!(!process.has_ended());
    }

    #[test]
    fn a_child_dies_with_its_process() {
        if let Some(file) = env::var_os("GPULOCK_TESTBED_PARENT") {
            let mut sleep = mortal("sleep");
            sleep.arg("600");
            let process = Process::start(sleep);
            fs::write(file, process.pid().to_string()).expect("the file is writable");
            loop {
                thread::park();
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pid");
        let mut parent = mortal(env::current_exe().expect("a test has a path"));
        parent.args(["--exact", "process::tests::a_child_dies_with_its_process"]);
        parent.env("GPULOCK_TESTBED_PARENT", &file);
        let parent = Process::start(parent);
        let mut child = String::new();
        wait_until("the child is there", || {
            child = fs::read_to_string(&file).unwrap_or_default();
            !child.is_empty()
        });
        drop(parent);
        wait_until("the child is gone", || !runs(&child));
    }

    /// Whether it is neither gone nor a zombie that nobody has waited for yet.
    fn runs(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }
}

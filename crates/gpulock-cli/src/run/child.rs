//! The command as a child process that waits at a gate until its group is on record.
//!
//! ```text
//!   this process                     the child
//!   fork ──────────────────────────▶ own process group, dies with its parent
//!   wait for the lease               waits at the gate
//!   tell the store which group
//!   send the orders ───────────────▶ exec COMMAND
//! ```
//!
//! If this process dies before the orders are sent, the child sees the end of the pipe and
//! ends without having executed anything. It is forked first of all, while this process
//! still is small and has one thread: then forking is cheap, and the child may do what it
//! likes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gpulock::core::ProcessGroup;
use gpulock::process;
use nix::unistd::{ForkResult, fork};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, setpgid, waitid,
};
use tokio::signal::unix::SignalKind;

use crate::exit::{Code, Failure};

use super::progress::{self, Listener};
use super::signals::Signals;

/// A command at its gate, or running.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    /// What is written here opens the gate.
    gate: Option<File>,
    /// Tells why the command could not be executed; ends without a word if it could.
    trouble: File,
    /// Through it the command may tell how far it is, if anybody listens.
    progress: Option<progress::Pipe>,
}

/// What happens to a child.
#[derive(Debug)]
pub(super) enum News {
    /// It could not be executed.
    NotStarted(io::Error),
    /// A signal stopped it.
    Stopped(i32),
    /// It ended: its exit code, or 128 + the signal that ended it.
    Ended(u8),
}

impl Child {
    /// Forks. What it becomes is said when the gate is opened. This process must have only
    /// one thread.
    pub(crate) fn fork() -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(
                Code::Internal,
                format!("a process for the command cannot be started: {error}"),
            )
        };
        // First: a shell can name the numbers up to 9 only.
        let (progress, progress_in) = progress::Pipe::new().map_err(failed)?;
        let (gate_out, gate) = pipe().map_err(failed)?;
        let (trouble, trouble_in) = pipe().map_err(failed)?;
        let parent = getpid();
        #[expect(unsafe_code, reason = "there is no safe fork")]
        // SAFETY: this process has one thread, so no other one can hold a lock that the
        // child would wait for: the child may do whatever the parent may.
        let forked = unsafe { fork() };
        match forked.map_err(|error| failed(error.into()))? {
            ForkResult::Child => {
                drop((gate, trouble, progress));
                let ends = Ends { gate: gate_out, trouble: trouble_in, progress: progress_in };
                std::process::exit(wait_at_gate(parent, ends))
            }
            ForkResult::Parent { child } => {
                let pid = Pid::from_raw(child.as_raw());
                let pid = pid.ok_or_else(|| failed(io::Error::other("the child has no number")))?;
                // The child does the same: whoever is first, the group is there from now on.
                setpgid(Some(pid), Some(pid)).map_err(|error| failed(error.into()))?;
                Ok(Self { pid, gate: Some(gate), trouble, progress: Some(progress) })
            }
        }
    }

    /// The group that the child leads.
    pub(super) fn group(&self) -> io::Result<ProcessGroup> {
        process::led_by(self.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The group's number.
    pub(super) fn group_id(&self) -> Pid {
        self.pid
    }

    /// Listens to what it tells of its progress, with the variables by which it finds the pipe.
    pub(super) fn listen(&mut self) -> io::Result<(Listener, [(&'static str, String); 2])> {
        let pipe = self.progress.take();
        pipe.ok_or_else(|| io::Error::other("somebody listens already"))?.listen()
    }

    /// Lets it become the command.
    pub(super) fn open_gate(&mut self, orders: &Orders<'_>) {
        if let Some(mut gate) = self.gate.take() {
            // If the child is gone, its end is the news.
            let _ = gate.write_all(&orders.to_bytes());
        }
    }

    /// What happens to it next.
    pub(super) async fn news(&mut self) -> io::Result<News> {
        // Listening begins before looking: an end in between is not missed.
        let mut deaths = tokio::signal::unix::signal(SignalKind::child())?;
        loop {
            let wanted = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            if let Some(status) = waitid(WaitId::Pid(self.pid), wanted)? {
                if let Some(signal) = status.stopping_signal() {
                    return Ok(News::Stopped(signal));
                }
                if let Some(error) = self.trouble() {
                    return Ok(News::NotStarted(error));
                }
                let by_signal = status.terminating_signal().map(|signal| 128 + signal as u8);
                let code = status.exit_status().map(|code| code as u8).or(by_signal);
                if let Some(code) = code {
                    return Ok(News::Ended(code));
                }
            }
            deaths.recv().await;
        }
    }

    /// Sends a signal to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        // It may be gone already: then its end is the news.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Passes a signal on.
    pub(super) fn pass_on(&self, signal: nix::sys::signal::Signal) {
        if let Some(signal) = Signal::from_named_raw(signal as i32) {
            self.signal(signal);
        }
    }

    /// Runs it without a lease.
    pub(super) async fn run_unguarded(
        mut self,
        orders: &Orders<'_>,
        signals: Signals,
    ) -> Result<Code, Failure> {
        self.open_gate(orders);
        loop {
            tokio::select! {
                news = self.news() => match news.map_err(|error| Failure::new(Code::Internal, error))? {
                    News::Ended(code) => return Ok(Code::Command(code)),
                    News::NotStarted(error) => return Err(not_started(&error)),
                    News::Stopped(_) => {}
                },
                signal = signals.next() => self.pass_on(signal),
            }
        }
    }

    /// Why the command was not executed, if the child, which has ended, said so.
    fn trouble(&mut self) -> Option<io::Error> {
        let mut number = [0; 4];
        self.trouble.read_exact(&mut number).ok()?;
        Some(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
    }
}

/// Why the command did not begin, with the shell's exit codes.
pub(super) fn not_started(error: &io::Error) -> Failure {
    let failure = |code| Failure::new(code, format!("the command cannot be executed: {error}"));
    match error.kind() {
        // The file itself was there when it was looked for.
        io::ErrorKind::NotFound => failure(Code::NotFound)
            .hint("the interpreter that its first line names, or its loader, is not there"),
        _ => failure(Code::NotExecutable),
    }
}

/// What a child is to become.
#[derive(Debug)]
pub(super) struct Orders<'a> {
    pub(super) program: &'a Path,
    /// The command as the user wrote it, its own name first.
    pub(super) command: &'a [OsString],
    /// Variables besides those that this process has.
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Orders<'_> {
    /// Fields that each end with a zero byte, which none of them can contain: the program,
    /// the number of arguments, the arguments, the variables, and an empty one to end with.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |text: &[u8]| bytes.extend(text.iter().chain(&[0]));
        field(self.program.as_os_str().as_bytes());
        field(self.command.len().to_string().as_bytes());
        self.command.iter().for_each(|argument| field(argument.as_bytes()));
        for (name, value) in &self.environment {
            field(format!("{name}={value}").as_bytes());
        }
        field(b"");
        bytes
    }

    /// The command that the orders describe; `None` if they are not whole.
    fn read(bytes: &[u8]) -> Option<Command> {
        let mut fields =
            bytes.strip_suffix(b"\0\0")?.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let mut command = Command::new(fields.next()?);
        let count: usize = fields.next()?.to_str()?.parse().ok()?;
        command.arg0(fields.next()?);
        command.args(fields.by_ref().take(count - 1));
        command.envs(fields.filter_map(|variable| variable.to_str()?.split_once('=')));
        Some(command)
    }
}

/// The child's ends of the pipes between it and its parent.
struct Ends {
    gate: File,
    trouble: File,
    progress: File,
}

/// The child before it becomes the command. Returns only if the gate stays shut or the
/// command cannot be executed: then with an exit code, which nobody reads.
fn wait_at_gate(parent: Pid, mut ends: Ends) -> i32 {
    let ready = set_parent_process_death_signal(Some(Signal::KILL));
    // If the parent died before that was arranged, nobody will open the gate.
    if ready.is_err() || getppid() != Some(parent) || setpgid(None, None).is_err() {
        return 1;
    }
    let mut orders = Vec::new();
    let arrived = ends.gate.read_to_end(&mut orders).is_ok();
    let Some(mut command) = Orders::read(&orders).filter(|_| arrived) else { return 1 };
    let is_listened_to = command.get_envs().any(|(name, _)| name == progress::NUMBER);
    if is_listened_to && fcntl_setfd(&ends.progress, FdFlags::empty()).is_err() {
        return 1;
    }
    let number = command.exec().raw_os_error().unwrap_or_default();
    // The parent that would read it may be gone.
    let _ = ends.trouble.write_all(&number.to_ne_bytes());
    1
}

fn pipe() -> io::Result<(File, File)> {
    let (out, inward) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((File::from(out), File::from(inward)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let command = ["name", "", "two words", "\u{e4}"].map(OsString::from);
        let environment = vec![("A", "1=2".to_owned()), ("B", String::new())];
        let orders = Orders { program: Path::new("/bin/echo"), command: &command, environment };
        let bytes = orders.to_bytes();
        let read = Orders::read(&bytes).unwrap();
        assert_eq!(read.get_program(), "/bin/echo");
        assert_eq!(read.get_args().collect::<Vec<_>>(), ["", "two words", "\u{e4}"]);
        let variables: Vec<_> = read.get_envs().collect();
        assert_eq!(
            variables,
            [("A", Some("1=2")), ("B", Some(""))].map(|(n, v)| (n.as_ref(), v.map(|v| v.as_ref())))
        );
    }

    #[test]
    fn orders_that_are_cut_off_are_none() {
        let command = ["true"].map(OsString::from);
        let orders =
            Orders { program: Path::new("/bin/true"), command: &command, environment: vec![] };
        let bytes = orders.to_bytes();
        for length in 0..bytes.len() {
            assert!(Orders::read(&bytes[..length]).is_none(), "{length}");
        }
    }
}

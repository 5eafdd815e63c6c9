//! The command as a child process that waits at a gate until its group is on record.
//!
//! ```text
//!   this process                     the child
//!   fork ──────────────────────────▶ own process group, dies with its parent
//!        ◀── its pid ─────────────── waits at the gate
//!   tell the store which group
//!   open the gate ─────────────────▶ exec COMMAND
//! ```
//!
//! If this process dies before the gate opens, the child sees the end of the pipe and ends
//! without having executed anything.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gpulock::core::ProcessGroup;
use gpulock::process;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};
use tokio::sync::mpsc;

use crate::exit::{Code, Failure};

use super::signals::Signals;

/// A command at its gate, or running.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    gate: Option<OwnedFd>,
    news: mpsc::UnboundedReceiver<News>,
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
    /// Forks. The command begins when the gate is opened.
    pub(super) fn start(program: &Path, command: &[OsString], environment: &[(&str, String)]) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Code::Internal, format!("the command cannot be started: {error}"))
        };
        let (pid_out, pid_in) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let (gate_out, gate) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut prepared = Command::new(program);
        prepared.arg0(&command[0]).args(&command[1..]).process_group(0);
        prepared.envs(environment.iter().map(|(name, value)| (name, value)));
        let parent = rustix::process::getpid();
        let at_gate = move || wait_at_gate(parent, &pid_in, &gate_out);
        #[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
        // SAFETY: after the fork the closure makes only system calls (prctl, getppid, write,
        // read) on memory and descriptors that it owns: it takes no lock and allocates
        // nothing, which is what a forked child of a process with threads may do.
        unsafe {
            prepared.pre_exec(at_gate);
        }
        let (tell, news) = mpsc::unbounded_channel();
        // The death signal fires when the thread that forked ends, so that thread waits for
        // the child; and `spawn` returns only when the gate has been passed.
        let nursery = move || nurse(prepared, &tell);
        std::thread::Builder::new().name("child".to_owned()).spawn(nursery).map_err(failed)?;
        let mut number = [0; 4];
        read_exactly(&pid_out, &mut number).map_err(|e| failed(e.into()))?;
        let pid = Pid::from_raw(i32::from_ne_bytes(number));
        let pid = pid.ok_or_else(|| failed(io::Error::other("it could not be forked")))?;
        Ok(Self { pid, gate: Some(gate), news })
    }

    /// The group that the child leads.
    pub(super) fn group(&self) -> io::Result<ProcessGroup> {
        process::led_by(self.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The group's number.
    pub(super) fn group_id(&self) -> Pid {
        self.pid
    }

    /// Lets the command begin.
    pub(super) fn open_gate(&mut self) {
        if let Some(gate) = self.gate.take() {
            // If the child is gone, its end is the news.
            let _ = rustix::io::write(gate, &[1]);
        }
    }

    /// What happens to it next. After its end nothing more comes.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Sends a signal to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        // It may be gone already: then its end is the news.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Runs it without a lease.
    pub(super) async fn run_unguarded(mut self, signals: Signals) -> Result<Code, Failure> {
        self.open_gate();
        loop {
            tokio::select! {
                news = self.news() => match news {
                    News::Ended(code) => return Ok(Code::Command(code)),
                    News::NotStarted(error) => return Err(not_started(&error)),
                    News::Stopped(_) => {}
                },
                signal = signals.next() => self.pass_on(signal),
            }
        }
    }

    /// Passes a signal on.
    pub(super) fn pass_on(&self, signal: nix::sys::signal::Signal) {
        if let Some(signal) = Signal::from_named_raw(signal as i32) {
            self.signal(signal);
        }
    }
}

/// Why the command did not begin, with the shell's exit codes.
pub(super) fn not_started(error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::NotExecutable,
    };
    Failure::new(code, format!("the command cannot be executed: {error}"))
}

/// In the child, between fork and exec.
fn wait_at_gate(parent: Pid, pid_in: &OwnedFd, gate: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // The parent died before it could be arranged to die with it.
        return Err(io::Error::other("gpulock was killed"));
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    rustix::io::write(pid_in, &own.to_ne_bytes())?;
    let mut opened = [0];
    read_exactly(gate, &mut opened).map_err(io::Error::from)
}

fn read_exactly(from: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&from, &mut buffer[filled..]) {
            Ok(0) => return Err(rustix::io::Errno::PIPE),
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts the child and waits for it, on the thread whose end would kill it.
fn nurse(mut prepared: Command, tell: &mpsc::UnboundedSender<News>) {
    let child = match prepared.spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nobody listens any more: then nobody wants to know.
            let _ = tell.send(News::NotStarted(error));
            return;
        }
    };
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return };
    loop {
        let status = match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::STOPPED) {
            Ok(Some(status)) => status,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        let news = match (status.stopping_signal(), status.exit_status(), status.terminating_signal()) {
            (Some(signal), _, _) => News::Stopped(signal),
            (_, Some(code), _) => News::Ended(code as u8),
            (_, _, Some(signal)) => News::Ended(128 + signal as u8),
            _ => continue,
        };
        let ended = matches!(news, News::Ended(_));
        let _ = tell.send(news);
        if ended {
            return;
        }
    }
}

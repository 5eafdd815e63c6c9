//! Stops the processes of a group that was started under a lease, and never others.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use gpulock_core::{Process, ProcessGroup};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process_group, test_kill_process};
use tokio::time::{sleep, timeout};

use super::group::{has_its_leader, id, invalid, members};
use super::stat::{Stat, number};
use super::watch::DeathWatch;

/// A stopped process acts on SIGTERM only when it continues.
const ASK: &[Signal] = &[Signal::TERM, Signal::CONT];
const FORCE: &[Signal] = &[Signal::KILL];

/// How long after SIGKILL a process may take to vanish. One that hangs inside the kernel,
/// as in a GPU driver, may never do so.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How often to look again for a process that cannot be watched, or that left the group.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Stops a group that the caller started: SIGTERM, SIGKILL after `grace`, and back when
/// all its processes are really gone.
///
/// The caller knows the group to be its own, also after it has reaped the leader: while a
/// member lives, the kernel gives its number to nobody else. (Where `/proc` hides
/// processes, the leader's zombie hides the end of the others: reap it then as it ends.) A
/// future that is dropped leaves the rest running.
///
/// # Errors
///
/// [`StopError`]; in each case some process may still run.
pub async fn stop(group: ProcessGroup, grace: Duration) -> Result<(), StopError> {
    for (signals, patience) in [(ASK, grace), (FORCE, KILL_PATIENCE)] {
        match members(&group) {
            Ok(living) if living.is_empty() => return Ok(()),
            Ok(living) if out_of_reach(&living) => {
                return Err(StopError::NotAllowed(Pids(living)));
            }
            Ok(_) => {}
            // They come and go too fast to be listed. A signal reaches them all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        signal(&group, signals)?;
        if timeout(patience, gone(&group)).await.is_ok() {
            return Ok(());
        }
    }
    match members(&group)? {
        left if left.is_empty() => Ok(()),
        left if out_of_reach(&left) => Err(StopError::NotAllowed(Pids(left))),
        left => Err(StopError::Survived(Pids(left))),
    }
}

/// Why a group was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The processes belong to another user.
    #[error("stop {0}: not allowed to signal them")]
    NotAllowed(Pids),
    /// They outlived SIGKILL.
    #[error("stop {0}: still there after SIGKILL")]
    Survived(Pids),
    /// The group could not be looked at, or is one that is never signalled.
    #[error("stop a process group")]
    Unseen(#[from] io::Error),
}

impl StopError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAllowed(_) => Some("stop them as their own user or as root"),
            Self::Survived(_) => Some(
                "they hang inside the kernel, mostly in a device driver: see `dmesg`; \
                 resetting the GPU or a reboot may be needed",
            ),
            Self::Unseen(_) => None,
        }
    }
}

/// Some processes, shown to people as their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pids(pub Vec<Process>);

impl fmt::Display for Pids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(|one| one.pid.to_string()).collect();
        let noun = if numbers.len() == 1 { "process" } else { "processes" };
        write!(f, "{noun} {}", numbers.join(", "))
    }
}

/// What one step against the group of a dead holder came to. The processes are those
/// that lived before the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressed {
    /// None of its processes lives.
    Gone,
    /// They were signalled; look again.
    Signalled(Vec<Process>),
    /// They belong to another user; nothing was sent.
    NotAllowed(Vec<Process>),
    /// They may be strangers; nothing was sent. All that is left is to wait for them.
    NotSure(Vec<Process>),
}

/// One step on the way to a group's end, for whoever takes a GPU over: SIGTERM while less
/// than `grace` has passed since the group was first asked to stop, SIGKILL after that.
/// It remembers nothing, so that any other process can take the next step.
///
/// The record of a group may be forged by whoever can write to the store. So a signal is
/// sent only where the processes themselves show, by `GPULOCK_LEASE_ID` in the environment
/// that they were started with, that they run under `lease_id`: one is enough while the
/// leader is there (the kernel vouches for the rest), else all. Programs that write over
/// their environment (to change their title) are waited for.
///
/// May block while a member hangs inside the kernel: call it where that does no harm.
///
/// # Errors
///
/// When the group cannot be looked at, or is one that is never signalled.
pub fn press(
    group: &ProcessGroup,
    lease_id: &str,
    since_asked: Duration,
    grace: Duration,
) -> io::Result<Pressed> {
    let living = members(group)?;
    if living.is_empty() {
        return Ok(Pressed::Gone);
    }
    if out_of_reach(&living) {
        return Ok(Pressed::NotAllowed(living));
    }
    let mut shown = living.iter().map(|one| runs_under(*one, lease_id));
    let sure = if has_its_leader(group)? { shown.any(|ours| ours) } else { shown.all(|ours| ours) };
    if !sure {
        return Ok(Pressed::NotSure(living));
    }
    let signals = if since_asked < grace { ASK } else { FORCE };
    signal(group, signals)?;
    Ok(Pressed::Signalled(living))
}

/// Whether the process was started under the lease. What cannot be read proves nothing.
fn runs_under(process: Process, lease_id: &str) -> bool {
    let wanted = format!("GPULOCK_LEASE_ID={lease_id}");
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|one| one == wanted.as_bytes())
}

/// Whether we may signal none of them. (For a group kill(2) also succeeds when the only
/// one that it reached was a zombie.)
fn out_of_reach(processes: &[Process]) -> bool {
    let denied = |one: &Process| number(one.pid).map(test_kill_process) == Some(Err(Errno::PERM));
    processes.iter().all(denied)
}

/// From `/proc`, because our group may lie outside of our PID namespace. It then has the
/// number 0, which rustix does not expect of getpgrp(2).
fn own_group() -> io::Result<Option<u32>> {
    let own = getpid().as_raw_nonzero().get().unsigned_abs();
    Ok(Stat::read(own)?.and_then(|stat| stat.group))
}

fn signal(group: &ProcessGroup, signals: &[Signal]) -> io::Result<()> {
    let id = id(group)?;
    if own_group()? == Some(group.leader.pid) {
        return Err(invalid("signal a process group: this process is in it"));
    }
    for signal in signals {
        match kill_process_group(id, *signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns when no member lives. Members may fork meanwhile, so each death is followed by
/// another look.
async fn gone(group: &ProcessGroup) {
    loop {
        let watch = match members(group) {
            Ok(living) if living.is_empty() => return,
            Ok(living) => DeathWatch::open(living[0]),
            Err(error) => Err(error),
        };
        match watch {
            // Whether it died or left the group, the next look tells.
            Ok(watch) => drop(timeout(LOOK_AGAIN, watch.died()).await),
            // What hinders us may pass, and the caller's patience is bounded.
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::this_process;

    #[test]
    fn our_own_group_is_never_signalled() {
        let leader = Process { pid: own_group().unwrap().unwrap(), start_time: 1 };
        let own = ProcessGroup { leader, session: 1 };
        let error = signal(&own, &[Signal::CONT]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_environment_that_does_not_name_the_lease_proves_nothing() {
        assert!(!runs_under(this_process().unwrap(), "no such lease"));
    }

    #[test]
    fn processes_are_shown_by_their_numbers() {
        let process = |pid| Process { pid, start_time: 7 };
        assert_eq!(Pids(vec![process(5)]).to_string(), "process 5");
        assert_eq!(Pids(vec![process(5), process(8)]).to_string(), "processes 5, 8");
    }
}

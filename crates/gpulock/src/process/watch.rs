//! Sees the death of a process at the moment it happens.

use std::future;
use std::io;
use std::os::fd::OwnedFd;

use gpulock_core::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::standing::is_alive;
use super::stat::number;

/// Watches one process, of any user, until it and all its threads are dead.
#[derive(Debug)]
pub struct DeathWatch {
    /// `None`: it was dead already.
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl DeathWatch {
    /// Begins to watch; a process that is dead already is a success, see [`Self::is_dead`].
    ///
    /// # Errors
    ///
    /// When the kernel has no pidfd (before Linux 5.3), when no file descriptor is left,
    /// or those of [`this_sight`](super::this_sight). The caller then looks now and then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    pub fn open(process: Process) -> io::Result<Self> {
        let opened = number(process.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        // Only now: what lives after the pidfd was opened is what the pidfd refers to.
        if !is_alive(process)? {
            return Ok(Self { pidfd: None });
        }
        let pidfd = opened.transpose()?.map(register).transpose()?;
        Ok(Self { pidfd })
    }

    /// Returns when the process is dead. May be awaited again, and by several.
    pub async fn died(&self) {
        let Some(pidfd) = &self.pidfd else { return };
        while !is_readable(pidfd.get_ref()) {
            match pidfd.readable().await {
                // Readiness is only a hint; the loop asks the kernel.
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is shutting down: that is nobody's death.
                Err(_) => future::pending().await,
            }
        }
    }

    /// Whether the process is dead by now.
    pub fn is_dead(&self) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| is_readable(pidfd.get_ref()))
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors that close too early; an OwnedFd does not"
)]
fn register(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// A pidfd becomes readable when the last thread of its process ended, see pidfd_open(2).
fn is_readable(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec::default();
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::IN)
}

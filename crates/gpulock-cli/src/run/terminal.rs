//! The terminal, lent to the command when it asks for it.
//!
//! The command's process group is not the one that the shell put in the foreground. It
//! starts in the background, so that Ctrl-C reaches both sides of a pipeline as usual
//! (gpulock passes it on), and is given the terminal when the kernel stops it for reading
//! from it or changing it (SIGTTIN, SIGTTOU; see "Job Control" in the POSIX definitions).

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal as Number};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The controlling terminal, if there is one.
#[derive(Debug)]
pub(super) struct Terminal {
    device: Option<File>,
    lent_to: Option<Pid>,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self { device: None, lent_to: None }
    }

    /// Lends the terminal to a group. `false` if it is not ours to lend: this process is
    /// in the background itself, or has no terminal.
    pub(super) fn lend(&mut self, group: Pid) -> bool {
        if self.device.is_none() {
            self.device = File::options().read(true).write(true).open("/dev/tty").ok();
        }
        let Some(device) = &self.device else { return false };
        let in_foreground = tcgetpgrp(device).is_ok_and(|foreground| foreground == getpgrp());
        if in_foreground && set_foreground(device, group) {
            self.lent_to = Some(group);
        }
        self.lent_to == Some(group)
    }

    /// Takes it back.
    pub(super) fn take_back(&mut self) {
        if let (Some(_), Some(device)) = (self.lent_to.take(), &self.device) {
            set_foreground(device, getpgrp());
        }
    }

    /// Whether the command has it.
    pub(super) fn is_lent(&self) -> bool {
        self.lent_to.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// A background process that changes the foreground group is stopped by SIGTTOU unless it
/// blocks that signal.
fn set_foreground(device: impl AsFd, group: Pid) -> bool {
    let mut blocked = SigSet::empty();
    blocked.add(Number::SIGTTOU);
    let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    let done = tcsetpgrp(device, group).is_ok();
    if let Ok(before) = before {
        // It was the mask a moment ago, so it can be set again.
        let _ = before.thread_set_mask();
    }
    done
}

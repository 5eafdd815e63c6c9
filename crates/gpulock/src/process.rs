//! What the kernel says about the processes that use a GPU: who this process is, whether
//! another one still lives, when it dies, and how to stop what it started. Linux only.
//!
//! Everything here rests on two promises of the kernel. A process id together with its
//! start time names one process for ever. And a number is not given to a new process
//! while a process, a group or a session of that number still exists.

mod group;
mod identity;
mod standing;
mod stat;
mod stop;
mod watch;

pub use group::{led_by, members};
#[cfg(feature = "sqlite")]
pub(crate) use identity::boot_id;
pub use identity::{find, host, this_owner, this_process, this_sight};
pub use standing::{Processes, look, rebooted_since};
pub use stop::{Pids, Pressed, StopError, press, stop};
pub use watch::DeathWatch;

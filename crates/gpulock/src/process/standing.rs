//! Evidence about the processes of a lease: do they still live?

use std::io;

use gpulock_core::{Owner, Process, ProcessGroup};

use super::group::members;
use super::identity::{boot_id, host, this_sight};
use super::stat::Stat;

/// What is known of the processes that a lease lets use its GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// The process that took the lease lives.
    pub holder_alive: bool,
    /// A process of the command that it started lives; `false` if it started none.
    pub group_alive: bool,
}

/// Looks at the processes of a lease; `None` when nothing can be known from here.
///
/// A process is gone when its number is free, when the number belongs to a process with
/// another start time, or when none of its threads runs any more (a zombie). What left
/// the group (a daemon with its own session) is not looked at.
///
/// An inode number of a PID namespace can return within one boot, but only after all
/// processes of the first namespace died; so it deceives nobody.
pub fn look(owner: &Owner, group: Option<&ProcessGroup>) -> Option<Processes> {
    let own = owner.process.as_ref()?;
    if own.sight != *this_sight().ok()? {
        return None;
    }
    Some(Processes {
        holder_alive: is_alive(own.process).ok()?,
        group_alive: group.map_or(Ok(false), is_group_alive).ok()?,
    })
}

/// Whether the owner ran before the latest boot of this host, so that it is surely dead.
///
/// Holds only where both are known to be on one machine, as for a store in a file of this
/// host: elsewhere two machines may bear one name.
pub fn rebooted_since(owner: &Owner) -> bool {
    let Some(sight) = owner.sight() else {
        return false;
    };
    !owner.is_remote && owner.host == host() && boot_id().is_ok_and(|now| now != sight.boot_id)
}

/// Whether a thread of exactly this process runs.
pub(super) fn is_alive(process: Process) -> io::Result<bool> {
    match Stat::read(process.pid)? {
        Some(stat) if stat.start_time == process.start_time => stat.lives(process.pid),
        Some(_) | None => Ok(false),
    }
}

fn is_group_alive(group: &ProcessGroup) -> io::Result<bool> {
    // The leader alone spares the walk through all processes.
    Ok(is_alive(group.leader)? || !members(group)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::this_owner;

    #[test]
    fn a_holder_without_a_command_has_no_living_group() {
        let expected = Processes { holder_alive: true, group_alive: false };
        assert_eq!(look(&this_owner("test"), None), Some(expected));
    }

    #[test]
    fn nothing_is_known_of_an_owner_elsewhere_or_unseen() {
        let mut owner = this_owner("test");
        owner.process.as_mut().unwrap().sight.pid_namespace += 1;
        assert_eq!(look(&owner, None), None);
        owner.process = None;
        assert_eq!(look(&owner, None), None);
        assert!(!rebooted_since(&owner));
    }

    #[test]
    fn only_another_boot_of_the_same_host_is_a_reboot() {
        let mut owner = this_owner("test");
        assert!(!rebooted_since(&owner));
        owner.process.as_mut().unwrap().sight.boot_id = "an earlier one".into();
        assert!(rebooted_since(&owner));
        owner.is_remote = true;
        assert!(!rebooted_since(&owner), "another host may have the same name");
        owner.is_remote = false;
        owner.host.push('x');
        assert!(!rebooted_since(&owner));
    }
}

//! Which processes belong to a group that was started under a lease.

use std::fs;
use std::io;

use gpulock_core::{Process, ProcessGroup};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};

use super::stat::{Stat, number};

/// How often a group that seems to be empty is looked through before we give up.
const SCANS: usize = 20;

/// The group whose first process is `pid`.
///
/// # Errors
///
/// When there is no such process, or when it does not lead a group.
pub fn led_by(pid: u32) -> io::Result<ProcessGroup> {
    match Stat::read(pid)? {
        Some(stat) if stat.group == Some(pid) => Ok(ProcessGroup {
            leader: Process { pid, start_time: stat.start_time },
            session: stat.session,
        }),
        Some(_) => Err(invalid(format!("find a process group: process {pid} leads none"))),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("find process {pid}"))),
    }
}

/// The living processes of the group, by pid. Some that are just forking may be missing,
/// but a group with a living process is never taken for an empty one.
///
/// # Errors
///
/// When `/proc` cannot be read or hides processes that may be members, and `WouldBlock`
/// when processes come and go too fast to tell: look again later.
pub fn members(group: &ProcessGroup) -> io::Result<Vec<Process>> {
    let id = id(group)?;
    let mut ended_before = None;
    for _ in 0..SCANS {
        if number_was_given_again(group)? || test_kill_process_group(id) == Err(Errno::SRCH) {
            return Ok(Vec::new());
        }
        // What is left are zombies, or members that forked and ended under our eyes.
        let seen = Scan::of(group)?;
        if !seen.living.is_empty() {
            return Ok(seen.living);
        }
        if seen.is_hindered || hides_processes()? {
            let text = "see the members of a process group: /proc hides processes";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        // Whoever lived when this scan began was met dead, or not at all.
        if !seen.is_blurred && ended_before.as_ref() == Some(&seen.ended) {
            return Ok(Vec::new());
        }
        ended_before = Some(seen.ended);
    }
    let text = "see the members of a process group: processes come and go too fast";
    Err(io::Error::new(io::ErrorKind::WouldBlock, text))
}

/// Whether the leader is there, be it as a zombie. Then the group of its number is the
/// one that it founded: only a process of that number can found another.
pub(super) fn has_its_leader(group: &ProcessGroup) -> io::Result<bool> {
    let leader = Stat::read(group.leader.pid)?;
    Ok(leader.is_some_and(|leader| leader.start_time == group.leader.start_time))
}

/// The group's number. 0 and 1 have a meaning of their own in kill(2): "my group" and
/// "everybody".
pub(super) fn id(group: &ProcessGroup) -> io::Result<Pid> {
    number(group.leader.pid)
        .filter(|pid| !pid.is_init())
        .ok_or_else(|| invalid(format!("{} is no number of a process group", group.leader.pid)))
}

/// The members that one walk through `/proc` met.
#[derive(Default)]
struct Scan {
    living: Vec<Process>,
    /// Zombies.
    ended: Vec<Process>,
    /// A process was gone before it could be read. It may have been a member, with a child
    /// that is too young for this walk.
    is_blurred: bool,
    /// A process could not be read.
    is_hindered: bool,
}

impl Scan {
    fn of(group: &ProcessGroup) -> io::Result<Self> {
        let mut scan = Self::default();
        let names = fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        let mut pids: Vec<u32> =
            names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        // The youngest first, which are the likeliest to end before they are read.
        pids.sort_unstable_by(|a, b| b.cmp(a));
        for pid in pids {
            match Stat::read(pid) {
                Ok(Some(stat)) => scan.meet(pid, &stat, group)?,
                Ok(None) => scan.is_blurred = true,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    scan.is_hindered = true;
                }
                Err(error) => return Err(error),
            }
        }
        scan.living.reverse();
        Ok(scan)
    }

    fn meet(&mut self, pid: u32, stat: &Stat, group: &ProcessGroup) -> io::Result<()> {
        self.is_blurred |= stat.group.is_none();
        if belongs(stat, group)? {
            let side = if stat.lives(pid)? { &mut self.living } else { &mut self.ended };
            side.push(Process { pid, start_time: stat.start_time });
        }
        Ok(())
    }
}

/// The kernel gives no process the number of a group that still exists. So another
/// process with the leader's number means that the group is gone.
fn number_was_given_again(group: &ProcessGroup) -> io::Result<bool> {
    let leader = Stat::read(group.leader.pid)?;
    Ok(leader.is_some_and(|leader| leader.start_time != group.leader.start_time))
}

/// Without its leader the group's number could have served twice: then the session and
/// the age tell the two apart.
fn belongs(stat: &Stat, group: &ProcessGroup) -> io::Result<bool> {
    if stat.group != Some(group.leader.pid) {
        return Ok(false);
    }
    let descends = stat.session == group.session && stat.start_time >= group.leader.start_time;
    Ok(descends || has_its_leader(group)?)
}

/// Whether `/proc` may keep processes of other users from us: mount option `hidepid` of
/// proc(5). The last mount on a place is the one that is seen.
fn hides_processes() -> io::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut on_proc = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/proc"));
    Ok(on_proc.next_back().is_some_and(|line| line.contains("hidepid=")))
}

pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(pid: u32) -> ProcessGroup {
        ProcessGroup { leader: Process { pid, start_time: 1 }, session: 1 }
    }

    #[test]
    fn numbers_with_another_meaning_are_no_group() {
        for pid in [0, 1, u32::MAX] {
            let error = members(&group_of(pid)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{pid}");
        }
    }
}

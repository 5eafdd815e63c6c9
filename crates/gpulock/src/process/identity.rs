//! Who this process is, in terms that another process can check.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use gpulock_core::{OwnProcess, Owner, Process, Sight};
use rustix::process::{getpid, getuid};
use rustix::system::uname;

use super::stat::Stat;

/// From where this process sees others.
///
/// # Errors
///
/// When `/proc` cannot be trusted about process ids and start times: it is not mounted,
/// it shows another PID namespace (a container without a `/proc` of its own), or a time
/// namespace shifts the start times that we read. Then only heartbeats decide.
pub fn this_sight() -> io::Result<&'static Sight> {
    static SIGHT: OnceLock<Sight> = OnceLock::new();
    if let Some(sight) = SIGHT.get() {
        return Ok(sight);
    }
    require_own_pid_namespace()?;
    require_unshifted_time()?;
    let sight =
        Sight { boot_id: boot_id()?, pid_namespace: fs::metadata("/proc/self/ns/pid")?.ino() };
    Ok(SIGHT.get_or_init(|| sight))
}

/// This process. Read anew each time, because a fork makes it another one.
///
/// # Errors
///
/// Those of [`this_sight`].
pub fn this_process() -> io::Result<Process> {
    let pid = getpid().as_raw_nonzero().get().unsigned_abs();
    find(pid)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "find this process in /proc"))
}

/// The process that has the number `pid` now, be it a zombie; `None` when there is none.
///
/// # Errors
///
/// Those of [`this_sight`], and `PermissionDenied` for a process that `/proc` hides.
pub fn find(pid: u32) -> io::Result<Option<Process>> {
    Ok(Stat::read(pid)?.map(|stat| Process { pid, start_time: stat.start_time }))
}

/// This process as the owner of a lease; `client` is the name and version of its program.
///
/// The owner has no `process` where [`this_sight`] fails.
pub fn this_owner(client: &str) -> Owner {
    let process = this_sight()
        .and_then(|sight| Ok(OwnProcess { sight: sight.clone(), process: this_process()? }))
        .ok();
    Owner {
        host: host(),
        client: client.to_owned(),
        user: user(),
        process,
        run: None,
        is_remote: false,
    }
}

/// The host's name, for people.
pub fn host() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Which boot of the kernel this is.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn user() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| getuid().as_raw().to_string())
}

/// `NSpid` lists this process's number in every namespace from that of `/proc` down to
/// its own: with one entry the two are the same. Comparing numbers alone would be
/// deceived where a process has the same number in both.
fn require_own_pid_namespace() -> io::Result<()> {
    let own = getpid().as_raw_nonzero().to_string();
    let shown = fs::read_link("/proc/self")?;
    let status = fs::read_to_string("/proc/self/status")?;
    let levels = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        // A kernel without PID namespaces has no such line.
        .map_or(1, |pids| pids.split_ascii_whitespace().count());
    if shown.as_os_str() == own.as_str() && levels == 1 {
        return Ok(());
    }
    Err(io::Error::other("trust /proc: it shows another PID namespace"))
}

/// Start times are counted from the boot *of the reader's time namespace*, see
/// time_namespaces(7).
fn require_unshifted_time() -> io::Result<()> {
    let offsets = match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(offsets) => offsets,
        // A kernel without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let shift = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
    if shift.is_none_or(|shift| shift.split_ascii_whitespace().all(|part| part == "0")) {
        return Ok(());
    }
    Err(io::Error::other("trust /proc: a time namespace shifts the start times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_under_its_own_number() {
        let own = this_process().unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.start_time > 0);
        assert_eq!(find(own.pid).unwrap(), Some(own));
    }

    #[test]
    fn an_owner_names_its_process_and_people_names() {
        let owner = this_owner("test 1.0");
        assert_eq!(owner.client, "test 1.0");
        assert!(!owner.host.is_empty() && !owner.user.is_empty());
        assert_eq!(owner.sight(), Some(this_sight().unwrap()));
        assert_eq!(owner.process.unwrap().process, this_process().unwrap());
    }

    #[test]
    fn a_sight_has_the_form_of_a_boot_id_and_a_namespace() {
        let sight = this_sight().unwrap();
        assert_eq!(sight.boot_id.len(), 36, "{sight:?}");
        assert!(sight.pid_namespace > 0);
    }
}

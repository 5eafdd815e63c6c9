//! Reads `/proc/PID/stat`, described in proc(5).

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::identity::this_sight;

/// One process or thread, as the kernel shows it at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    state: u8,
    /// `None` while the kernel takes the process apart.
    pub(super) group: Option<u32>,
    pub(super) session: u32,
    /// Clock ticks since boot.
    pub(super) start_time: u64,
}

impl Stat {
    /// `None` when nothing has this number.
    ///
    /// # Errors
    ///
    /// When this process cannot see its own PID namespace in `/proc`, or when `/proc`
    /// hides this process from us: neither may be taken for its death.
    pub(super) fn read(pid: u32) -> io::Result<Option<Self>> {
        this_sight()?;
        // The second time for a number that was given to a new process in between.
        for _ in 0..2 {
            match fs::read(format!("/proc/{pid}/stat")) {
                Ok(text) => return Self::parse(&text).map(Some).ok_or_else(|| unreadable(pid)),
                Err(error) if !is_missing(&error) => return Err(error),
                Err(_) if !exists(pid) => return Ok(None),
                Err(_) => {}
            }
        }
        let text = format!("see process {pid}: /proc hides it (mount option hidepid)");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// Whether a thread of the process still runs. Its first thread may have ended
    /// alone; the process then looks like a zombie while the others go on.
    pub(super) fn lives(&self, pid: u32) -> io::Result<bool> {
        if !self.is_over() {
            return Ok(true);
        }
        let tasks = match fs::read_dir(format!("/proc/{pid}/task")) {
            Ok(tasks) => tasks,
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        for task in tasks {
            let text = task.and_then(|task| fs::read(task.path().join("stat")));
            match text {
                Ok(text) if Self::parse(&text).is_some_and(|thread| !thread.is_over()) => {
                    return Ok(true);
                }
                Err(error) if !is_missing(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(false)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The second field is the program's own choice and may hold spaces, line ends and
    /// parentheses; all that follows its last parenthesis is written by the kernel.
    fn parse(text: &[u8]) -> Option<Self> {
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        // -1 while the process is taken apart.
        let id = |number| field(number)?.parse().ok().map(|id: i32| u32::try_from(id).ok());
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            group: id(5)?,
            session: id(6)?.unwrap_or(0),
            start_time: field(22)?.parse().ok()?,
        })
    }
}

/// A number that the kernel could have given; `None` for 0 and what is too large.
pub(super) fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Asks without `/proc`: a process that is there but not ours answers `EPERM`.
fn exists(pid: u32) -> bool {
    number(pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// A process may be gone when its file is opened (`ENOENT`) or when it is read (`ESRCH`).
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

fn unreadable(pid: u32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("understand /proc/{pid}/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Vec<u8> {
        format!("42 ({name}) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 11 12\n").into()
    }

    #[test]
    fn the_name_of_a_program_cannot_pass_for_other_fields() {
        let expected = Stat { state: b'S', group: Some(40), session: 39, start_time: 987_654 };
        for name in ["cat", "a b", ") Z 1 1 1", "((", "))) (", "x\n) R 7", ""] {
            assert_eq!(Stat::parse(&line(name)), Some(expected), "{name:?}");
        }
        let mut not_text = line("?");
        not_text[4] = 0xff;
        assert_eq!(Stat::parse(&not_text), Some(expected));
    }

    #[test]
    fn a_process_being_taken_apart_belongs_to_no_group() {
        let text = String::from_utf8(line("x")).unwrap().replace("S 1 40 39", "X 0 -1 -1");
        let stat = Stat::parse(text.as_bytes()).unwrap();
        assert_eq!((stat.group, stat.is_over()), (None, true));
    }

    #[test]
    fn a_cut_off_line_is_not_understood() {
        let whole = line("x");
        let start_time = whole.windows(6).position(|six| six == b"987654").unwrap();
        for end in 0..start_time {
            assert_eq!(Stat::parse(&whole[..end]), None);
        }
    }

    #[test]
    fn numbers_that_no_process_can_have_are_free() {
        for pid in [0, i32::MAX.unsigned_abs(), u32::MAX] {
            assert_eq!(Stat::read(pid).unwrap(), None);
        }
    }
}

//! A file of JSON lines.
//!
//! A message is one line: when it was written, its title, and the body that Alertmanager sends to
//! webhooks. Several processes may write one file and let it roll over: whoever writes holds the lock
//! of the file (flock) and looks whether it still has its name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::Around;
use crate::channel::{Channel, Failure, Message, Reason};
use crate::notification::{Notification, timestamp};
use crate::text::Markup;

/// Between two attempts to lock a file that another process is writing.
const PAUSE: Duration = Duration::from_millis(10);

/// How many older files can be kept.
const MOST_KEPT: u32 = 1_000;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file; its folder must be there.
    path: PathBuf,
    /// At how many bytes the file rolls over to `path.1`; 0: never, then logrotate may move it.
    #[serde(default = "ten_mebibytes")]
    max_bytes: u64,
    /// How many older files are kept, `path.1` being the youngest.
    #[serde(default = "five")]
    keep: u32,
    /// Whether a line counts as written only when the disk has it.
    #[serde(default)]
    fsync: bool,
}

const fn ten_mebibytes() -> u64 {
    10 * 1024 * 1024
}

const fn five() -> u32 {
    5
}

impl Settings {
    /// Looks at the path. The file is opened anew for each line.
    ///
    /// # Errors
    /// If no file can be there.
    pub fn open(&self, _around: &Around) -> Result<Lines, String> {
        let shown = self.path.display();
        if !self.path.is_absolute() {
            return Err(format!("`path: {shown}` is not absolute; begin it with `/`"));
        }
        if self.path.is_dir() {
            return Err(format!("{shown} is a folder; name a file in it"));
        }
        let folder = self.path.parent().filter(|folder| folder.is_dir());
        if folder.is_none() || self.path.file_name().is_none() {
            return Err(format!("{shown} cannot be written, its folder is not there; create it"));
        }
        if self.keep > MOST_KEPT {
            return Err(format!("`keep: {}` is more than {MOST_KEPT}", self.keep));
        }
        Ok(Lines { settings: self.clone() })
    }
}

/// A file of JSON lines.
#[derive(Clone, Debug)]
pub struct Lines {
    settings: Settings,
}

#[async_trait]
impl Channel for Lines {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let path = self.settings.path.display();
            Failure::new(Reason::Local, format!("{path} cannot be written: {error}"))
        };
        let line = line_of(message).map_err(|error| failed(error.into()))?;
        loop {
            let (settings, line) = (self.settings.clone(), line.clone());
            let attempt = tokio::task::spawn_blocking(move || settings.append(&line));
            let attempt = attempt.await.map_err(|error| failed(io::Error::other(error)))?;
            match attempt.map_err(failed)? {
                Attempt::Written => return Ok(()),
                Attempt::Moved => {}
                Attempt::Busy => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The fields of a line, in their order.
#[derive(Serialize)]
struct Line<'m> {
    time: String,
    title: &'m str,
    #[serde(flatten)]
    notification: &'m Notification,
}

fn line_of(message: &Message<'_>) -> serde_json::Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = now.unwrap_or_default().as_micros().try_into().unwrap_or(u64::MAX);
    let line = serde_json::to_string(&Line {
        time: timestamp(gpulock::core::Time::from_micros(micros)),
        title: &message.text.title,
        notification: message.notification,
    })?;
    Ok(line + "\n")
}

/// What became of an attempt to append a line.
enum Attempt {
    Written,
    /// The file no longer has its name: open the new one.
    Moved,
    /// Another process holds its lock.
    Busy,
}

impl Settings {
    fn append(&self, line: &str) -> io::Result<Attempt> {
        let is_new = !self.path.exists();
        // Without NONBLOCK a pipe of that name would keep us waiting for its reader.
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (found.dev(), found.ino()) => {}
            Ok(_) => return Ok(Attempt::Moved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attempt::Moved),
            Err(error) => return Err(error),
        }
        let length = file.metadata()?.len();
        let is_full = self.max_bytes > 0 && length + line.len() as u64 > self.max_bytes;
        if is_full && length > 0 {
            match self.roll_over() {
                Ok(()) => return Ok(Attempt::Moved),
                // A file that is too long is better than an alert that is lost.
                Err(error) => tracing::warn!("{} cannot roll over: {error}", self.path.display()),
            }
        }
        write_whole(&file, length, line)?;
        if self.fsync {
            file.sync_data()?;
            if let (true, Some(folder)) = (is_new, self.path.parent()) {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(Attempt::Written)
    }

    /// Gives each file the name of the next older one. The caller holds the lock of the youngest,
    /// which loses its name last: until then nobody else gets to work here.
    fn roll_over(&self) -> io::Result<()> {
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.older(1))
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        Path::new(&name).to_owned()
    }
}

/// Appends a line in one write, on a line of its own even if somebody's last line is not whole. Where
/// the disk is full nothing of it stays.
fn write_whole(mut file: &File, length: u64, line: &str) -> io::Result<()> {
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    let text = if last == [b'\n'] { line.to_owned() } else { format!("\n{line}") };
    let written = file.write(text.as_bytes())?;
    if written == text.len() {
        return Ok(());
    }
    // Somebody who does not lock may have written behind it.
    if file.metadata()?.len() == length + written as u64 {
        file.set_len(length)?;
    }
    Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"))
}

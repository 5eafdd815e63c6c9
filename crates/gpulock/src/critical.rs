//! The critical failure log: a JSON line for every release that could not be confirmed. The Python
//! package writes the same lines (`gpulock/critical.py`).

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::process;

/// A release that could not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriticalFailure {
    /// The GPUs of the lease by their older names, with commas between them.
    pub lock_key: String,
    /// What the work is called.
    pub task: String,
    /// Which lease.
    pub lease_id: String,
    /// Its fencing token.
    pub token: u64,
    /// Why the release could not be confirmed.
    pub error: String,
    /// How the program came there; empty if it does not know.
    pub traceback: String,
}

/// Appends a record to the log `log`, in one write. Where that cannot be written, the record goes to
/// `critical_failures.jsonl` in the user's state folder. The file that has it comes back.
///
/// # Errors
/// If neither file can be written.
pub fn write_down(log: &Path, record: &CriticalFailure) -> io::Result<PathBuf> {
    let line = line_of(record)?;
    let Err(error) = append(log, &line) else { return Ok(log.to_owned()) };
    let said = |file: &Path, error: &io::Error| format!("{}: {error}", file.display());
    let Some(own) = own_log() else {
        return Err(io::Error::new(error.kind(), said(log, &error)));
    };
    match append(&own, &line) {
        Ok(()) => Ok(own),
        Err(again) => {
            let text = format!("{}; {}", said(log, &error), said(&own, &again));
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// The fields of a line, in their order.
#[derive(Serialize)]
struct Line<'r> {
    time: String,
    host: String,
    pid: u32,
    lock_key: &'r str,
    task: &'r str,
    lease_id: &'r str,
    token: u64,
    error: &'r str,
    traceback: &'r str,
}

fn line_of(record: &CriticalFailure) -> io::Result<String> {
    let line = serde_json::to_string(&Line {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string(),
        host: process::host(),
        pid: std::process::id(),
        lock_key: &record.lock_key,
        task: &record.task,
        lease_id: &record.lease_id,
        token: record.token,
        error: &record.error,
        traceback: &record.traceback,
    })?;
    Ok(line + "\n")
}

/// The log in the user's state folder.
fn own_log() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|folder| folder.is_absolute()).or_else(|| {
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        Some(home.join(".local/state"))
    })?;
    Some(state.join("gpulock/critical_failures.jsonl"))
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    match opened.write(line.as_bytes())? {
        written if written == line.len() => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::StorageFull, "only a part was written")),
    }
}

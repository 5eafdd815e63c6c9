//! The embedded store: one SQLite file that all processes of a host share, no daemon.
//!
//! - **Atomic.** A step is one `BEGIN IMMEDIATE` transaction in WAL mode.
//! - **Its clock** is the host's, set at the first use after a boot and driven by
//!   `CLOCK_BOOTTIME` from then on: when somebody sets the wall clock, no lease expires
//!   early and none lives on.
//! - **Wake-ups** are datagrams to abstract Unix sockets: no files to clean up, no rights
//!   to give. Processes in another network namespace do not hear them and poll instead.
//! - **Damage is refused.** The file is checked before it is opened, and one that was
//!   replaced under a running process is noticed within a moment.

mod documents;
mod file;
mod journal;
mod rows;
mod tasks;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use gpulock_core::{
    Channel, LeaseId, PoolName, TaskBeat, TaskName, TaskRecord, Time, Waiter, Wake,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use self::rows::Transaction;
use super::{
    Cursor, DocumentName, DocumentNews, DocumentSwap, Entry, Followed, Letter, Mailbox, Remark,
    Scope, Store, StoreError, Swapped, View, Wanted, Write, document, letter, send_letters,
};
use crate::clock::{BootTime, wall_time};
use crate::process;

/// How long a look at the file's identity is good for, in microseconds.
const SAME_FILE_FOR: u64 = 50_000;

/// So many steps make a connection one that writes often.
const WRITES_OFTEN: u64 = 100;

/// What the addresses of mailboxes begin with.
const SOCKETS: &str = "gpulock-";

/// Keeps pools in one database file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// Device and inode of the file when it was opened.
    identity: Option<(u64, u64)>,
    /// When that was last looked at, in microseconds since boot.
    same_file_at: AtomicU64,
    /// Steps that were written through this connection.
    writes: AtomicU64,
    file: Mutex<OpenFile>,
    /// It may be used again.
    goes_on: Condvar,
    /// What to add to the time since boot, in microseconds.
    clock_offset: i64,
    post: UnixDatagram,
}

/// The file as this process has it.
///
/// SQLite keeps in the memory of a process which locks it holds on a file. A child inherits
/// that memory but not the locks, so no connection may be open during a fork.
/// See <https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_>.
#[derive(Debug)]
enum OpenFile {
    Open(Connection),
    /// Closed while this process forks.
    Still,
    /// Closed until it is needed.
    Closed,
}

impl SqliteStore {
    /// Opens the store at `path`. If there is no such file it is created, with the rights
    /// that the folder grants: whoever may create files in it may use the store.
    ///
    /// # Errors
    /// A file that is damaged, belongs to another program or was written by a newer
    /// gpulock is refused and left as it is; so is a folder that may not be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = file::open(path)?;
        let clock_offset = set_clock(&connection).map_err(|e| failed(path, e))?;
        let post = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Ok(Self {
            identity: file::identity(path),
            same_file_at: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            file: Mutex::new(OpenFile::Open(connection)),
            goes_on: Condvar::new(),
            clock_offset,
            post: post.map_err(|error| unavailable(path, &error))?,
            path: path.to_owned(),
        })
    }

    /// Reads the whole file and says what is wrong with it, if anything.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with SQLite's finding.
    pub fn check_integrity(&self) -> Result<(), StoreError> {
        let finding: String = self.ask(|connection| {
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        })?;
        match finding.as_str() {
            "ok" => Ok(()),
            _ => {
                let reason = finding.lines().last().unwrap_or_default().to_owned();
                Err(StoreError::Damaged { place: place_of(&self.path), reason })
            }
        }
    }

    fn ask<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.require_same_file()?;
        let mut file = self.lock();
        while matches!(*file, OpenFile::Still) {
            file = self.goes_on.wait(file).unwrap_or_else(PoisonError::into_inner);
        }
        if matches!(*file, OpenFile::Closed) {
            self.same_file_at.store(0, Ordering::Relaxed);
            self.require_same_file()?;
            *file = OpenFile::Open(file::open(&self.path)?);
        }
        match &*file {
            OpenFile::Open(connection) => query(connection).map_err(|e| failed(&self.path, e)),
            OpenFile::Still | OpenFile::Closed => unreachable!("it was opened above"),
        }
    }

    /// Looks from time to time whether the file is still the one that was opened.
    fn require_same_file(&self) -> Result<(), StoreError> {
        let now = since_boot();
        if now < self.same_file_at.load(Ordering::Relaxed) + SAME_FILE_FOR {
            return Ok(());
        }
        if file::identity(&self.path) != self.identity {
            return Err(StoreError::Replaced(self.path.clone()));
        }
        self.same_file_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, OpenFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::from_micros(since_boot().saturating_add_signed(self.clock_offset))
    }

    fn send(&self, wake: &[Wake]) {
        send_letters(wake, |channel, letter| {
            if let Ok(address) = SocketAddr::from_abstract_name(&channel.0) {
                // A closed mailbox belongs to a process that is gone, a full one is awake.
                let _ = self.post.send_to_addr(letter.as_bytes(), &address);
            }
        });
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn read(&self, pool: &PoolName, asking: Option<LeaseId>) -> Result<View, StoreError> {
        self.ask(|connection| {
            let transaction = Transaction::read(connection)?;
            let mut view = rows::view(connection, pool, asking, || self.now())?;
            transaction.commit()?;
            if let Some(asking) = asking {
                rows::stamp(connection, pool, asking, &mut view)?;
            }
            Ok(view)
        })
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swapped, StoreError> {
        let swapped = self.ask(|connection| {
            let transaction = Transaction::write(connection)?;
            let now = self.now();
            if write.is_in_time(now) && rows::write(connection, &write, now)? {
                transaction.commit()?;
                if self.writes.fetch_add(1, Ordering::Relaxed) == WRITES_OFTEN {
                    file::lengthen_log(connection)?;
                }
                let versions = write.expected.after(&write.step.changes);
                return Ok(Swapped::Written { versions, now });
            }
            let view = rows::view(connection, write.pool, write.asking, || self.now())?;
            Ok(Swapped::Conflict(Box::new(view)))
        })?;
        if matches!(swapped, Swapped::Written { .. }) {
            self.send(&write.step.wake);
        }
        Ok(swapped)
    }

    async fn open_mailbox(&self) -> Result<Box<dyn Mailbox>, StoreError> {
        let name = format!("{SOCKETS}{}-{:016x}", std::process::id(), fastrand::u64(..));
        Ok(Box::new(SocketMailbox::open(Channel(name), &self.path)?))
    }

    async fn reopen_mailbox(&self, channel: &Channel) -> Result<Box<dyn Mailbox>, StoreError> {
        match channel.0.starts_with(SOCKETS) {
            true => Ok(Box::new(SocketMailbox::open(channel.clone(), &self.path)?)),
            false => self.open_mailbox().await,
        }
    }

    async fn waiters(&self, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>, StoreError> {
        self.ask(|connection| rows::waiters(connection, pool, limit))
    }

    async fn history(&self, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        self.ask(|connection| journal::history(connection, pool, wanted))
    }

    async fn follow(
        &self,
        pool: &PoolName,
        after: Cursor,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        self.ask(|connection| {
            let transaction = Transaction::read(connection)?;
            let followed = journal::follow(connection, pool, after, limit)?;
            transaction.commit()?;
            Ok(followed)
        })
    }

    async fn put_task(&self, pool: &PoolName, beat: &TaskBeat) -> Result<TaskRecord, StoreError> {
        self.ask(|connection| {
            let transaction = Transaction::write(connection)?;
            let record = tasks::put(connection, pool, beat, self.now())?;
            transaction.commit()?;
            Ok(record)
        })
    }

    async fn tasks(&self, pool: &PoolName) -> Result<Vec<TaskRecord>, StoreError> {
        self.ask(|connection| tasks::all(connection, pool))
    }

    async fn remove_task(&self, pool: &PoolName, task_id: &TaskName) -> Result<bool, StoreError> {
        self.ask(|connection| tasks::remove(connection, pool, task_id))
    }

    async fn document_since(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        self.ask(|connection| documents::since(connection, name, known, || self.now()))
    }

    async fn swap_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        document::require_fits(name, text)?;
        self.ask(|connection| {
            let transaction = Transaction::write(connection)?;
            let swap = documents::swap(connection, name, expected, text, self.now())?;
            transaction.commit()?;
            Ok(swap)
        })
    }

    async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        self.ask(rows::pools)
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn hold_still(&self) {
        *self.lock() = OpenFile::Still;
    }

    fn go_on(&self) {
        *self.lock() = OpenFile::Closed;
        self.goes_on.notify_all();
    }

    async fn examine(&self) -> Vec<Remark> {
        let size = std::fs::metadata(&self.path).map(|meta| meta.len()).unwrap_or_default();
        vec![match self.check_integrity() {
            Ok(()) => {
                Remark::good("integrity", format!("the file is whole, {} KiB", size.div_ceil(1024)))
            }
            Err(error) => {
                let remark = Remark::bad("integrity", error.to_string());
                match error.hint() {
                    Some(hint) => remark.hint(hint),
                    None => remark,
                }
            }
        }]
    }
}

#[derive(Debug)]
struct SocketMailbox {
    channel: Channel,
    socket: tokio::net::UnixDatagram,
    path: PathBuf,
}

impl SocketMailbox {
    fn open(channel: Channel, path: &Path) -> Result<Self, StoreError> {
        let socket = SocketAddr::from_abstract_name(&channel.0)
            .and_then(|address| UnixDatagram::bind_addr(&address))
            .and_then(|socket| {
                socket.set_nonblocking(true)?;
                tokio::net::UnixDatagram::from_std(socket)
            })
            .map_err(|error| unavailable(path, &error))?;
        Ok(Self { channel, socket, path: path.to_owned() })
    }
}

#[async_trait]
impl Mailbox for SocketMailbox {
    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn next(&mut self) -> Result<Letter, StoreError> {
        let mut text = [0; letter::MAX_LEN];
        loop {
            let received = self.socket.recv(&mut text).await;
            let length = received.map_err(|error| unavailable(&self.path, &error))?;
            if let Some(letter) = letter::read(&text[..length]) {
                return Ok(letter);
            }
        }
    }
}

/// The offset of the store's clock for this boot. The first process after a boot sets it.
fn set_clock(connection: &Connection) -> rusqlite::Result<i64> {
    let boot_id = process::boot_id().unwrap_or_default();
    let known = connection
        .prepare_cached("SELECT offset FROM clock WHERE boot_id = ?1")?
        .query_row([&boot_id], |row| row.get(0))
        .optional()?;
    if let Some(offset) = known {
        return Ok(offset);
    }
    let offset = wall_time().as_micros() as i64 - since_boot() as i64;
    let transaction = Transaction::write(connection)?;
    connection.execute(
        "INSERT OR IGNORE INTO clock (boot_id, offset) VALUES (?1, ?2)",
        params![boot_id, offset],
    )?;
    connection.execute("DELETE FROM clock WHERE boot_id <> ?1", [&boot_id])?;
    let agreed =
        connection.query_row("SELECT offset FROM clock WHERE boot_id = ?1", [&boot_id], |row| {
            row.get(0)
        })?;
    transaction.commit()?;
    Ok(agreed)
}

fn since_boot() -> u64 {
    u64::try_from(BootTime::now().since_boot().as_micros()).unwrap_or(u64::MAX)
}

fn place_of(path: &Path) -> String {
    path.display().to_string()
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { place: place_of(path), reason: error.to_string() }
}

/// SQLite's error by what it means for the caller.
fn failed(path: &Path, error: rusqlite::Error) -> StoreError {
    let place = place_of(path);
    let reason = match &error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    let denied =
        |reason: &str| StoreError::NotWritable { place: place.clone(), reason: reason.to_owned() };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(place),
        Some(ErrorCode::DiskFull) => StoreError::Full(place),
        Some(ErrorCode::ReadOnly) => denied("the file or its folder is read-only"),
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            denied("SQLite cannot open it and the files beside it")
        }
        // It was known for one of ours before SQLite opened it, so a file, a table or a
        // statement that SQLite does not understand has been damaged.
        Some(
            ErrorCode::NotADatabase
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::SchemaChanged
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::Unknown,
        ) => StoreError::Damaged { place, reason },
        Some(_) => StoreError::Unavailable { place, reason },
        // A row or a table is not what this program writes.
        None => StoreError::Damaged { place, reason },
    }
}

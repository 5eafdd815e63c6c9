//! The database file: found, created or refused, and never replaced.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::place_of;
use crate::store::StoreError;

/// "gplk": marks a database file as ours (bytes 68 to 71 of its header, see
/// <https://sqlite.org/fileformat2.html>).
const APPLICATION_ID: u32 = 0x6770_6c6b;

/// What the header of every store has at these places, and what SQLite would believe
/// without a question: no room reserved in pages and how they are filled, the schema format
/// of today, no automatic vacuum, UTF-8.
const FIXED_IN_HEADER: [(usize, u32); 4] = [(20, 0x0040_2020), (44, 4), (52, 0), (56, 1)];

/// The newest format that this program reads and the one that it writes.
const FORMAT: u32 = 1;

/// Pages in the write-ahead log at which a commit also copies it back. The first process
/// that opens an idle store reads the whole log, so those that come and go keep it short.
const SHORT_LOG: u32 = 32;

/// The same for a process that writes often, for which copying back costs more.
const LONG_LOG: u32 = 128;

/// Opens the store at `path`, creating it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    for _ in 0..3 {
        match inspect(path)? {
            Found::Store => return connect(path),
            // Somebody else may create it at the same moment: then look again.
            Found::Nothing => create(path)?,
        }
    }
    Err(StoreError::Replaced(path.to_owned()))
}

/// Lets the log grow longer, for a connection that writes often.
pub(super) fn lengthen_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "wal_autocheckpoint", LONG_LOG)
}

/// Device and inode, which tell whether the file at a path is still the one that was opened.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

enum Found {
    Nothing,
    Store,
}

fn inspect(path: &Path) -> Result<Found, StoreError> {
    let place = place_of(path);
    let damaged =
        |reason: &str| StoreError::Damaged { place: place.clone(), reason: reason.to_owned() };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = with_suffix(path, "-wal");
            let left_over = fs::metadata(&log).is_ok_and(|meta| meta.len() > 0);
            return match left_over {
                true => Err(damaged("the file is gone, but its log (-wal) is still there")),
                false => Ok(Found::Nothing),
            };
        }
        Err(error) => return Err(not_writable(&place, &error)),
    };
    let length = match file.metadata() {
        Ok(meta) if meta.is_file() => meta.len(),
        _ => return Err(StoreError::NotWritable { place, reason: "it is not a file".to_owned() }),
    };
    let mut header = [0; 100];
    let read = read_up_to(&mut file, &mut header).map_err(|error| not_writable(&place, &error))?;
    if !b"SQLite format 3\0".starts_with(&header[..read.min(16)]) {
        return Err(StoreError::Foreign(place));
    }
    if read < header.len() {
        return Err(damaged("the file is cut off in its header"));
    }
    let field = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let page_size = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size.max(512),
    };
    if !length.is_multiple_of(page_size) {
        return Err(damaged("the file is cut off in the middle of a page"));
    }
    let (format, application_id) = (field(60), field(68));
    if application_id != APPLICATION_ID {
        return Err(StoreError::Foreign(place));
    }
    if format > FORMAT {
        return Err(StoreError::Newer { place, found: format, known: FORMAT });
    }
    if format == 0 || FIXED_IN_HEADER.iter().any(|(at, value)| field(*at) != *value) {
        return Err(damaged("its header is not one that gpulock writes"));
    }
    Ok(Found::Store)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|e| super::failed(path, e))?;
    let mut set_up = || {
        connection.busy_handler(Some(wait_for_writer))?;
        // The last one out would copy the whole log back and remove it, the next one in
        // would make it anew. A short log is left to the next one instead.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_prepared_statement_cache_capacity(32);
        // The log is synchronised only when it is copied back. A power cut may take the
        // last commits with it, never the file: after it no holder lives, and tokens carry
        // the clock, so nothing goes back.
        connection.execute_batch(&format!(
            "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint={SHORT_LOG};"
        ))
    };
    set_up().map_err(|e| super::failed(path, e))?;
    Ok(connection)
}

/// Builds the store beside its place and moves it there whole, so that no process ever sees
/// half of one, and an empty file at that place is known to be damage.
fn create(path: &Path) -> Result<(), StoreError> {
    let place = place_of(path);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder_mode = match fs::metadata(folder) {
        Ok(meta) => meta.permissions().mode(),
        Err(error) => return Err(not_writable(&place, &error)),
    };
    let draft = with_suffix(path, &format!(".{:016x}.new", fastrand::u64(..)));
    let built = build(&draft, folder_mode, path)
        .and_then(|()| move_into_place(&draft, path).map_err(|error| not_writable(&place, &error)));
    for suffix in ["", "-wal", "-shm", "-journal"] {
        // Whatever of the draft is left; after success there is nothing.
        let _ = fs::remove_file(with_suffix(&draft, suffix));
    }
    built
}

/// Never over a file that somebody else put there meanwhile.
fn move_into_place(draft: &Path, path: &Path) -> io::Result<()> {
    let moved = match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // A file system without this flag.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(draft, path),
        moved => moved.map_err(io::Error::from),
    };
    match moved {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        moved => moved,
    }
}

fn build(draft: &Path, folder_mode: u32, path: &Path) -> Result<(), StoreError> {
    let failed = |e| super::failed(path, e);
    let connection = Connection::open(draft).map_err(failed)?;
    connection
        .execute_batch(&format!(
            "PRAGMA page_size=4096; PRAGMA journal_mode=WAL;
             BEGIN; {schema} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;",
            schema = include_str!("schema.sql"),
        ))
        .map_err(failed)?;
    connection.close().map_err(|(_, e)| failed(e))?;
    // Whoever may create files in the folder may use the store in it.
    let mode = 0o600 | (folder_mode & 0o022) | ((folder_mode & 0o022) << 1);
    fs::set_permissions(draft, fs::Permissions::from_mode(mode))
        .map_err(|error| not_writable(&place_of(path), &error))
}

/// Called by SQLite while another process writes: a write takes some ten microseconds, so
/// the first waits are short. Gives up after about a quarter of a second, so that other
/// work of this process gets its turn; whoever asked tries again.
fn wait_for_writer(tries: i32) -> bool {
    const LONGEST_MICROS: u64 = 2_000;
    let longest = 50_u64.saturating_mul(1 + tries.unsigned_abs() as u64 / 4).min(LONGEST_MICROS);
    std::thread::sleep(Duration::from_micros(fastrand::u64(longest / 2..=longest)));
    tries < 200
}

fn not_writable(place: &str, error: &io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::StorageFull {
        return StoreError::Full(place.to_owned());
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only".to_owned(),
        _ => error.to_string(),
    };
    StoreError::NotWritable { place: place.to_owned(), reason }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

//! The embedded store on bad days: each is refused by what it means, with a way out, and left
//! as it is.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gpulock::core::PoolName;
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Store, StoreError, Wanted};
use gpulock::{Client, Error, Health, Loss};
use rusqlite::Connection;
use tempfile::TempDir;

use super::support::{AGES, World, block_on, elsewhere, full_name, patient, task, unshare, until};

/// A folder with a store in it that has a history.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fill(&place.path());
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("gpulock.db")
    }

    /// Every file of the folder with its content, except what SQLite lays beside a file that
    /// it looks at: an empty log and the memory that processes share.
    fn content(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .filter(|(name, content)| {
                let is_laid_beside =
                    name.ends_with("-shm") || (name.ends_with("-wal") && content.is_empty());
                !is_laid_beside
            })
            .collect();
        files.sort();
        files
    }

    /// Puts another file in the place of the store, and nothing beside it.
    fn put(&self, content: &[u8]) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(&self.path(), suffix));
        }
        fs::write(self.path(), content).unwrap();
    }
}

/// Lends and takes back until the file has some pages, and leaves all of it in the file.
fn fill(path: &Path) {
    let client = client(path).unwrap();
    for _ in 0..20 {
        drop(client.request(task("some work")).acquire().unwrap());
    }
    client.request(task("kept")).acquire().unwrap().abandon();
    drop(client);
    tamper(path, "PRAGMA wal_checkpoint(TRUNCATE)");
    until("the log is gone", || !with_suffix(path, "-wal").exists());
}

/// Does something to the file that gpulock does not do.
fn tamper(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

fn client(path: &Path) -> Result<Client, StoreError> {
    let store = std::sync::Arc::new(SqliteStore::open(path)?);
    Ok(Client::builder(store).options(patient()).build().unwrap())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the store and reads all of it.
fn use_all(path: &Path) -> Result<usize, StoreError> {
    let store = SqliteStore::open(path)?;
    block_on(async {
        let view = store.read(&PoolName::default(), None).await?;
        let wanted = Wanted { limit: 10_000, task: None };
        let events = store.history(&PoolName::default(), &wanted).await?;
        store.waiters(&PoolName::default(), 10).await?;
        store.pools().await?;
        store.check_integrity()?;
        assert_eq!(view.pool.leases.len(), 1, "a lease is forgotten");
        Ok(events.len())
    })
}

/// The error, after a look at its text.
fn refused(path: &Path) -> StoreError {
    let error = use_all(path).expect_err("it is refused");
    explained(error)
}

fn explained(error: StoreError) -> StoreError {
    let text = error.to_string();
    let is_fragment = !text.starts_with(char::is_uppercase) && !text.ends_with('.');
    assert!(is_fragment && !text.contains('\n'), "not one sentence: {text}");
    assert!(error.hint().is_some(), "no way out of: {text}");
    assert!(!error.is_transient(), "it will not pass: {text}");
    error
}

#[test]
fn a_file_that_is_cut_off_is_damaged_and_left_alone() {
    let place = Place::new();
    let whole = fs::read(place.path()).unwrap();
    assert!(whole.len() > 16 * 1_024);
    let sizes = (0..whole.len()).step_by(512).chain([1, 15, 16, 17, 99, 100, whole.len() - 1]);
    for size in sizes {
        place.put(&whole[..size]);
        let before = place.content();
        let error = refused(&place.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "cut off at {size}: {error}");
        assert_eq!(place.content(), before, "cut off at {size}");
    }
    place.put(&whole);
    use_all(&place.path()).unwrap();
}

/// A flipped bit either does no harm or is refused; what was there is never overlooked.
#[test]
fn a_flipped_bit_in_the_header_is_refused_or_harmless() {
    let place = Place::new();
    let whole = fs::read(place.path()).unwrap();
    let events = use_all(&place.path()).unwrap();
    let mut refusals = 0;
    for bit in 0..8 * 100 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        place.put(&flipped);
        let before = place.content();
        match use_all(&place.path()) {
            Ok(read) => assert_eq!(read, events, "bit {bit}"),
            Err(error) => {
                refusals += 1;
                let error = explained(error);
                let expected = match bit / 8 {
                    0..16 | 68..72 => matches!(error, StoreError::Foreign(_)),
                    60..64 => {
                        matches!(error, StoreError::Newer { .. } | StoreError::Damaged { .. })
                    }
                    _ => {
                        matches!(error, StoreError::Damaged { .. } | StoreError::NotWritable { .. })
                    }
                };
                assert!(expected, "bit {bit} of byte {}: {error}", bit / 8);
                assert_eq!(place.content(), before, "bit {bit}");
            }
        }
    }
    assert!(refusals > 100);
}

#[test]
fn files_of_others_are_foreign_and_left_alone() {
    let place = Place::new();
    let path = place.folder.path().join("other");
    let sqlite = |statements: &str| {
        let _ = fs::remove_file(&path);
        Connection::open(&path).unwrap().execute_batch(statements).unwrap();
        fs::read(&path).unwrap()
    };
    let contents = [
        sqlite("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('mine');"),
        sqlite("PRAGMA application_id = 1; CREATE TABLE pool (name TEXT);"),
        sqlite("PRAGMA journal_mode = WAL; CREATE TABLE lease (pool TEXT);"),
        b"gpu_lock:\n  poll_interval: 2\n".to_vec(),
        vec![0; 4_096],
        b"x".to_vec(),
        b"SQLite format 2\0".to_vec(),
    ];
    for content in contents {
        let _ = fs::remove_file(&path);
        fs::write(&path, &content).unwrap();
        let before = place.content();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Foreign(_)), "{error}");
        assert_eq!(place.content(), before);
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let place = Place::new();
    tamper(&place.path(), "PRAGMA user_version = 2");
    let before = place.content();
    let error = refused(&place.path());
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    assert_eq!(place.content(), before);
}

#[test]
fn places_where_no_file_can_be_are_not_writable() {
    let place = Place::new();
    let missing = place.folder.path().join("missing/gpulock.db");
    let error = refused(&missing);
    assert!(matches!(&error, StoreError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("its folder does not exist"), "{error}");
    assert!(!missing.parent().unwrap().exists());

    let folder = place.folder.path().join("folder.db");
    fs::create_dir(&folder).unwrap();
    let error = refused(&folder);
    assert!(matches!(&error, StoreError::NotWritable { .. }), "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    let error = refused(&place.path().join("below"));
    assert!(matches!(&error, StoreError::NotWritable { .. }), "{error}");
}

#[test]
fn a_log_without_its_file_is_damage() {
    let place = Place::new();
    let log = with_suffix(&place.path(), "-wal");
    fs::rename(place.path(), &log).unwrap();
    let before = place.content();
    let error = refused(&place.path());
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(place.content(), before);

    // An empty one says nothing.
    File::create(&log).unwrap();
    client(&place.path()).unwrap();
}

/// What is not written by this program is not guessed at.
#[test]
fn a_record_that_makes_no_sense_is_damage() {
    let statements = [
        "UPDATE entry SET body = '{' WHERE kind = 2",
        "UPDATE entry SET body = '[]' WHERE kind = 1",
        "UPDATE entry SET body = json_set(body, '$.token', 'nine') WHERE kind = 1",
        "UPDATE entry SET body = '' WHERE kind = 0",
        "UPDATE entry SET pool = 'not a name'",
        "INSERT INTO waiter SELECT 1, pool, 'x', 'any', 2, 0, '' FROM entry WHERE kind = 2",
        "DROP TABLE entry",
        "ALTER TABLE waiter RENAME COLUMN body TO text",
        "DROP TABLE clock",
    ];
    for statement in statements {
        let place = Place::new();
        tamper(&place.path(), statement);
        let error = refused(&place.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{statement}: {error}");
    }
}

/// A damaged record is not overwritten by those who go on using the store.
#[test]
fn nobody_writes_over_a_damaged_record() {
    let place = Place::new();
    tamper(&place.path(), "UPDATE entry SET body = '{' WHERE kind = 2");
    let client = client(&place.path()).unwrap();
    let error = client.request(task("anything")).acquire().unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Damaged { .. })), "{error}");
    drop(client);
    let ledger: String = Connection::open(place.path())
        .unwrap()
        .query_row("SELECT body FROM entry WHERE kind = 2", [], |row| row.get(0))
        .unwrap();
    assert_eq!(ledger, "{");
}

#[test]
fn a_file_that_is_removed_or_replaced_while_in_use_is_noticed() {
    let replace = |path: &Path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(&copy, path).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    for vanish in [&remove as &dyn Fn(&Path), &replace] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpulock.db");
        let client = client(&path).unwrap();
        let beat = Duration::from_millis(20);
        let lease = client.request(task("holder")).heartbeats(beat, AGES).acquire().unwrap();
        vanish(&path);
        block_on(lease.lost());
        assert_eq!(lease.state().health, Health::Lost(Loss::Replaced));
        let error = client.request(task("next")).acquire().unwrap_err();
        let Error::Store(error) = error else { panic!("{error}") };
        assert!(matches!(explained(error), StoreError::Replaced(_)));
        assert!(matches!(block_on(lease.release()), Err(Error::Lost(_))));
    }
}

#[test]
fn a_folder_or_file_that_may_not_be_written_is_refused() {
    // Root may write everywhere unless it gives that up.
    let way: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
        false => &["env"],
    };
    let way: Vec<_> = way.iter().map(ToString::to_string).collect();
    let name = full_name!("a_folder_or_file_that_may_not_be_written_is_refused");
    elsewhere(&name, &way, || {
        let place = Place::new();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let denied = |path: &Path| {
            let before = place.content();
            let error = refused(path);
            assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
            assert_eq!(place.content(), before);
        };
        mode(place.folder.path(), 0o555);
        denied(&place.folder.path().join("new.db"));
        denied(&place.path());
        mode(place.folder.path(), 0o755);
        mode(&place.path(), 0o444);
        denied_to_write(&place);
        mode(&place.path(), 0o644);
        use_all(&place.path()).unwrap();
    });
}

/// A file that may only be read may be read, and no more.
fn denied_to_write(place: &Place) {
    let error = match client(&place.path()) {
        Err(error) => error,
        Ok(client) => match client.request(task("anything")).acquire().unwrap_err() {
            Error::Store(error) => error,
            error => panic!("{error}"),
        },
    };
    assert!(matches!(explained(error), StoreError::NotWritable { .. }));
}

#[test]
fn a_read_only_file_system_is_refused() {
    let name = full_name!("a_read_only_file_system_is_refused");
    elsewhere(&name, &unshare(&["--mount"]), || {
        let place = Place::new();
        let path = place.path();
        let whole = fs::read(&path).unwrap();
        mount(&["-t", "tmpfs", "tmpfs"], place.folder.path());
        fs::write(&path, &whole).unwrap();
        mount(&["-o", "remount,ro"], place.folder.path());
        for path in [path, place.folder.path().join("new.db")] {
            let error = refused(&path);
            assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
        }
        assert_eq!(place.content(), [("gpulock.db".to_owned(), whole)]);
    });
}

#[test]
fn a_full_disk_is_an_error_and_what_is_held_can_still_be_read() {
    let name = full_name!("a_full_disk_is_an_error_and_what_is_held_can_still_be_read");
    elsewhere(&name, &unshare(&["--mount"]), || {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        mount(&["-t", "tmpfs", "-o", "size=1M", "tmpfs"], place.folder.path());
        let client = client(&place.path()).unwrap();
        let lease = client.request(task("held")).acquire().unwrap();
        let rest = place.folder.path().join("rest");
        fill_up(&rest);
        let error = loop {
            match client.request(task("next")).max_wait(Duration::ZERO).acquire() {
                Err(Error::Store(error)) => break error,
                Err(Error::NotAcquired(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(explained(error), StoreError::Full(_)));
        lease.check().unwrap();
        assert!(block_on(client.status()).unwrap().leases.len() == 1);
        assert!(matches!(
            SqliteStore::open(&place.folder.path().join("new.db")),
            Err(StoreError::Full(_))
        ));

        // With room again everything goes on.
        fs::remove_file(&rest).unwrap();
        block_on(lease.release()).unwrap();
        drop(client.request(task("next")).acquire().unwrap());
        let names: Vec<_> = place.content().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| name.starts_with("gpulock.db")), "{names:?}");
    });
}

/// Takes all the room that is left.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    let error = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

fn mount(options: &[&str], folder: &Path) {
    let status = Command::new("mount").args(options).arg(folder).status().unwrap();
    assert!(status.success(), "mount {options:?} failed");
}

/// The journal is capped, so the file does not grow with use.
#[test]
fn the_file_stays_small_however_often_it_is_used() {
    const PAIRS: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let store = path.clone();
    let world = World::of(move || std::sync::Arc::new(SqliteStore::open(&store).unwrap()));
    let client = world.client();
    for _ in 0..PAIRS {
        drop(client.request(task("short")).acquire().unwrap());
    }
    assert_eq!(world.counters().released, PAIRS);
    let size: u64 = ["", "-wal", "-shm"]
        .iter()
        .filter_map(|suffix| fs::metadata(with_suffix(&path, suffix)).ok())
        .map(|meta| meta.len())
        .sum();
    assert!(size < 8 << 20, "{size} bytes");
}

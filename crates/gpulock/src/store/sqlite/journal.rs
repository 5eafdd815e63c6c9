//! The journal as rows, and their places.

use gpulock_core::{PoolName, Time};
use rusqlite::{Connection, Result, Row, params};

use super::rows::{json, text};
use crate::store::{Cursor, Entry, Followed, Wanted, Write};

/// Events that are kept of each pool.
const JOURNAL_CAP: i64 = 10_000;

/// How often the journal is cut: once for so many versions of the leases.
const JOURNAL_CUT_EVERY: u64 = 256;

/// In bytes.
const ID_LEN: usize = 22;

/// So many entries can be told apart within one microsecond.
const PLACES: u64 = 1 << 11;

/// Writes what a step tells of. Must be called inside the transaction of the step, after the
/// versions are written.
pub(super) fn append(connection: &Connection, write: &Write<'_>, now: Time) -> Result<()> {
    if write.step.events.is_empty() {
        return Ok(());
    }
    let pool = write.pool.as_str();
    let version = match write.step.changes.reads.leases {
        true => write.expected.after(&write.step.changes).leases,
        false => present_version(connection, pool)?,
    };
    for (place, event) in write.step.events.iter().enumerate() {
        let id = Id { version, now, place: place as u64, stamp: fastrand::u32(..) };
        connection
            .prepare_cached("INSERT INTO entry (pool, kind, id, body) VALUES (?1, 0, ?2, ?3)")?
            .execute(params![pool, id.bytes(), text(event)?])?;
    }
    if version.is_multiple_of(JOURNAL_CUT_EVERY) {
        connection
            .prepare_cached(
                "DELETE FROM entry WHERE pool = ?1 AND kind = 0 AND id <= (
                     SELECT id FROM entry WHERE pool = ?1 AND kind = 0
                     ORDER BY id DESC LIMIT 1 OFFSET ?2
                 )",
            )?
            .execute(params![pool, JOURNAL_CAP])?;
    }
    Ok(())
}

/// The latest first.
pub(super) fn history(
    connection: &Connection,
    pool: &PoolName,
    wanted: &Wanted,
) -> Result<Vec<Entry>> {
    let task = wanted.task.as_ref().map(|task| task.as_str());
    connection
        .prepare_cached(
            "SELECT id, body FROM entry
             WHERE pool = ?1 AND kind = 0 AND (?2 IS NULL OR body ->> '$.task' = ?2)
             ORDER BY id DESC LIMIT ?3",
        )?
        .query_map(params![pool.as_str(), task, wanted.limit as i64], entry)?
        .collect()
}

/// What came after a place, the oldest first. Must be called inside a transaction.
pub(super) fn follow(
    connection: &Connection,
    pool: &PoolName,
    after: Cursor,
    limit: usize,
) -> Result<Followed> {
    let pool = pool.as_str();
    let [first, last] = Id::all_at(after).map(|id| id.bytes());
    let is_gapless = match after {
        Cursor::START => !may_have_been_cut(connection, pool)?,
        _ => connection
            .prepare_cached(
                "SELECT 1 FROM entry WHERE pool = ?1 AND kind = 0 AND id BETWEEN ?2 AND ?3",
            )?
            .exists(params![pool, first, last])?,
    };
    let entries = connection
        .prepare_cached(
            "SELECT id, body FROM entry WHERE pool = ?1 AND kind = 0 AND id > ?2
             ORDER BY id LIMIT ?3",
        )?
        .query_map(params![pool, last, limit as i64], entry)?
        .collect::<Result<_>>()?;
    Ok(Followed { entries, is_gapless })
}

/// What sorts an event: the version of the leases that it led to, and among those that left it
/// as it was the time of their writing, and among those of one step their place in it. So
/// nobody has to ask for the last one. The stamp tells apart what nobody can put in order.
struct Id {
    version: u64,
    now: Time,
    place: u64,
    stamp: u32,
}

impl Id {
    /// The first and the last that can stand at this place of the journal.
    fn all_at(Cursor { major, minor }: Cursor) -> [Self; 2] {
        let now = Time::from_micros(minor / PLACES);
        [0, u32::MAX].map(|stamp| Self { version: major, now, place: minor % PLACES, stamp })
    }

    /// A step that tells of more than a microsecond has places for goes on in the next one.
    fn bytes(&self) -> [u8; ID_LEN] {
        let Cursor { major, minor } = self.cursor();
        let mut id = [0; ID_LEN];
        id[..8].copy_from_slice(&major.to_be_bytes());
        id[8..16].copy_from_slice(&(minor / PLACES).to_be_bytes());
        id[16..18].copy_from_slice(&(minor % PLACES).to_be_bytes()[6..]);
        id[18..].copy_from_slice(&self.stamp.to_be_bytes());
        id
    }

    fn cursor(&self) -> Cursor {
        let micros = self.now.as_micros();
        let minor = micros.saturating_mul(PLACES).saturating_add(self.place);
        Cursor { major: self.version, minor }
    }

    /// `None` if these are no id.
    fn read(bytes: &[u8]) -> Option<Self> {
        let number =
            |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit));
        (bytes.len() == ID_LEN).then(|| Self {
            version: number(&bytes[..8]),
            now: Time::from_micros(number(&bytes[8..16])),
            place: number(&bytes[16..18]),
            stamp: number(&bytes[18..]) as u32,
        })
    }
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let id = row.get_ref(0)?.as_blob().ok().and_then(Id::read);
    let id = id.ok_or(rusqlite::Error::InvalidColumnName("id".to_owned()))?;
    Ok(Entry { cursor: id.cursor(), event: json(row, 1)? })
}

/// A step that did not look at the leases does not know their version.
fn present_version(connection: &Connection, pool: &str) -> Result<u64> {
    connection
        .prepare_cached("SELECT lease_version FROM entry WHERE pool = ?1 AND kind = 2")?
        .query_row([pool], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
}

/// A journal with fewer entries than are always kept is whole.
fn may_have_been_cut(connection: &Connection, pool: &str) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM entry WHERE pool = ?1 AND kind = 0 LIMIT 1 OFFSET ?2")?
        .exists(params![pool, JOURNAL_CAP - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(version: u64, micros: u64, place: u64) -> Id {
        Id { version, now: Time::from_micros(micros), place, stamp: 7 }
    }

    #[test]
    fn an_id_sorts_as_its_cursor_and_is_read_back() {
        let now = 1_706_458_500_000_001;
        let ids = [
            id(0, now, 0),
            id(1, now - 1, 0),
            id(1, now, 0),
            id(1, now, 1),
            id(1, now, 2_047),
            id(1, now, 2_048),
            id(1, now, 4_000),
            id(1, now + 2, 0),
            id(u64::MAX, now, 0),
        ];
        for pair in ids.windows(2) {
            assert!(pair[0].bytes() < pair[1].bytes());
            assert!(pair[0].cursor() < pair[1].cursor());
        }
        for id in &ids {
            let read = Id::read(&id.bytes()).unwrap();
            assert_eq!((read.cursor(), read.bytes()), (id.cursor(), id.bytes()));
            let [first, last] = Id::all_at(id.cursor()).map(|id| id.bytes());
            assert!(first < id.bytes() && id.bytes() < last);
        }
    }

    #[test]
    fn other_bytes_are_no_id() {
        for bytes in [&[][..], &[0; 21], &[0; 23]] {
            assert!(Id::read(bytes).is_none());
        }
    }
}

//! Records as rows: the statements behind `read` and `swap`.

use std::cmp::Reverse;

use gpulock_core::{Event, LOOK_AHEAD, Lease, LeaseId, Ledger, Pool, PoolName, Priority, Step, Time, Waiter};
use rusqlite::{Connection, OptionalExtension, Result, Row, params, types::Type};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Versions, View, Wanted};

/// Events that are kept in a file, all pools together.
const JOURNAL_CAP: i64 = 10_000;

/// How often the journal is cut: once for so many events.
const JOURNAL_CUT_EVERY: i64 = 64;

/// A stamp this fresh is not written again, in microseconds.
const STAMP_EVERY: u64 = 500_000;

/// A transaction that is rolled back unless it is committed.
pub(super) struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    /// One consistent picture.
    pub(super) fn read(connection: &'a Connection) -> Result<Self> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }

    /// The only writer.
    pub(super) fn write(connection: &'a Connection) -> Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    pub(super) fn commit(self) -> Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite has rolled back by itself if the connection failed.
        let _ = self.0.execute_batch("ROLLBACK");
    }
}

/// The row of a pool without its ledger.
#[derive(Clone, Copy, Default)]
pub(super) struct Head {
    pub(super) versions: Versions,
    pub(super) queue_len: u64,
}

pub(super) fn head(connection: &Connection, pool: &PoolName) -> Result<Head> {
    connection
        .prepare_cached("SELECT lease_version, queue_version, queue_len FROM pool WHERE name = ?1")?
        .query_row([pool.as_str()], |row| head_of(row))
        .optional()
        .map(Option::unwrap_or_default)
}

/// The picture that the rules look at. Must be called inside a transaction. The clock is
/// read after the first row, which fixes the picture: nothing in it lies in its future.
pub(super) fn view(
    connection: &Connection,
    pool: &PoolName,
    asking: Option<LeaseId>,
    clock: impl FnOnce() -> Time,
) -> Result<View> {
    let row = connection
        .prepare_cached(
            "SELECT lease_version, queue_version, queue_len, ledger FROM pool WHERE name = ?1",
        )?
        .query_row([pool.as_str()], |row| Ok((head_of(row)?, json::<Ledger>(row, 3)?)))
        .optional()?;
    let now = clock();
    let Some((head, ledger)) = row else {
        return Ok(View { pool: Pool::default(), versions: Versions::default(), now, ahead: None });
    };
    let leases = connection
        .prepare_cached("SELECT body FROM lease WHERE pool = ?1")?
        .query_map([pool.as_str()], |row| json::<Lease>(row, 0))?
        .collect::<Result<Vec<_>>>()?;
    let mut view = View {
        pool: Pool { ledger, leases, queue_len: head.queue_len, ..Pool::default() },
        versions: head.versions,
        now,
        ahead: None,
    };
    if head.queue_len > 0 {
        view.pool.window = window(connection, pool)?;
        if let Some(asking) = asking {
            find_asker(connection, pool, asking, &mut view)?;
        }
    }
    Ok(view)
}

fn window(connection: &Connection, pool: &PoolName) -> Result<Vec<Waiter>> {
    let mut waiters = connection
        .prepare_cached(
            "WITH RECURSIVE lanes (lane) AS (
                 SELECT min(lane) FROM waiter WHERE pool = ?1
                 UNION ALL
                 SELECT (SELECT min(lane) FROM waiter WHERE pool = ?1 AND lane > lanes.lane)
                 FROM lanes WHERE lanes.lane IS NOT NULL
             )
             SELECT arrival, seen_at, body FROM lanes JOIN waiter ON arrival IN (
                 SELECT arrival FROM waiter WHERE pool = ?1 AND lane = lanes.lane
                 ORDER BY rank, arrival LIMIT ?2
             )",
        )?
        .query_map(params![pool.as_str(), LOOK_AHEAD as i64], waiter_of)?
        .collect::<Result<Vec<_>>>()?;
    waiters.sort_by_key(Waiter::order);
    Ok(waiters)
}

/// Puts the asker's own place into the picture.
fn find_asker(connection: &Connection, pool: &PoolName, asking: LeaseId, view: &mut View) -> Result<()> {
    let asker = connection
        .prepare_cached("SELECT arrival, seen_at, body FROM waiter WHERE pool = ?1 AND lease_id = ?2")?
        .query_row(params![pool.as_str(), asking.to_string()], waiter_of)
        .optional()?;
    let Some(asker) = asker else { return Ok(()) };
    let ahead: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM waiter WHERE pool = ?1 AND (rank, arrival) < (?2, ?3)",
        )?
        .query_row(params![pool.as_str(), rank(asker.priority), asker.arrival as i64], |row| row.get(0))?;
    view.ahead = Some(ahead.unsigned_abs());
    if view.pool.window.iter().all(|waiter| waiter.lease_id != asking) {
        view.pool.asker = Some(asker);
    }
    Ok(())
}

/// Stamps the asker as seen, in the picture and, unless it was just done, in the file.
pub(super) fn stamp(connection: &Connection, pool: &PoolName, asking: LeaseId, view: &mut View) -> Result<()> {
    let now = view.now;
    let shown = view.pool.window.iter_mut().chain(&mut view.pool.asker);
    for waiter in shown.filter(|waiter| waiter.lease_id == asking) {
        if now.as_micros() > waiter.seen_at.as_micros() + STAMP_EVERY {
            connection
                .prepare_cached("UPDATE waiter SET seen_at = ?3 WHERE pool = ?1 AND lease_id = ?2")?
                .execute(params![pool.as_str(), asking.to_string(), now.as_micros() as i64])?;
        }
        waiter.seen_at = now;
    }
    Ok(())
}

/// Writes a step. Must be called inside a write transaction.
pub(super) fn write(connection: &Connection, pool: &PoolName, head: Head, step: &Step) -> Result<()> {
    let changes = &step.changes;
    let name = pool.as_str();
    for (lease_id, lease) in &changes.leases {
        let lease_id = lease_id.to_string();
        match lease {
            Some(lease) => connection
                .prepare_cached("INSERT OR REPLACE INTO lease (pool, lease_id, body) VALUES (?1, ?2, ?3)")?
                .execute(params![name, lease_id, text(lease)?])?,
            None => connection
                .prepare_cached("DELETE FROM lease WHERE pool = ?1 AND lease_id = ?2")?
                .execute(params![name, lease_id])?,
        };
    }
    let mut queue_len = head.queue_len;
    for (lease_id, waiter) in &changes.waiters {
        match waiter {
            Some(waiter) => queue_len += join(connection, name, waiter)?,
            None => {
                let gone = connection
                    .prepare_cached("DELETE FROM waiter WHERE pool = ?1 AND lease_id = ?2")?
                    .execute(params![name, lease_id.to_string()])?;
                queue_len = queue_len.saturating_sub(gone as u64);
            }
        }
    }
    write_head(connection, name, Head { versions: head.versions.after(changes), queue_len }, step)?;
    step.events.iter().try_for_each(|event| append(connection, name, event))
}

/// Adds a waiter unless it is already there; how many were added.
fn join(connection: &Connection, pool: &str, waiter: &Waiter) -> Result<u64> {
    let added = connection
        .prepare_cached(
            "INSERT INTO waiter (pool, lease_id, lane, rank, seen_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (pool, lease_id) DO NOTHING",
        )?
        .execute(params![
            pool,
            waiter.lease_id.to_string(),
            waiter.wants.lane(),
            rank(waiter.priority),
            waiter.seen_at.as_micros() as i64,
            text(waiter)?,
        ])?;
    Ok(added as u64)
}

fn write_head(connection: &Connection, pool: &str, head: Head, step: &Step) -> Result<()> {
    let Versions { leases, queue } = head.versions;
    let (leases, queue, queue_len) = (leases as i64, queue as i64, head.queue_len as i64);
    let replace = |ledger: &Ledger| {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO pool (name, lease_version, queue_version, queue_len, ledger)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![pool, leases, queue, queue_len, text(ledger)?])
    };
    if let Some(ledger) = &step.changes.ledger {
        replace(ledger)?;
        return Ok(());
    }
    let known = connection
        .prepare_cached(
            "UPDATE pool SET lease_version = ?2, queue_version = ?3, queue_len = ?4 WHERE name = ?1",
        )?
        .execute(params![pool, leases, queue, queue_len])?;
    if known == 0 {
        replace(&Ledger::default())?;
    }
    Ok(())
}

fn append(connection: &Connection, pool: &str, event: &Event) -> Result<()> {
    let task = event.party.as_ref().map(|party| party.task.as_str());
    connection
        .prepare_cached("INSERT INTO event (pool, task, body) VALUES (?1, ?2, ?3)")?
        .execute(params![pool, task, text(event)?])?;
    let latest = connection.last_insert_rowid();
    if latest % JOURNAL_CUT_EVERY == 0 {
        connection
            .prepare_cached("DELETE FROM event WHERE seq <= ?1")?
            .execute([latest - JOURNAL_CAP])?;
    }
    Ok(())
}

pub(super) fn waiters(connection: &Connection, pool: &PoolName, limit: usize) -> Result<Vec<Waiter>> {
    connection
        .prepare_cached(
            "SELECT arrival, seen_at, body FROM waiter WHERE pool = ?1 ORDER BY rank, arrival LIMIT ?2",
        )?
        .query_map(params![pool.as_str(), limit as i64], waiter_of)?
        .collect()
}

pub(super) fn history(connection: &Connection, pool: &PoolName, wanted: &Wanted) -> Result<Vec<Event>> {
    let task = wanted.task.as_ref().map(|task| task.as_str());
    connection
        .prepare_cached(
            "SELECT body FROM event WHERE pool = ?1 AND (?2 IS NULL OR task = ?2)
             ORDER BY seq DESC LIMIT ?3",
        )?
        .query_map(params![pool.as_str(), task, wanted.limit as i64], |row| json(row, 0))?
        .collect()
}

pub(super) fn pools(connection: &Connection) -> Result<Vec<PoolName>> {
    connection
        .prepare_cached("SELECT name FROM pool ORDER BY name")?
        .query_map([], |row| {
            let name: String = row.get(0)?;
            name.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e)))
        })?
        .collect()
}

fn head_of(row: &Row<'_>) -> Result<Head> {
    let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let versions = Versions { leases: number(0)?, queue: number(1)? };
    Ok(Head { versions, queue_len: number(2)? })
}

fn waiter_of(row: &Row<'_>) -> Result<Waiter> {
    let mut waiter: Waiter = json(row, 2)?;
    waiter.arrival = row.get::<_, i64>(0)?.unsigned_abs();
    waiter.seen_at = Time::from_micros(row.get::<_, i64>(1)?.unsigned_abs());
    Ok(waiter)
}

/// Smaller goes first, as [`Waiter::order`] has it.
fn rank(priority: Priority) -> i64 {
    let order = [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low];
    debug_assert!(order.is_sorted_by_key(|priority| Reverse(*priority)));
    order.iter().position(|other| *other == priority).map_or(i64::MAX, |place| place as i64)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let body = row.get_ref(column)?.as_str()?;
    serde_json::from_str(body)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

fn text<T: Serialize>(body: &T) -> Result<String> {
    serde_json::to_string(body).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

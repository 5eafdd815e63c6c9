//! Records as rows: the statements behind `read` and `swap`.

use gpulock_core::{LOOK_AHEAD, Lease, LeaseId, Ledger, Pool, PoolName, Time, Waiter};
use rusqlite::{Connection, OptionalExtension, Result, Row, params, types::Type};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal;
use crate::store::{Versions, View, Write};

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
            "SELECT lease_version, queue_version, queue_len, body FROM entry
             WHERE pool = ?1 AND kind = 2",
        )?
        .query_row([pool.as_str()], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            let versions = Versions { leases: number(0)?, queue: number(1)? };
            Ok((versions, number(2)?, json::<Ledger>(row, 3)?))
        })
        .optional()?;
    let now = clock();
    let Some((versions, queue_len, ledger)) = row else {
        return Ok(View {
            pool: Pool::default(),
            versions: Versions::default(),
            now,
            ahead: None,
            incarnation: None,
        });
    };
    let leases = connection
        .prepare_cached("SELECT body FROM entry WHERE pool = ?1 AND kind = 1")?
        .query_map([pool.as_str()], |row| json::<Lease>(row, 0))?
        .collect::<Result<Vec<_>>>()?;
    let mut view = View {
        pool: Pool { ledger, leases, queue_len, ..Pool::default() },
        versions,
        now,
        ahead: None,
        incarnation: None,
    };
    if queue_len > 0 {
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
fn find_asker(
    connection: &Connection,
    pool: &PoolName,
    asking: LeaseId,
    view: &mut View,
) -> Result<()> {
    let asker = connection
        .prepare_cached(
            "SELECT arrival, seen_at, body FROM waiter WHERE pool = ?1 AND lease_id = ?2",
        )?
        .query_row(params![pool.as_str(), asking.to_string()], waiter_of)
        .optional()?;
    let Some(asker) = asker else { return Ok(()) };
    let ahead: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM waiter WHERE pool = ?1 AND (rank, arrival) < (?2, ?3)",
        )?
        .query_row(params![pool.as_str(), asker.priority.rank(), asker.arrival as i64], |row| {
            row.get(0)
        })?;
    view.ahead = Some(ahead.unsigned_abs());
    if view.pool.window.iter().all(|waiter| waiter.lease_id != asking) {
        view.pool.asker = Some(asker);
    }
    Ok(())
}

/// Stamps the asker as seen, in the picture and, unless it was just done, in the file.
pub(super) fn stamp(
    connection: &Connection,
    pool: &PoolName,
    asking: LeaseId,
    view: &mut View,
) -> Result<()> {
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

/// Writes a step unless what it read has changed: then it answers `false`, with nothing
/// written. Must be called inside a write transaction.
pub(super) fn write(connection: &Connection, write: &Write<'_>, now: Time) -> Result<bool> {
    let changes = &write.step.changes;
    let pool = write.pool.as_str();
    if let Some(lease_id) = changes.unless_leased
        && is_leased(connection, pool, lease_id)?
    {
        return Ok(false);
    }
    if !write_head(connection, write)? {
        return Ok(false);
    }
    for (lease_id, lease) in &changes.leases {
        let lease_id = lease_id.to_string();
        match lease {
            Some(lease) => connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO entry (pool, kind, id, body) VALUES (?1, 1, ?2, ?3)",
                )?
                .execute(params![pool, lease_id, text(lease)?])?,
            None => connection
                .prepare_cached("DELETE FROM entry WHERE pool = ?1 AND kind = 1 AND id = ?2")?
                .execute(params![pool, lease_id])?,
        };
    }
    let mut grown_by = 0;
    for (lease_id, waiter) in &changes.waiters {
        match waiter {
            Some(waiter) => grown_by += join(connection, pool, waiter)?,
            None => {
                grown_by -= connection
                    .prepare_cached("DELETE FROM waiter WHERE pool = ?1 AND lease_id = ?2")?
                    .execute(params![pool, lease_id.to_string()])?
                    as i64;
            }
        }
    }
    if grown_by != 0 {
        connection
            .prepare_cached(
                "UPDATE entry SET queue_len = queue_len + ?2 WHERE pool = ?1 AND kind = 2",
            )?
            .execute(params![pool, grown_by])?;
    }
    journal::append(connection, write, now)?;
    Ok(true)
}

fn is_leased(connection: &Connection, pool: &str, lease_id: LeaseId) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM entry WHERE pool = ?1 AND kind = 1 AND id = ?2")?
        .exists(params![pool, lease_id.to_string()])
}

/// Raises the versions and writes the ledger, if the versions are the expected ones.
fn write_head(connection: &Connection, write: &Write<'_>) -> Result<bool> {
    let Write { pool, expected, step, .. } = write;
    let after = expected.after(&step.changes);
    let raise = [after.leases - expected.leases, after.queue - expected.queue].map(|by| by as i64);
    let ledger = step.changes.ledger.as_ref().map(text).transpose()?;
    // A part that was not read may have any version.
    let must_be = [
        step.changes.reads.leases.then_some(expected.leases as i64),
        step.changes.reads.queue.then_some(expected.queue as i64),
    ];
    let sql = match ledger {
        Some(_) => {
            "UPDATE entry SET lease_version = lease_version + ?2, queue_version = queue_version + ?3,
                              body = ?6
             WHERE pool = ?1 AND kind = 2 AND lease_version = ifnull(?4, lease_version)
                                          AND queue_version = ifnull(?5, queue_version)"
        }
        None => {
            "UPDATE entry SET lease_version = lease_version + ?2, queue_version = queue_version + ?3
             WHERE pool = ?1 AND kind = 2 AND lease_version = ifnull(?4, lease_version)
                                          AND queue_version = ifnull(?5, queue_version)"
        }
    };
    let mut update = connection.prepare_cached(sql)?;
    let updated = match &ledger {
        Some(ledger) => update.execute(params![
            pool.as_str(),
            raise[0],
            raise[1],
            must_be[0],
            must_be[1],
            ledger
        ])?,
        None => {
            update.execute(params![pool.as_str(), raise[0], raise[1], must_be[0], must_be[1]])?
        }
    };
    let unwritten = Versions::default();
    if updated == 0 && expected.still_hold(unwritten, step.changes.reads) {
        return create(connection, pool, unwritten.after(&step.changes), ledger);
    }
    Ok(updated == 1)
}

/// The first write of a pool; `false` if somebody else was first.
fn create(
    connection: &Connection,
    pool: &PoolName,
    versions: Versions,
    ledger: Option<String>,
) -> Result<bool> {
    let ledger = ledger.map_or_else(|| text(&Ledger::default()), Ok)?;
    let created = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO entry (pool, kind, id, lease_version, queue_version, queue_len, body)
             VALUES (?1, 2, '', ?2, ?3, 0, ?4)",
        )?
        .execute(params![pool.as_str(), versions.leases as i64, versions.queue as i64, ledger])?;
    Ok(created == 1)
}

/// Adds a waiter unless it is already there; how many were added.
fn join(connection: &Connection, pool: &str, waiter: &Waiter) -> Result<i64> {
    let added = connection
        .prepare_cached(
            "INSERT INTO waiter (pool, lease_id, lane, rank, seen_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (pool, lease_id) DO NOTHING",
        )?
        .execute(params![
            pool,
            waiter.lease_id.to_string(),
            waiter.wants.lane(),
            waiter.priority.rank(),
            waiter.seen_at.as_micros() as i64,
            text(waiter)?,
        ])?;
    Ok(added as i64)
}

pub(super) fn waiters(
    connection: &Connection,
    pool: &PoolName,
    limit: usize,
) -> Result<Vec<Waiter>> {
    connection
        .prepare_cached(
            "SELECT arrival, seen_at, body FROM waiter WHERE pool = ?1 ORDER BY rank, arrival LIMIT ?2",
        )?
        .query_map(params![pool.as_str(), limit as i64], waiter_of)?
        .collect()
}

pub(super) fn pools(connection: &Connection) -> Result<Vec<PoolName>> {
    connection
        .prepare_cached(
            "WITH RECURSIVE names (pool) AS (
                 SELECT min(pool) FROM entry
                 UNION ALL
                 SELECT (SELECT min(pool) FROM entry WHERE pool > names.pool)
                 FROM names WHERE names.pool IS NOT NULL
             )
             SELECT pool FROM names WHERE pool IS NOT NULL",
        )?
        .query_map([], |row| {
            let name: String = row.get(0)?;
            name.parse()
                .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e)))
        })?
        .collect()
}

fn waiter_of(row: &Row<'_>) -> Result<Waiter> {
    let mut waiter: Waiter = json(row, 2)?;
    waiter.arrival = row.get::<_, i64>(0)?.unsigned_abs();
    waiter.seen_at = Time::from_micros(row.get::<_, i64>(1)?.unsigned_abs());
    Ok(waiter)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let body = row.get_ref(column)?.as_str()?;
    serde_json::from_str(body)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

pub(super) fn text<T: Serialize>(body: &T) -> Result<String> {
    serde_json::to_string(body).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

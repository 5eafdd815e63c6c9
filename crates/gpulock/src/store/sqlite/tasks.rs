//! What is remembered of tasks, as rows.

use gpulock_core::{PoolName, TaskBeat, TaskName, TaskRecord, Time};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::rows::{json, text};
use crate::store::{TASK_RECORD_CAP, latest_first};

/// Writes a sign of life. Must be called inside a write transaction.
pub(super) fn put(
    connection: &Connection,
    pool: &PoolName,
    beat: &TaskBeat,
    now: Time,
) -> Result<TaskRecord> {
    if !is_there(connection)? {
        connection.execute_batch(include_str!("tasks.sql"))?;
    }
    let (pool, task_id) = (pool.as_str(), beat.task_id.as_str());
    let before = connection
        .prepare_cached("SELECT started_at FROM task WHERE pool = ?1 AND task_id = ?2")?
        .query_row(params![pool, task_id], |row| time(row, 0))
        .optional()?;
    let record = TaskRecord::after(beat.clone(), before, now);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO task (pool, task_id, started_at, updated_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            pool,
            task_id,
            record.started_at.as_micros() as i64,
            record.updated_at.as_micros() as i64,
            text(beat)?,
        ])?;
    if before.is_none() {
        forget_most_silent(connection, pool)?;
    }
    Ok(record)
}

/// The latest sign of life first.
pub(super) fn all(connection: &Connection, pool: &PoolName) -> Result<Vec<TaskRecord>> {
    if !is_there(connection)? {
        return Ok(Vec::new());
    }
    let mut records = connection
        .prepare_cached("SELECT started_at, updated_at, body FROM task WHERE pool = ?1")?
        .query_map([pool.as_str()], |row| {
            let beat: TaskBeat = json(row, 2)?;
            Ok(TaskRecord {
                started_at: time(row, 0)?,
                ..TaskRecord::after(beat, None, time(row, 1)?)
            })
        })?
        .collect::<Result<Vec<_>>>()?;
    latest_first(&mut records);
    Ok(records)
}

/// Forgets a task; `false` if nothing was remembered of it.
pub(super) fn remove(connection: &Connection, pool: &PoolName, task_id: &TaskName) -> Result<bool> {
    if !is_there(connection)? {
        return Ok(false);
    }
    let removed = connection
        .prepare_cached("DELETE FROM task WHERE pool = ?1 AND task_id = ?2")?
        .execute(params![pool.as_str(), task_id.as_str()])?;
    Ok(removed > 0)
}

/// Whether anybody has ever written a sign of life to this file.
fn is_there(connection: &Connection) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'task'")?
        .exists([])
}

fn forget_most_silent(connection: &Connection, pool: &str) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM task WHERE pool = ?1 AND task_id IN (
                 SELECT task_id FROM task WHERE pool = ?1
                 ORDER BY updated_at DESC LIMIT -1 OFFSET ?2
             )",
        )?
        .execute(params![pool, TASK_RECORD_CAP as i64])?;
    Ok(())
}

fn time(row: &Row<'_>, column: usize) -> Result<Time> {
    Ok(Time::from_micros(row.get::<_, i64>(column)?.unsigned_abs()))
}

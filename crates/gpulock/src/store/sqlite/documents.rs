//! Documents, as rows.

use gpulock_core::Time;
use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::store::document::next_version;
use crate::store::{Document, DocumentName, DocumentNews, DocumentSwap};

/// The text, unless it still has the version that is known. The clock is read after the row:
/// what it shows does not lie in its future.
pub(super) fn since(
    connection: &Connection,
    name: &DocumentName,
    known: u64,
    clock: impl FnOnce() -> Time,
) -> Result<DocumentNews> {
    let row = match is_there(connection)? {
        true => connection
            .prepare_cached(
                "SELECT version, CASE WHEN version <> ?2 THEN body END FROM document
                 WHERE name = ?1",
            )?
            .query_row(params![name.as_str(), signed(known)], |row| {
                Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Option<String>>(1)?))
            })
            .optional()?,
        false => None,
    };
    let now = clock();
    Ok(match row {
        Some((version, Some(text))) => DocumentNews::Changed(Document { text, version, now }),
        Some((_, None)) => DocumentNews::Unchanged { now },
        None if known == 0 => DocumentNews::Unchanged { now },
        None => DocumentNews::Changed(Document::never_written(now)),
    })
}

/// Writes a text if the document still has the expected version. Must be called inside a write
/// transaction.
pub(super) fn swap(
    connection: &Connection,
    name: &DocumentName,
    expected: u64,
    text: &str,
    now: Time,
) -> Result<DocumentSwap> {
    if let DocumentNews::Changed(present) = since(connection, name, expected, || now)? {
        return Ok(DocumentSwap::Conflict(present));
    }
    if !is_there(connection)? {
        connection.execute_batch(include_str!("documents.sql"))?;
    }
    let version = next_version(expected, now);
    connection
        .prepare_cached(
            "INSERT INTO document (name, version, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body",
        )?
        .execute(params![name.as_str(), signed(version), text])?;
    Ok(DocumentSwap::Written { version, now })
}

/// Whether anybody has ever written a document to this file.
fn is_there(connection: &Connection) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'document'")?
        .exists([])
}

/// What is larger than all numbers of SQLite is a version that no document has.
fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(-1)
}

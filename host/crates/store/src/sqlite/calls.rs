//! The memory of calls in SQL.

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::WriteContext;
use crate::CallDocument;

/// Calls that are remembered: some hours of a large installation. Those that
/// would be forgotten first have to go.
const MAX_CALLS: i64 = 200_000;

/// Their memory on the disk, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 1 << 30;

/// Rows that are removed at once.
const MAX_ROWS_REMOVED: i64 = 5_000;

pub(super) fn save(work: &mut WriteContext<'_>, call: &CallDocument) -> rusqlite::Result<()> {
    let CallDocument { key, document, expires_at: until } = call;
    // More than there is, if the call was known: counted again before it matters.
    work.state.call_bytes = work.state.call_bytes.saturating_add(document.len() as u64);
    work.db
        .prepare_cached(
            "INSERT INTO calls (key, until, document) VALUES (?, ?, ?)
             ON CONFLICT (key) DO UPDATE SET until = excluded.until, document = excluded.document",
        )?
        .execute(params![key, until, document])?;
    Ok(())
}

pub(super) fn set_expiry(db: &Connection, key: &str, until: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE calls SET until = ? WHERE key = ?")?.execute(params![until, key])?;
    Ok(())
}

pub(super) fn load(db: &Connection, key: &str, now: i64) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT document FROM calls WHERE key = ? AND until > ?")?
        .query_row(params![key, now], |row| row.get(0))
        .optional()
}

pub(super) fn remove_expired(work: &mut WriteContext<'_>, now: i64) -> rusqlite::Result<()> {
    let db = work.db;
    db.prepare_cached(
        "DELETE FROM calls WHERE key IN
            (SELECT key FROM calls WHERE until <= ? ORDER BY until LIMIT ?)",
    )?
    .execute([now, MAX_ROWS_REMOVED])?;
    let count: i64 =
        db.prepare_cached("SELECT count(*) FROM calls")?.query_row([], |row| row.get(0))?;
    let mut surplus = (count - MAX_CALLS).clamp(0, MAX_ROWS_REMOVED);
    if work.state.call_bytes > MAX_DOCUMENT_BYTES {
        work.state.call_bytes = db
            .prepare_cached("SELECT coalesce(sum(octet_length(document)), 0) FROM calls")?
            .query_row([], |row| row.get(0))?;
        if work.state.call_bytes > MAX_DOCUMENT_BYTES {
            surplus = MAX_ROWS_REMOVED;
        }
    }
    if surplus > 0 {
        db.prepare_cached(
            "DELETE FROM calls WHERE key IN (SELECT key FROM calls ORDER BY until LIMIT ?)",
        )?
        .execute([surplus])?;
    }
    Ok(())
}

//! The memory of calls in SQL.

use rusqlite::{Connection, OptionalExtension, params};

/// Calls that are remembered: some hours of a large installation. Those that
/// would be forgotten first have to go.
const MOST: i64 = 200_000;

/// Rows that are removed at once.
const MOST_REMOVED: i64 = 5_000;

pub(super) fn remember(
    db: &Connection,
    key: &str,
    document: &str,
    until: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
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

pub(super) fn recall(db: &Connection, key: &str, now: i64) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT document FROM calls WHERE key = ? AND until > ?")?
        .query_row(params![key, now], |row| row.get(0))
        .optional()
}

pub(super) fn expire(db: &Connection, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM calls WHERE key IN
            (SELECT key FROM calls WHERE until <= ? ORDER BY until LIMIT ?)",
    )?
    .execute([now, MOST_REMOVED])?;
    let count: i64 =
        db.prepare_cached("SELECT count(*) FROM calls")?.query_row([], |row| row.get(0))?;
    if count > MOST {
        db.prepare_cached(
            "DELETE FROM calls WHERE key IN (SELECT key FROM calls ORDER BY until LIMIT ?)",
        )?
        .execute([(count - MOST).min(MOST_REMOVED)])?;
    }
    Ok(())
}

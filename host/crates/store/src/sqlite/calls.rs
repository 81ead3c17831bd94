//! Call contexts in SQL. The table's key is a call's platform family and
//! id, joined by a slash: a family has no slash, and an id may have some.

use rusqlite::{Connection, OptionalExtension, params};

use super::write_job::WriteContext;
use crate::CallDocument;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;

/// The maximum number of call contexts: some hours of a large installation. Contexts that
/// expire first are removed.
const MAX_CALLS: i64 = 200_000;

/// The maximum size of all documents, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 1 << 30;

/// The maximum number of rows that one retention run removes.
const MAX_ROWS_REMOVED: i64 = 5_000;

pub(super) fn save(work: &mut WriteContext<'_>, call: &CallDocument) -> rusqlite::Result<()> {
    let CallDocument { id, document, expires_at: until } = call;
    // An upper bound: the call may have had a document before. A recount precedes any removal.
    work.state.call_bytes = work.state.call_bytes.saturating_add(document.len() as u64);
    work.db
        .prepare_cached(
            "INSERT INTO calls (key, until, document) VALUES (?, ?, ?)
             ON CONFLICT (key) DO UPDATE SET until = excluded.until, document = excluded.document",
        )?
        .execute(params![encode_key(id.family(), id.id()), until, document])?;
    Ok(())
}

pub(super) fn set_expiry(db: &Connection, call: &CallId, until: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE calls SET until = ? WHERE key = ?")?
        .execute(params![until, encode_key(call.family(), call.id())])?;
    Ok(())
}

pub(super) fn load(db: &Connection, call: &CallId, now: i64) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT document FROM calls WHERE key = ? AND until > ?")?
        .query_row(params![encode_key(call.family(), call.id()), now], |row| row.get(0))
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

/// Removes the documents about the selected calls. Returns their number.
pub(super) fn remove(work: &mut WriteContext<'_>, call: &CallSelector) -> rusqlite::Result<u64> {
    // The file may have calls of platforms that this version does not know.
    let families = match call.family() {
        Some(family) => vec![family.to_owned()],
        None => stored_families(work.db)?,
    };
    let mut delete = work.db.prepare_cached("DELETE FROM calls WHERE key = ?")?;
    families.iter().try_fold(0, |removed, family| {
        Ok(removed + delete.execute([encode_key(family, call.id())])? as u64)
    })
}

/// Returns the families of the calls in the table, with one look-up per family
/// instead of one per call.
fn stored_families(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut next = db.prepare_cached("SELECT min(key) FROM calls WHERE key >= ?")?;
    let mut families = Vec::new();
    let mut from = String::new();
    while let Some(key) = next.query_row([&from], |row| row.get::<_, Option<String>>(0))? {
        let family = decode_family(&key);
        from = key_after(family);
        families.push(family.to_owned());
    }
    Ok(families)
}

fn encode_key(family: &str, id: &str) -> String {
    format!("{family}/{id}")
}

fn decode_family(key: &str) -> &str {
    key.split_once('/').map_or(key, |(family, _)| family)
}

/// Returns a text that is greater than every key of a family, and not greater than
/// those of the families after it: `0` is the character after the slash.
fn key_after(family: &str) -> String {
    format!("{family}0")
}

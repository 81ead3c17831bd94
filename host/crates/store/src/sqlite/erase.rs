//! Erasure of a call.
//!
//! A reader searches the rows and the writer removes them, in slices, so that no other
//! request waits for long. There is no index on calls, which every append would pay
//! for: an erasure reads the whole journal.
//!
//! `secure_delete` overwrites removed rows in the pages. The write-ahead log has the
//! earlier content of the pages, so it is emptied at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::file_error::{FileErrorCause, unavailable};
use super::reader::StoreReader;
use super::shared::StoreShared;
use super::write_job::WriteContext;
use super::writer::StoreWriter;
use super::{calls, journal, kv, wal_checkpoint};
use crate::erase::{ErasedRange, ErasureResult};
use crate::{Seq, StoreError};
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::platforms::Platform;

/// The number of rows that one read scans: some milliseconds.
const MAX_ROWS_SCANNED: usize = 2_000;

/// The number of rows that one transaction removes: some milliseconds.
const MAX_ROWS_REMOVED: usize = 500;

/// The number of attempts to empty the log while a reader uses it, and the time
/// between them.
const TRUNCATE_ATTEMPTS: usize = 100;
const TRUNCATE_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A table that contains events.
#[derive(Clone, Copy)]
enum EventTable {
    Events,
    DeadLetters,
}

/// Erases everything about the selected calls, except plugins' values.
pub(super) fn erase_call(
    eraser: Eraser,
    shared: Arc<StoreShared>,
    call: CallSelector,
) -> impl Future<Output = Result<ErasureResult, StoreError>> + Send + 'static {
    // This is submitted before the first await, so that the read follows earlier requests.
    let selector = call.clone();
    let contexts_removed = eraser.writer.submit(move |work| {
        let calls = calls::remove(work, &selector)?;
        Ok((work.state.last_seq(), calls))
    });
    async move {
        let (up_to, calls) = contexts_removed.await?;
        let dead = eraser.erase(EventTable::DeadLetters, &call, |_| true, Seq::MAX).await?;
        // Some dead letters may have been redriven meanwhile.
        let revived_up_to = eraser.writer.submit(|work| Ok(work.state.last_seq())).await?;
        let range = ErasedRange { up_to, redriven_up_to: revived_up_to };
        let is_erased = move |row: &EventRow| row.number <= up_to || row.has_target;
        let events = eraser.erase(EventTable::Events, &call, is_erased, revived_up_to).await?;
        shared.tail.remove_erased(|event| range.contains(event) && call.matches(&event.event.call));
        Ok(ErasureResult { events, dead_letters: dead, calls, range })
    }
}

/// Erases plugins' values about a call. Returns their number.
pub(super) fn erase_values(
    eraser: Eraser,
    call: Arc<str>,
) -> impl Future<Output = Result<u64, StoreError>> + Send + 'static {
    let earlier_writes = eraser.writer.submit(|_| Ok(()));
    async move {
        earlier_writes.await?;
        let mut cursor = Some((String::new(), String::new()));
        let mut removed = 0;
        while let Some(start) = cursor {
            let call = Arc::clone(&call);
            let (keys, next_cursor) =
                eraser.reader.submit(move |db| scan_keys(db, &call, &start)).await?;
            cursor = next_cursor;
            for slice in keys.chunks(MAX_ROWS_REMOVED) {
                let slice = slice.to_vec();
                let remove_slice = move |work: &mut WriteContext<'_>| {
                    slice.iter().try_fold(0, |removed, (namespace, key)| {
                        Ok(removed + u64::from(kv::remove(work, namespace, key)?))
                    })
                };
                removed += eraser.writer.submit(remove_slice).await?;
            }
        }
        Ok(removed)
    }
}

/// Empties the write-ahead log.
pub(super) async fn truncate_wal(writer: StoreWriter, path: PathBuf) -> Result<(), StoreError> {
    for _ in 0..TRUNCATE_ATTEMPTS {
        // Moves most pages without blocking the writer.
        let log_path = path.clone();
        _ = tokio::task::spawn_blocking(move || wal_checkpoint::checkpoint_passive(&log_path))
            .await;
        if writer.truncate_wal().await? {
            return Ok(());
        }
        tokio::time::sleep(TRUNCATE_RETRY_DELAY).await;
    }
    Err(unavailable(&path, FileErrorCause::WalInUse))
}

/// The two threads that an erasure uses.
pub(super) struct Eraser {
    pub(super) writer: StoreWriter,
    pub(super) reader: StoreReader,
}

impl Eraser {
    /// Erases the rows of the selected calls with numbers up to `up_to`. Returns their
    /// number.
    async fn erase(
        &self,
        table: EventTable,
        call: &CallSelector,
        is_erased: impl Fn(&EventRow) -> bool,
        up_to: i64,
    ) -> Result<u64, StoreError> {
        let (mut after, mut removed) = (0, 0);
        loop {
            let selector = call.clone();
            let scan = move |db: &Connection| scan_rows(db, table, &selector, after, up_to);
            let RowScan { mut rows, scanned, last } = self.reader.submit(scan).await?;
            rows.retain(&is_erased);
            for slice in rows.chunks(MAX_ROWS_REMOVED) {
                let numbers: Vec<i64> = slice.iter().map(|row| row.number).collect();
                let remove_slice =
                    move |work: &mut WriteContext<'_>| remove_rows(work, table, &numbers);
                removed += self.writer.submit(remove_slice).await?;
            }
            if scanned < MAX_ROWS_SCANNED {
                return Ok(removed);
            }
            after = last;
        }
    }
}

/// A row of a selected call.
struct EventRow {
    number: i64,
    has_target: bool,
}

/// The result of one scan.
struct RowScan {
    rows: Vec<EventRow>,
    /// The number of scanned rows.
    scanned: usize,
    /// The number of the last scanned row.
    last: i64,
}

/// The fields of a call's JSON that identify it.
#[derive(Deserialize)]
struct IdentifyingFields {
    id: Arc<str>,
    /// The raw value and not a [`Platform`], because another version may have written it.
    platform: serde_json::Value,
}

/// Returns the rows of the selected calls among the next [`MAX_ROWS_SCANNED`] ones.
fn scan_rows(
    db: &Connection,
    table: EventTable,
    call: &CallSelector,
    after: i64,
    up_to: i64,
) -> rusqlite::Result<RowScan> {
    // SQLite skips the JSON of most other calls, which does not contain the id.
    let mut select = db.prepare_cached(match table {
        EventTable::Events => {
            "SELECT seq, only IS NOT NULL, iif(instr(call, ?3), call, NULL) FROM events
             WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?4"
        }
        EventTable::DeadLetters => {
            "SELECT id, false, iif(instr(call, ?3), call, NULL) FROM dead
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?4"
        }
    })?;
    // The id in the form that JSON escapes it to.
    let id = serde_json::to_string(&**call.id()).unwrap_or_default();
    let mut rows = select.query(params![after, up_to, id, MAX_ROWS_SCANNED])?;
    let mut scan = RowScan { rows: Vec::new(), scanned: 0, last: after };
    while let Some(row) = rows.next()? {
        (scan.scanned, scan.last) = (scan.scanned + 1, row.get(0)?);
        let text = row.get_ref(2)?.as_str_or_null()?;
        if text.is_some_and(|text| json_matches(call, text)) {
            scan.rows.push(EventRow { number: scan.last, has_target: row.get(1)? });
        }
    }
    Ok(scan)
}

/// Returns whether this is the JSON of a selected call. Other calls may have its id
/// in their JSON.
fn json_matches(selector: &CallSelector, json: &str) -> bool {
    let Ok(IdentifyingFields { id, platform }) = serde_json::from_str(json) else { return false };
    match Platform::deserialize(platform) {
        Ok(platform) => selector.matches_id(&CallId::new(platform, id)),
        Err(_) => selector.family().is_none() && id == *selector.id(),
    }
}

fn remove_rows(
    work: &mut WriteContext<'_>,
    table: EventTable,
    numbers: &[i64],
) -> rusqlite::Result<u64> {
    let which = match table {
        EventTable::Events => "events WHERE seq",
        EventTable::DeadLetters => "dead WHERE id",
    };
    let sql = format!("DELETE FROM {which} = ? RETURNING {}", journal::ROW_BYTES);
    let mut delete = work.db.prepare_cached(&sql)?;
    let mut removed = 0;
    for number in numbers {
        // A retention run may have removed the row.
        let bytes: Option<i64> = delete.query_row([number], |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            work.state.bytes_delta -= bytes;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The namespace and the key of a value.
type KvKey = (String, String);

/// Returns the keys about a call among the next [`MAX_ROWS_SCANNED`] ones, and the
/// last scanned key if there may be more.
fn scan_keys(
    db: &Connection,
    call: &str,
    (namespace, key): &KvKey,
) -> rusqlite::Result<(Vec<KvKey>, Option<KvKey>)> {
    let mut select = db.prepare_cached(
        "SELECT namespace, key FROM kv WHERE (namespace, key) > (?, ?)
         ORDER BY namespace, key LIMIT ?",
    )?;
    let part = format!("/{call}/");
    let mut rows = select.query(params![namespace, key, MAX_ROWS_SCANNED])?;
    let (mut matching, mut count, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let kv_key: KvKey = (row.get(0)?, row.get(1)?);
        if format!("/{}/", kv_key.1).contains(&part) {
            matching.push(kv_key.clone());
        }
        (count, last) = (count + 1, Some(kv_key));
    }
    Ok((matching, last.filter(|_| count == MAX_ROWS_SCANNED)))
}

//! Events, checkpoints and dead letters in SQL.
//!
//! **Retention.** A run removes events that all consumers have acknowledged after
//! `journal.retention`, which is also the time for which redeliveries are recognized. It
//! removes other events and dead letters after `journal.max_age`. Beyond `journal.max_size`, it
//! removes acknowledged events at once, and the journal accepts only deferred appends. The size
//! counts rows and not the file, because free pages of the file are reused.
//!
//! **Dead letters** contain their event, so they outlive it in the journal. Redriving appends the
//! event again, for its consumer only.

use std::sync::Arc;

use rusqlite::types::{FromSqlError, ToSql};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use tokio::sync::oneshot;

use super::write_job::{WriteContext, WriteJob};
use super::writer_state::WriterState;
use crate::{
    AppendBatch, AppendMode, Checkpoint, DeadLetter, DeadLetterFilter, DeadLetters, JournalEvent,
    JournalPage, NewEvent, RetentionPolicy, Seq, StoreError, StoreStats,
};
use plugboard_core::call::Call;
use plugboard_core::event::{Event, EventBody, EventKind, EventKinds};
use plugboard_core::event_id::EventId;

/// The size of a page, in bytes, after which no further event is read.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// The maximum number of rows that one retention run removes from a table, because other writes
/// wait for it.
const MAX_ROWS_REMOVED: usize = 5_000;

/// The approximate memory of an event beside its texts, in bytes.
const EVENT_OVERHEAD: usize = 400;

const INSERT: &str =
    "INSERT INTO events (seq, identity, accepted, only, kind, timestamp, call, body)
    VALUES (?, ?, ?, NULL, ?, ?, ?, ?)";

const EVENT: &str = "seq, identity, accepted, only, kind, timestamp, call, body";

/// A job that appends the events of one request.
pub(super) struct AppendJob {
    pub(super) batch: AppendBatch,
    pub(super) mode: AppendMode,
    pub(super) inserted: Result<usize, StoreError>,
    pub(super) reply: oneshot::Sender<Result<usize, StoreError>>,
}

impl WriteJob for AppendJob {
    fn run(&mut self, work: &mut WriteContext<'_>) -> rusqlite::Result<()> {
        if work.state.is_full && self.mode == AppendMode::Acknowledged {
            self.inserted = Err(StoreError::Full);
            return Ok(());
        }
        self.inserted = Ok(write_batch(work, &self.batch)?);
        Ok(())
    }

    fn roll_back(&mut self, state: &mut WriterState) {
        if self.mode == AppendMode::Deferred && !state.defer(std::mem::take(&mut self.batch)) {
            self.inserted = Err(StoreError::Overloaded);
        }
    }

    fn size(&self) -> usize {
        self.batch.size()
    }

    fn is_deferred(&self) -> bool {
        self.mode == AppendMode::Deferred
    }

    fn complete(self: Box<Self>, outcome: Result<(), StoreError>) {
        // A dropped append reports that it was dropped, not why the transaction failed.
        _ = self.reply.send(match (outcome, self.inserted) {
            (Err(_), Err(deferred_error)) => Err(deferred_error),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), inserted) => inserted,
        });
    }
}

/// A deferred append. No caller waits for it.
pub(super) struct DeferredAppend(pub(super) AppendBatch);

impl WriteJob for DeferredAppend {
    fn run(&mut self, work: &mut WriteContext<'_>) -> rusqlite::Result<()> {
        write_batch(work, &self.0).map(drop)
    }

    fn complete(self: Box<Self>, _: Result<(), StoreError>) {}
}

/// Returns the number of new events.
fn write_batch(work: &mut WriteContext<'_>, batch: &AppendBatch) -> rusqlite::Result<usize> {
    if let Some(call) = &batch.call {
        super::calls::save(work, call)?;
    }
    batch.events.iter().try_fold(0, |new_count, new_event| {
        Ok(new_count + usize::from(insert_event(work, new_event)?))
    })
}

/// Returns whether the event was new.
fn insert_event(work: &mut WriteContext<'_>, new_event: &NewEvent) -> rusqlite::Result<bool> {
    if !work.state.insert_event_id(new_event.event_id) {
        return Ok(false);
    }
    let NewEvent { event_id: identity, accepted_at: accepted, event, call, body } = new_event;
    let seq = work.state.allocate_seq();
    work.state.record_append(Arc::new(JournalEvent {
        seq,
        event_id: *identity,
        accepted_at: *accepted,
        target: None,
        event: Arc::clone(event),
        size: new_event.size(),
    }));
    work.state.bytes_delta += row_bytes(call, body);
    let (kind, timestamp) = (event.body.kind().name(), event.timestamp_text());
    let values = params![seq, identity.0, accepted, kind, timestamp, &**call, body];
    work.db.prepare_cached(INSERT)?.execute(values)?;
    Ok(true)
}

/// Returns the size of a row, in bytes.
fn row_bytes(call: &str, body: &str) -> i64 {
    i64::try_from(call.len() + body.len() + 100).unwrap_or(i64::MAX)
}

/// Reads a page. `last` is the last sequence number at the time of the request.
pub(super) fn read_page(
    db: &Connection,
    after: Seq,
    limit: usize,
    last: Seq,
) -> rusqlite::Result<JournalPage> {
    let sql = format!("SELECT {EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?");
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query(params![after, limit])?;
    let mut page = JournalPage { events: Vec::new(), up_to: after };
    let (mut bytes, mut count) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        page.up_to = row.get(0)?;
        if let Some(event) = event_from_row(row)? {
            bytes += event.size;
            page.events.push(event);
        }
        if bytes > MAX_PAGE_BYTES {
            return Ok(page);
        }
    }
    if count < limit {
        // Covers the sequence numbers of removed events.
        page.up_to = page.up_to.max(last);
    }
    Ok(page)
}

pub(super) fn find_events(
    db: &Connection,
    seqs: &[Seq],
) -> rusqlite::Result<Vec<Arc<JournalEvent>>> {
    let mut select = db.prepare_cached(&format!("SELECT {EVENT} FROM events WHERE seq = ?"))?;
    let mut found = Vec::new();
    for seq in seqs {
        found.extend(select.query_row([seq], event_from_row).optional()?.flatten());
    }
    Ok(found)
}

/// Parses an event. `None`: this version does not understand it.
fn event_from_row(row: &Row<'_>) -> rusqlite::Result<Option<Arc<JournalEvent>>> {
    let seq = row.get(0)?;
    let (timestamp, call, body) = (row.get_ref(5)?, row.get_ref(6)?, row.get_ref(7)?);
    let (timestamp, call, body) = (timestamp.as_str()?, call.as_str()?, body.as_str()?);
    let parse = || -> Option<Event> {
        let call: Call = serde_json::from_str(call).ok()?;
        let body: EventBody = serde_json::from_str(body).ok()?;
        let timestamp = timestamp.parse().ok()?;
        Some(Event { call: Arc::new(call), timestamp, body, delivery_id: None })
    };
    let Some(event) = parse() else {
        tracing::error!(seq, "cannot read an event of the journal; skipping it");
        return Ok(None);
    };
    let only: Option<String> = row.get(3)?;
    let metadata = 100 * event.call.metadata.len();
    Ok(Some(Arc::new(JournalEvent {
        seq,
        event_id: EventId(row.get(1)?),
        accepted_at: row.get(2)?,
        target: only.map(Into::into),
        event: Arc::new(event),
        size: EVENT_OVERHEAD + metadata + 2 * (call.len() + body.len()),
    })))
}

// Statements for the checkpoints of consumers.

pub(super) fn consumers(db: &Connection) -> rusqlite::Result<Vec<(String, Checkpoint)>> {
    let mut select = db.prepare("SELECT name, position, undone, kinds, seen FROM observers")?;
    let rows = select.query_map([], |row| {
        let undone = row.get_ref(2)?.as_str()?;
        let checkpoint = Checkpoint {
            seq: row.get(1)?,
            unacked: serde_json::from_str(undone).map_err(FromSqlError::other)?,
            kinds: EventKinds::from_bits(row.get(3)?),
            last_seen: row.get(4)?,
        };
        Ok((row.get(0)?, checkpoint))
    })?;
    rows.collect()
}

pub(super) fn save_checkpoint(
    db: &Connection,
    name: &str,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<()> {
    let undone = serde_json::to_string(&checkpoint.unacked).unwrap_or_default();
    db.prepare_cached(
        "INSERT INTO observers (name, position, undone, kinds, seen) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET position = excluded.position,
            undone = excluded.undone, kinds = excluded.kinds, seen = excluded.seen",
    )?
    .execute(params![
        name,
        checkpoint.seq,
        undone,
        checkpoint.kinds.bits(),
        checkpoint.last_seen
    ])?;
    Ok(())
}

pub(super) fn remove_consumer(db: &Connection, name: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM observers WHERE name = ?", [name])?;
    Ok(())
}

// Statements for the dead-letter queue.

pub(super) fn add_dead_letter(
    work: &mut WriteContext<'_>,
    letter: &DeadLetter,
    event: &Event,
) -> rusqlite::Result<()> {
    let call = serde_json::to_string(&*event.call).unwrap_or_default();
    let body = serde_json::to_string(&event.body).unwrap_or_default();
    work.state.bytes_delta += row_bytes(&call, &body);
    let DeadLetter {
        consumer: observer,
        event_id: identity,
        kind,
        accepted_at: accepted,
        dead_lettered_at: at,
        attempts,
        error,
        ..
    } = letter;
    work.db
        .prepare_cached(
            "INSERT INTO dead
                (observer, identity, accepted, at, attempts, error, kind, timestamp, call, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            observer,
            identity.0,
            accepted,
            at,
            attempts,
            error,
            kind.name(),
            event.timestamp_text(),
            call,
            body
        ])?;
    Ok(())
}

const SELECTED: &str =
    "(:id IS NULL OR id = :id) AND (:observer IS NULL OR observer = :observer) AND id > :after";

pub(super) fn dead_letters(
    db: &Connection,
    filter: &DeadLetterFilter,
) -> rusqlite::Result<DeadLetters> {
    let DeadLetterFilter { id, consumer: observer, after_id: after, limit: most } = filter;
    let mut select = db.prepare(&format!(
        "SELECT id, observer, identity, kind, call, accepted, at, attempts, error
         FROM dead WHERE {SELECTED} ORDER BY id LIMIT :most"
    ))?;
    let values = named_params! {":id": id, ":observer": observer, ":after": after, ":most": most};
    let letters = select.query_map(values, |row| {
        let (observer, kind): (String, String) = (row.get(1)?, row.get(3)?);
        let call = serde_json::from_str::<Call>(row.get_ref(4)?.as_str()?);
        Ok(DeadLetter {
            id: row.get(0)?,
            consumer: observer.into(),
            event_id: EventId(row.get(2)?),
            kind: EventKind::from_name(&kind).unwrap_or(EventKind::Other),
            call: call.map(|call| call.id.to_string()).unwrap_or_default(),
            accepted_at: row.get(5)?,
            dead_lettered_at: row.get(6)?,
            attempts: row.get(7)?,
            error: row.get(8)?,
        })
    })?;
    let letters = letters.collect::<Result<_, _>>()?;
    let mut count = db.prepare("SELECT observer, count(*) FROM dead GROUP BY observer")?;
    let counts = count.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(DeadLetters { letters, totals: counts.collect::<Result<_, _>>()? })
}

pub(super) fn redrive_dead_letters(
    work: &mut WriteContext<'_>,
    filter: &DeadLetterFilter,
    now: i64,
) -> rusqlite::Result<u64> {
    let ids = selected_ids(work.db, filter, "observer IN (SELECT name FROM observers)")?;
    for id in &ids {
        let seq = work.state.allocate_seq();
        work.db
            .prepare_cached(
                "INSERT INTO events (seq, identity, accepted, only, kind, timestamp, call, body)
                 SELECT ?, identity, ?, observer, kind, timestamp, call, body
                 FROM dead WHERE id = ?",
            )?
            .execute(params![seq, now, id])?;
        let redriven = find_events(work.db, &[seq])?;
        work.db.prepare_cached("DELETE FROM dead WHERE id = ?")?.execute([id])?;
        for event in redriven {
            work.state.record_append(event);
        }
    }
    Ok(ids.len() as u64)
}

pub(super) fn purge_dead_letters(
    work: &mut WriteContext<'_>,
    filter: &DeadLetterFilter,
) -> rusqlite::Result<u64> {
    let ids = selected_ids(work.db, filter, "true")?;
    for id in &ids {
        let sql = format!("DELETE FROM dead WHERE id = ? RETURNING {ROW_BYTES}");
        let bytes: i64 = work.db.prepare_cached(&sql)?.query_row([id], |row| row.get(0))?;
        work.state.bytes_delta -= bytes;
    }
    Ok(ids.len() as u64)
}

/// Returns the numbers of the selected dead letters for which an SQL condition holds.
fn selected_ids(
    db: &Connection,
    filter: &DeadLetterFilter,
    also: &str,
) -> rusqlite::Result<Vec<i64>> {
    let DeadLetterFilter { id, consumer: observer, after_id: after, limit: most } = filter;
    let sql = format!("SELECT id FROM dead WHERE {SELECTED} AND {also} ORDER BY id LIMIT :most");
    let mut select = db.prepare(&sql)?;
    let values = named_params! {":id": id, ":observer": observer, ":after": after, ":most": most};
    select.query_map(values, |row| row.get(0))?.collect()
}

// Statements for the retention of events.

/// The size of a row in SQL, equal to that of [`row_bytes`].
pub(super) const ROW_BYTES: &str = "octet_length(call) + octet_length(body) + 100";

pub(super) fn enforce_retention(
    work: &mut WriteContext<'_>,
    policy: &RetentionPolicy,
    now: i64,
) -> rusqlite::Result<StoreStats> {
    let RetentionPolicy { acked_up_to: done, retain_since: keep_since, expire_before, max_size } =
        policy;
    let db = work.db;
    // Only the first rows, so that a run is short; further runs remove the rest.
    const HEAD: &str = "SELECT seq FROM
        (SELECT seq, accepted FROM events ORDER BY seq LIMIT :most)";
    let remove = |sql: &str, values: &[(&str, &dyn ToSql)]| {
        let mut delete = db.prepare_cached(&format!("{sql} RETURNING {ROW_BYTES}"))?;
        let rows = delete.query_map(values, |row| row.get::<_, i64>(0))?;
        let (mut count, mut bytes) = (0, 0);
        for row in rows {
            count += 1;
            bytes += row?;
        }
        Ok::<_, rusqlite::Error>((count, bytes))
    };
    let (removed, done_bytes) = remove(
        &format!(
            "DELETE FROM events WHERE seq IN ({HEAD} WHERE seq <= :done AND accepted < :before)"
        ),
        named_params! {":most": MAX_ROWS_REMOVED, ":done": done, ":before": keep_since},
    )?;
    let (expired, expired_bytes) = remove(
        &format!("DELETE FROM events WHERE seq IN ({HEAD} WHERE accepted < :before)"),
        named_params! {":most": MAX_ROWS_REMOVED, ":before": expire_before},
    )?;
    let (_, dead_bytes) = remove(
        "DELETE FROM dead WHERE id IN
            (SELECT id FROM (SELECT id, at FROM dead ORDER BY id LIMIT :most) WHERE at < :before)",
        named_params! {":most": MAX_ROWS_REMOVED, ":before": expire_before},
    )?;
    work.state.bytes_delta -= done_bytes + expired_bytes + dead_bytes;
    super::kv::remove_expired(work, None, now)?;
    super::calls::remove_expired(work, now)?;
    let mut stats = stats(work.db)?;
    stats.bytes = work.state.journal_bytes.saturating_add_signed(work.state.bytes_delta);
    work.state.is_full = stats.bytes > *max_size;
    stats.expired = expired as u64;
    stats.has_more = removed == MAX_ROWS_REMOVED || expired == MAX_ROWS_REMOVED;
    Ok(stats)
}

/// Returns the size of the store.
fn stats(db: &Connection) -> rusqlite::Result<StoreStats> {
    let pragma = |name: &str| {
        let value: i64 = db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>(u64::try_from(value).unwrap_or(0))
    };
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    let (first, last): (Seq, Seq) = db.query_row(
        "SELECT coalesce((SELECT min(seq) FROM events), 1),
                coalesce((SELECT max(seq) FROM events), 0)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(StoreStats {
        // Sequence numbers have few gaps, and counting would read all rows.
        events: u64::try_from(last + 1 - first).unwrap_or(0),
        total_bytes: pages * pragma("page_size")?,
        ..StoreStats::default()
    })
}

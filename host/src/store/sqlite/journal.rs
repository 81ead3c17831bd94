//! Events, observers and dead letters in SQL.

use std::sync::Arc;

use rusqlite::types::{FromSqlError, ToSql};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use tokio::sync::oneshot;

use super::state::State;
use super::writer::{Job, Work};
use crate::event::{Call, Event, EventBody, EventKind, Kinds};
use crate::store::{
    DeadLetter, DeadLetters, Debt, Figures, Identity, Page, Progress, Record, Selection, Seq,
    StoreError, Stored, Upkeep, Writes,
};

/// Bytes of one page, beyond which no further event is read.
const PAGE_BYTES: usize = 4 << 20;

/// Rows that one upkeep removes from a table: others wait for it.
const MOST_REMOVED: usize = 5_000;

/// What an event takes in memory beside its texts, roughly.
const OVERHEAD: usize = 400;

const INSERT: &str =
    "INSERT INTO events (seq, identity, accepted, only, kind, timestamp, call, body)
    VALUES (?, ?, ?, NULL, ?, ?, ?, ?)";

const EVENT: &str = "seq, identity, accepted, only, kind, timestamp, call, body";

/// Events to be appended.
pub(super) struct Append {
    pub(super) writes: Writes,
    pub(super) debt: Debt,
    pub(super) new: Result<usize, StoreError>,
    pub(super) reply: oneshot::Sender<Result<usize, StoreError>>,
}

impl Job for Append {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        if work.state.full && self.debt == Debt::None {
            self.new = Err(StoreError::Full);
            return Ok(());
        }
        self.new = Ok(write(work, &self.writes)?);
        Ok(())
    }

    fn undone(&mut self, state: &mut State) {
        if self.debt == Debt::Owed && !state.owe(std::mem::take(&mut self.writes)) {
            self.new = Err(StoreError::Overloaded);
        }
    }

    fn size(&self) -> usize {
        self.writes.size()
    }

    fn is_owed(&self) -> bool {
        self.debt == Debt::Owed
    }

    fn done(self: Box<Self>, outcome: Result<(), StoreError>) {
        // What is lost is told so, and not what was in its way.
        _ = self.reply.send(match (outcome, self.new) {
            (Err(_), Err(lost)) => Err(lost),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), new) => new,
        });
    }
}

/// What is owed, for a transaction. Nobody waits for it.
pub(super) struct Debtor(pub(super) Writes);

impl Job for Debtor {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        write(work, &self.0).map(drop)
    }

    fn done(self: Box<Self>, _: Result<(), StoreError>) {}
}

/// How many events were new.
fn write(work: &mut Work<'_>, writes: &Writes) -> rusqlite::Result<usize> {
    if let Some(call) = &writes.call {
        super::calls::remember(work, call)?;
    }
    writes.events.iter().try_fold(0, |new, record| Ok(new + usize::from(insert(work, record)?)))
}

/// Whether it was new.
fn insert(work: &mut Work<'_>, record: &Record) -> rusqlite::Result<bool> {
    if !work.state.is_new(record.identity) {
        return Ok(false);
    }
    let Record { identity, accepted, event, call, body } = record;
    let seq = work.state.place();
    work.state.appended(Arc::new(Stored {
        seq,
        identity: *identity,
        accepted: *accepted,
        only: None,
        event: Arc::clone(event),
        size: record.size(),
    }));
    work.state.change += row_bytes(call, body);
    let (kind, timestamp) = (event.body.kind().name(), event.timestamp_text());
    let values = params![seq, identity.0, accepted, kind, timestamp, &**call, body];
    work.db.prepare_cached(INSERT)?.execute(values)?;
    Ok(true)
}

/// What a row counts for.
fn row_bytes(call: &str, body: &str) -> i64 {
    i64::try_from(call.len() + body.len() + 100).unwrap_or(i64::MAX)
}

/// A page; `last` is the last place that was written when it was asked for.
pub(super) fn read(db: &Connection, after: Seq, most: usize, last: Seq) -> rusqlite::Result<Page> {
    let sql = format!("SELECT {EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?");
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query(params![after, most])?;
    let mut page = Page { events: Vec::new(), reaches: after };
    let (mut bytes, mut count) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        page.reaches = row.get(0)?;
        if let Some(event) = event(row)? {
            bytes += event.size;
            page.events.push(event);
        }
        if bytes > PAGE_BYTES {
            return Ok(page);
        }
    }
    if count < most {
        // There is nothing else, though there may have been.
        page.reaches = page.reaches.max(last);
    }
    Ok(page)
}

pub(super) fn find(db: &Connection, seqs: &[Seq]) -> rusqlite::Result<Vec<Arc<Stored>>> {
    let mut select = db.prepare_cached(&format!("SELECT {EVENT} FROM events WHERE seq = ?"))?;
    let mut found = Vec::new();
    for seq in seqs {
        found.extend(select.query_row([seq], event).optional()?.flatten());
    }
    Ok(found)
}

/// An event of the journal. None: it is not what this version understands.
fn event(row: &Row<'_>) -> rusqlite::Result<Option<Arc<Stored>>> {
    let seq = row.get(0)?;
    let (timestamp, call, body) = (row.get_ref(5)?, row.get_ref(6)?, row.get_ref(7)?);
    let (timestamp, call, body) = (timestamp.as_str()?, call.as_str()?, body.as_str()?);
    let read = || -> Option<Event> {
        let call: Call = serde_json::from_str(call).ok()?;
        let body: EventBody = serde_json::from_str(body).ok()?;
        let timestamp = timestamp.parse().ok()?;
        Some(Event { call: Arc::new(call), timestamp, body, delivery: None })
    };
    let Some(event) = read() else {
        tracing::error!(seq, "an event of the journal is not understood, and is left out");
        return Ok(None);
    };
    let only: Option<String> = row.get(3)?;
    let metadata = 100 * event.call.metadata.len();
    Ok(Some(Arc::new(Stored {
        seq,
        identity: Identity(row.get(1)?),
        accepted: row.get(2)?,
        only: only.map(Into::into),
        event: Arc::new(event),
        size: OVERHEAD + metadata + 2 * (call.len() + body.len()),
    })))
}

// === Observers ===

pub(super) fn observers(db: &Connection) -> rusqlite::Result<Vec<(String, Progress)>> {
    let mut select = db.prepare("SELECT name, position, undone, kinds, seen FROM observers")?;
    let rows = select.query_map([], |row| {
        let undone = row.get_ref(2)?.as_str()?;
        let progress = Progress {
            position: row.get(1)?,
            undone: serde_json::from_str(undone).map_err(FromSqlError::other)?,
            kinds: Kinds::from_bits(row.get(3)?),
            seen: row.get(4)?,
        };
        Ok((row.get(0)?, progress))
    })?;
    rows.collect()
}

pub(super) fn save(db: &Connection, name: &str, progress: &Progress) -> rusqlite::Result<()> {
    let undone = serde_json::to_string(&progress.undone).unwrap_or_default();
    db.prepare_cached(
        "INSERT INTO observers (name, position, undone, kinds, seen) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET position = excluded.position,
            undone = excluded.undone, kinds = excluded.kinds, seen = excluded.seen",
    )?
    .execute(params![
        name,
        progress.position,
        undone,
        progress.kinds.bits(),
        progress.seen
    ])?;
    Ok(())
}

pub(super) fn forget(db: &Connection, name: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM observers WHERE name = ?", [name])?;
    Ok(())
}

// === Dead letters ===

pub(super) fn bury(
    work: &mut Work<'_>,
    letter: &DeadLetter,
    event: &Event,
) -> rusqlite::Result<()> {
    let call = serde_json::to_string(&*event.call).unwrap_or_default();
    let body = serde_json::to_string(&event.body).unwrap_or_default();
    work.state.change += row_bytes(&call, &body);
    let DeadLetter { observer, identity, kind, accepted, at, attempts, error, .. } = letter;
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

pub(super) fn dead(db: &Connection, selection: &Selection) -> rusqlite::Result<DeadLetters> {
    let Selection { id, observer, after, most } = selection;
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
            observer: observer.into(),
            identity: Identity(row.get(2)?),
            kind: EventKind::named(&kind).unwrap_or(EventKind::Other),
            call: call.map(|call| call.id).unwrap_or_default(),
            accepted: row.get(5)?,
            at: row.get(6)?,
            attempts: row.get(7)?,
            error: row.get(8)?,
        })
    })?;
    let letters = letters.collect::<Result<_, _>>()?;
    let mut count = db.prepare("SELECT observer, count(*) FROM dead GROUP BY observer")?;
    let counts = count.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(DeadLetters { letters, total: counts.collect::<Result<_, _>>()? })
}

pub(super) fn revive(
    work: &mut Work<'_>,
    selection: &Selection,
    now: i64,
) -> rusqlite::Result<u64> {
    let ids = selected(work.db, selection, "observer IN (SELECT name FROM observers)")?;
    for id in &ids {
        let seq = work.state.place();
        work.db
            .prepare_cached(
                "INSERT INTO events (seq, identity, accepted, only, kind, timestamp, call, body)
                 SELECT ?, identity, ?, observer, kind, timestamp, call, body
                 FROM dead WHERE id = ?",
            )?
            .execute(params![seq, now, id])?;
        let stored = find(work.db, &[seq])?;
        work.db.prepare_cached("DELETE FROM dead WHERE id = ?")?.execute([id])?;
        for event in stored {
            work.state.appended(event);
        }
    }
    Ok(ids.len() as u64)
}

pub(super) fn discard(work: &mut Work<'_>, selection: &Selection) -> rusqlite::Result<u64> {
    let ids = selected(work.db, selection, "true")?;
    for id in &ids {
        let sql = format!("DELETE FROM dead WHERE id = ? RETURNING {ROW_BYTES}");
        let bytes: i64 = work.db.prepare_cached(&sql)?.query_row([id], |row| row.get(0))?;
        work.state.change -= bytes;
    }
    Ok(ids.len() as u64)
}

/// The numbers of the selected dead letters for which a condition holds.
fn selected(db: &Connection, selection: &Selection, also: &str) -> rusqlite::Result<Vec<i64>> {
    let Selection { id, observer, after, most } = selection;
    let sql = format!("SELECT id FROM dead WHERE {SELECTED} AND {also} ORDER BY id LIMIT :most");
    let mut select = db.prepare(&sql)?;
    let values = named_params! {":id": id, ":observer": observer, ":after": after, ":most": most};
    select.query_map(values, |row| row.get(0))?.collect()
}

// === Upkeep ===

/// As [`row_bytes`].
pub(super) const ROW_BYTES: &str = "octet_length(call) + octet_length(body) + 100";

pub(super) fn tidy(work: &mut Work<'_>, upkeep: &Upkeep, now: i64) -> rusqlite::Result<Figures> {
    let Upkeep { done, keep_since, expire_before, max_size } = upkeep;
    let db = work.db;
    // Of the first ones only, so that it never takes long; it comes again.
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
        named_params! {":most": MOST_REMOVED, ":done": done, ":before": keep_since},
    )?;
    let (expired, expired_bytes) = remove(
        &format!("DELETE FROM events WHERE seq IN ({HEAD} WHERE accepted < :before)"),
        named_params! {":most": MOST_REMOVED, ":before": expire_before},
    )?;
    let (_, dead_bytes) = remove(
        "DELETE FROM dead WHERE id IN
            (SELECT id FROM (SELECT id, at FROM dead ORDER BY id LIMIT :most) WHERE at < :before)",
        named_params! {":most": MOST_REMOVED, ":before": expire_before},
    )?;
    work.state.change -= done_bytes + expired_bytes + dead_bytes;
    super::kv::expire(work, None, now)?;
    super::calls::expire(work, now)?;
    let mut figures = figures(work.db)?;
    figures.bytes = work.state.journal_bytes.saturating_add_signed(work.state.change);
    work.state.full = figures.bytes > *max_size;
    figures.expired = expired as u64;
    figures.more = removed == MOST_REMOVED || expired == MOST_REMOVED;
    Ok(figures)
}

/// How much there is.
fn figures(db: &Connection) -> rusqlite::Result<Figures> {
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
    Ok(Figures {
        // Places have few gaps; counting would read everything.
        events: u64::try_from(last + 1 - first).unwrap_or(0),
        total_bytes: pages * pragma("page_size")?,
        ..Figures::default()
    })
}

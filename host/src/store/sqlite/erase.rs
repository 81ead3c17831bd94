//! Erasing a call. What may be much is looked for by a reader, and removed by the
//! writer, in slices, so that nobody waits for long. There is no index on calls,
//! which every event would have to pay for: the journal is read from end to end.
//!
//! Removed is not yet unreadable: `secure_delete` overwrites it in the pages, and
//! the write-ahead log, which has the pages as they were, is emptied at the end.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::reader::Reader;
use super::writer::{Work, Writer};
use super::{Sqlite, checkpoint, journal, kv};
use crate::event::Platform;
use crate::store::erase::{CallName, Erased, Reach};
use crate::store::{Pending, Seq, StoreError};

/// Rows that are looked at in one go: some milliseconds.
const MOST_READ: usize = 2_000;

/// Rows that are removed in one transaction: the same.
const MOST_REMOVED: usize = 500;

/// How often to try emptying the log while somebody reads it, and how long to wait
/// in between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// A table of events.
#[derive(Clone, Copy)]
enum Table {
    /// The journal.
    Events,
    /// Dead letters.
    Dead,
}

/// Erases everything about a call but plugins' values.
pub(super) fn call(store: &Sqlite, call: CallName) -> Pending<Erased> {
    // Asked at once, so that it comes after what was asked before.
    let named = call.clone();
    let begun = store.writer.ask(move |work| {
        let calls = forget(work, &named)?;
        Ok((work.state.last(), calls))
    });
    let (eraser, shared) = (Eraser::of(store), Arc::clone(&store.shared));
    goes_on(async move {
        let (up_to, calls) = begun.await?;
        let dead = eraser.erase(Table::Dead, &call, |_| true, Seq::MAX).await?;
        // Meanwhile some of them may have been appended once more.
        let revived_up_to = eraser.writer.ask(|work| Ok(work.state.last())).await?;
        let reach = Reach { up_to, revived_up_to };
        let is_erased = move |row: &Row| row.number <= up_to || row.only;
        let events = eraser.erase(Table::Events, &call, is_erased, revived_up_to).await?;
        shared.tail.erase(|event| reach.has(event) && call.means(&event.event.call));
        Ok(Erased { events, dead, calls, reach })
    })
}

/// Erases plugins' values about a call. How many.
pub(super) fn values(store: &Sqlite, call: Arc<str>) -> Pending<u64> {
    let begun = store.writer.ask(|_| Ok(()));
    let eraser = Eraser::of(store);
    goes_on(async move {
        begun.await?;
        let mut after = Some((String::new(), String::new()));
        let mut removed = 0;
        while let Some(from) = after {
            let call = Arc::clone(&call);
            let (found, next) = eraser.reader.ask(move |db| keys(db, &call, &from)).await?;
            after = next;
            for slice in found.chunks(MOST_REMOVED) {
                let slice = slice.to_vec();
                let remove = move |work: &mut Work<'_>| {
                    slice.iter().try_fold(0, |removed, (namespace, key)| {
                        Ok(removed + u64::from(kv::remove(work, namespace, key)?))
                    })
                };
                removed += eraser.writer.ask(remove).await?;
            }
        }
        Ok(removed)
    })
}

/// Leaves nothing in the write-ahead log.
pub(super) fn scrub(store: &Sqlite) -> Pending<()> {
    let (writer, path) = (store.writer.clone(), store.shared.path.clone());
    goes_on(async move {
        for _ in 0..TRIES {
            // Most of it without anybody waiting.
            let moved = path.clone();
            _ = tokio::task::spawn_blocking(move || checkpoint::move_log(&moved)).await;
            if writer.empty_log().await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let path = path.display();
        let why = format!(
            "{path}: its write-ahead log, which may still have what was removed, cannot be \
             emptied while somebody reads it (a backup, or another tool?)"
        );
        Err(StoreError::Unavailable(why.into()))
    })
}

/// Goes on whether anybody waits for it or not.
fn goes_on<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Pending<T> {
    let work = tokio::spawn(work);
    Box::pin(async { work.await.unwrap_or(Err(StoreError::Closed)) })
}

/// The two threads that it takes.
struct Eraser {
    writer: Writer,
    reader: Reader,
}

impl Eraser {
    fn of(store: &Sqlite) -> Self {
        Self { writer: store.writer.clone(), reader: store.pages.clone() }
    }

    /// Erases rows of a call, up to a number. How many.
    async fn erase(
        &self,
        table: Table,
        call: &CallName,
        is_erased: impl Fn(&Row) -> bool,
        up_to: i64,
    ) -> Result<u64, StoreError> {
        let (mut after, mut removed) = (0, 0);
        loop {
            let named = call.clone();
            let look = move |db: &Connection| rows(db, table, &named, after, up_to);
            let Rows { mut found, count, last } = self.reader.ask(look).await?;
            found.retain(&is_erased);
            for slice in found.chunks(MOST_REMOVED) {
                let numbers: Vec<i64> = slice.iter().map(|row| row.number).collect();
                let remove = move |work: &mut Work<'_>| remove(work, table, &numbers);
                removed += self.writer.ask(remove).await?;
            }
            if count < MOST_READ {
                return Ok(removed);
            }
            after = last;
        }
    }
}

/// A row of the call.
struct Row {
    number: i64,
    /// Whether it is for one observer alone.
    only: bool,
}

/// What was found, among how many, and the last of them.
struct Rows {
    found: Vec<Row>,
    count: usize,
    last: i64,
}

/// As much of a call as tells which one it is.
#[derive(Deserialize)]
struct Named {
    id: String,
    platform: serde_json::Value,
}

/// The call's rows among the next ones.
fn rows(
    db: &Connection,
    table: Table,
    call: &CallName,
    after: i64,
    up_to: i64,
) -> rusqlite::Result<Rows> {
    // Most calls are another one, as their text does not even have the id.
    let mut select = db.prepare_cached(match table {
        Table::Events => {
            "SELECT seq, only IS NOT NULL, iif(instr(call, ?3), call, NULL) FROM events
             WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?4"
        }
        Table::Dead => {
            "SELECT id, false, iif(instr(call, ?3), call, NULL) FROM dead
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?4"
        }
    })?;
    // As it is written in the call's JSON.
    let id = serde_json::to_string(&**call.id()).unwrap_or_default();
    let mut rows = select.query(params![after, up_to, id, MOST_READ])?;
    let mut read = Rows { found: Vec::new(), count: 0, last: after };
    while let Some(row) = rows.next()? {
        (read.count, read.last) = (read.count + 1, row.get(0)?);
        let text = row.get_ref(2)?.as_str_or_null()?;
        if text.is_some_and(|text| is_meant(call, text)) {
            read.found.push(Row { number: read.last, only: row.get(1)? });
        }
    }
    Ok(read)
}

/// Whether this JSON is the call's; other calls may have its id in them.
fn is_meant(call: &CallName, text: &str) -> bool {
    let Ok(Named { id, platform }) = serde_json::from_str(text) else { return false };
    let family = || Platform::deserialize(platform).map(|platform| platform.family).ok();
    id == **call.id() && (call.family().is_none() || call.family() == family())
}

fn remove(work: &mut Work<'_>, table: Table, numbers: &[i64]) -> rusqlite::Result<u64> {
    let which = match table {
        Table::Events => "events WHERE seq",
        Table::Dead => "dead WHERE id",
    };
    let sql = format!("DELETE FROM {which} = ? RETURNING {}", journal::ROW_BYTES);
    let mut delete = work.db.prepare_cached(&sql)?;
    let mut removed = 0;
    for number in numbers {
        // Somebody else may have removed it.
        let bytes: Option<i64> = delete.query_row([number], |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            work.state.change -= bytes;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Forgets what is remembered of a call. How many there were of that name.
fn forget(work: &mut Work<'_>, call: &CallName) -> rusqlite::Result<u64> {
    let families = match call.family() {
        Some(family) => vec![family.to_owned()],
        None => families(work.db)?,
    };
    let mut delete = work.db.prepare_cached("DELETE FROM calls WHERE key = ?")?;
    families.iter().try_fold(0, |removed, family| {
        Ok(removed + delete.execute([format!("{family}/{}", call.id())])? as u64)
    })
}

/// The families that any call is remembered of: a look-up for each of the few, and
/// not for each call.
fn families(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut next = db.prepare_cached("SELECT min(key) FROM calls WHERE key >= ?")?;
    let mut families = Vec::new();
    let mut from = String::new();
    while let Some(key) = next.query_row([&from], |row| row.get::<_, Option<String>>(0))? {
        let family = key.split('/').next().unwrap_or_default();
        // `0` comes after the slash.
        from = format!("{family}0");
        families.push(family.to_owned());
    }
    Ok(families)
}

/// A namespace and a key.
type Place = (String, String);

/// The keys about a call among the next ones; and where to go on, if there are
/// more.
fn keys(
    db: &Connection,
    call: &str,
    (namespace, key): &Place,
) -> rusqlite::Result<(Vec<Place>, Option<Place>)> {
    let mut select = db.prepare_cached(
        "SELECT namespace, key FROM kv WHERE (namespace, key) > (?, ?)
         ORDER BY namespace, key LIMIT ?",
    )?;
    let part = format!("/{call}/");
    let mut rows = select.query(params![namespace, key, MOST_READ])?;
    let (mut found, mut count, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let place: Place = (row.get(0)?, row.get(1)?);
        if format!("/{}/", place.1).contains(&part) {
            found.push(place.clone());
        }
        (count, last) = (count + 1, Some(place));
    }
    Ok((found, last.filter(|_| count == MOST_READ)))
}

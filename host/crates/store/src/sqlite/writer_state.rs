//! What the writing thread knows beside the file, so that it need not ask it for
//! every event.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::{AppendBatch, JournalEvent, Seq, unix_ago};
use plugboard_core::event_id::EventId;

/// Identities that are remembered in each of the two sets.
const MAX_RECENT_IDS: usize = 500_000;

/// Decisions that are held when they cannot be written and nobody sends them
/// again; and their memory in bytes.
const MAX_DEFERRED: usize = 10_000;
const MAX_DEFERRED_BYTES: usize = 32 << 20;

/// See the [module](self).
pub(super) struct WriterState {
    /// Of the next event.
    next_seq: Seq,
    /// The last event when the file was first opened.
    last_seq_before_start: Option<Seq>,
    recent_ids: RecentEventIds,
    /// Bytes of the values in a namespace, as far as they were counted.
    pub(super) kv_bytes: HashMap<Arc<str>, usize>,
    /// What this transaction appended.
    appended: Vec<Arc<JournalEvent>>,
    deferred: VecDeque<AppendBatch>,
    deferred_bytes: usize,
    /// Bytes of events and dead letters.
    pub(super) journal_bytes: u64,
    /// What the transaction does to them.
    pub(super) bytes_delta: i64,
    /// Bytes of what is remembered of calls, at the most.
    pub(super) call_bytes: u64,
    /// Whether the operator's bound is reached.
    pub(super) is_full: bool,
}

impl WriterState {
    pub(super) fn new(retention: Duration) -> Self {
        Self {
            next_seq: 1,
            last_seq_before_start: None,
            recent_ids: RecentEventIds::new(retention),
            kv_bytes: HashMap::new(),
            appended: Vec::new(),
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            journal_bytes: 0,
            bytes_delta: 0,
            call_bytes: 0,
            is_full: false,
        }
    }

    /// Reads from the file what goes on from there.
    pub(super) fn load(&mut self, db: &Connection) -> rusqlite::Result<()> {
        // A number is never used twice, also when all events are gone: observers
        // remember how far they are.
        let last: Option<Seq> = db.query_row(
            "SELECT max((SELECT coalesce(max(seq), 0) FROM events),
                        (SELECT coalesce(max(position), 0) FROM observers))",
            [],
            |row| row.get(0),
        )?;
        self.next_seq = self.next_seq.max(last.unwrap_or(0) + 1);
        self.last_seq_before_start.get_or_insert(self.next_seq - 1);
        let mut select = db.prepare(
            "SELECT identity, accepted FROM events WHERE only IS NULL ORDER BY seq DESC LIMIT ?",
        )?;
        let mut rows = select.query([MAX_RECENT_IDS])?;
        let oldest = unix_ago(self.recent_ids.retention);
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? < oldest {
                break;
            }
            self.recent_ids.insert(EventId(row.get(0)?));
        }
        self.kv_bytes.clear();
        // Kept with every transaction: to count anew would read everything.
        let bytes = db.query_row("SELECT events_and_dead FROM sums", [], |row| row.get(0));
        self.journal_bytes = bytes.or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(0),
            error => Err(error),
        })?;
        // Counted when upkeep first looks.
        self.call_bytes = u64::MAX;
        Ok(())
    }

    /// Whether an event is new. It is known from now on.
    pub(super) fn insert_event_id(&mut self, identity: EventId) -> bool {
        self.recent_ids.insert(identity)
    }

    /// The place of the next event.
    pub(super) fn allocate_seq(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The last event of earlier runs.
    pub(super) fn last_seq_before_start(&self) -> Seq {
        self.last_seq_before_start.unwrap_or(0)
    }

    /// The last event's place.
    pub(super) fn last_seq(&self) -> Seq {
        self.next_seq - 1
    }

    /// An event was appended by this transaction, if it comes to its end.
    pub(super) fn record_append(&mut self, event: Arc<JournalEvent>) {
        self.appended.push(event);
    }

    /// Whether something has to be written though nobody asks.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// How much.
    pub(super) fn deferred_count(&self) -> Option<usize> {
        self.has_deferred().then_some(self.deferred.len())
    }

    /// The first of what is owed, to be written in one transaction.
    pub(super) fn deferred_batches(&self, limit: usize) -> Vec<AppendBatch> {
        self.deferred.iter().take(limit).cloned().collect()
    }

    /// So much of it is written.
    pub(super) fn remove_deferred(&mut self, count: usize) {
        for writes in self.deferred.drain(..count.min(self.deferred.len())) {
            self.deferred_bytes = self.deferred_bytes.saturating_sub(writes.size());
        }
    }

    /// Holds what could not be written. Whether there was room.
    pub(super) fn defer(&mut self, batch: AppendBatch) -> bool {
        let bytes = self.deferred_bytes + batch.size();
        if self.deferred.len() >= MAX_DEFERRED || bytes > MAX_DEFERRED_BYTES {
            return false;
        }
        self.deferred_bytes = bytes;
        self.deferred.push_back(batch);
        true
    }

    /// The transaction is durable: what it appended.
    pub(super) fn commit(&mut self) -> Vec<Arc<JournalEvent>> {
        self.journal_bytes = self.journal_bytes.saturating_add_signed(self.bytes_delta);
        self.bytes_delta = 0;
        std::mem::take(&mut self.appended)
    }

    /// The transaction has not happened.
    pub(super) fn roll_back(&mut self) {
        for event in self.appended.drain(..) {
            // What is for one observer alone was never looked up.
            if event.target.is_none() {
                self.recent_ids.remove(event.event_id);
            }
            self.next_seq = self.next_seq.min(event.seq);
        }
        self.bytes_delta = 0;
        self.kv_bytes.clear();
    }
}

/// The identities of the last events: two sets, of which the older one is
/// dropped as a whole.
struct RecentEventIds {
    retention: Duration,
    rotated_at: Instant,
    newer: HashSet<EventId>,
    older: HashSet<EventId>,
}

impl RecentEventIds {
    fn new(retention: Duration) -> Self {
        Self { retention, rotated_at: Instant::now(), newer: HashSet::new(), older: HashSet::new() }
    }

    /// Whether it is new.
    fn insert(&mut self, identity: EventId) -> bool {
        if self.newer.len() >= MAX_RECENT_IDS || self.rotated_at.elapsed() > self.retention {
            self.older = std::mem::take(&mut self.newer);
            self.rotated_at = Instant::now();
        }
        !self.older.contains(&identity) && self.newer.insert(identity)
    }

    fn remove(&mut self, identity: EventId) {
        self.newer.remove(&identity);
        self.older.remove(&identity);
    }
}

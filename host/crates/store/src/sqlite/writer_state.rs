//! In-memory state of the writer thread, so that it does not query the file for every event.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::{AppendBatch, JournalEvent, Seq, unix_ago};
use plugboard_core::event_id::EventId;

/// The maximum number of event ids in each of the two sets.
const MAX_RECENT_IDS: usize = 500_000;

/// The maximum number of deferred appends, and their memory in bytes.
const MAX_DEFERRED: usize = 10_000;
const MAX_DEFERRED_BYTES: usize = 32 << 20;

/// State of the writer thread, see the [module](self).
pub(super) struct WriterState {
    /// The sequence number of the next event.
    next_seq: Seq,
    /// The last sequence number when the file was first opened.
    last_seq_before_start: Option<Seq>,
    recent_ids: RecentEventIds,
    /// The size of the values in a namespace, in bytes, after the first count.
    pub(super) kv_bytes: HashMap<Arc<str>, usize>,
    /// The events of the current transaction.
    appended: Vec<Arc<JournalEvent>>,
    deferred: VecDeque<AppendBatch>,
    deferred_bytes: usize,
    /// The size of events and dead letters, in bytes.
    pub(super) journal_bytes: u64,
    /// The change of `journal_bytes` by the current transaction.
    pub(super) bytes_delta: i64,
    /// An upper bound of the size of call contexts, in bytes.
    pub(super) call_bytes: u64,
    /// True if the journal has reached its limit.
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

    /// Loads the state from a file that was opened.
    pub(super) fn load(&mut self, db: &Connection) -> rusqlite::Result<()> {
        // A sequence number is never reused, even if all events are removed, because
        // checkpoints refer to it.
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
        // Every transaction updates it, because counting would read all rows.
        let bytes = db.query_row("SELECT events_and_dead FROM sums", [], |row| row.get(0));
        self.journal_bytes = bytes.or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(0),
            error => Err(error),
        })?;
        // The first retention run replaces this bound by a count.
        self.call_bytes = u64::MAX;
        Ok(())
    }

    /// Adds an event id to the recent ones. Returns whether it was new.
    pub(super) fn insert_event_id(&mut self, identity: EventId) -> bool {
        self.recent_ids.insert(identity)
    }

    /// Returns the next sequence number.
    pub(super) fn allocate_seq(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Returns the last sequence number of earlier runs.
    pub(super) fn last_seq_before_start(&self) -> Seq {
        self.last_seq_before_start.unwrap_or(0)
    }

    /// Returns the last sequence number.
    pub(super) fn last_seq(&self) -> Seq {
        self.next_seq - 1
    }

    /// Adds an event to the current transaction.
    pub(super) fn record_append(&mut self, event: Arc<JournalEvent>) {
        self.appended.push(event);
    }

    /// Returns whether there are deferred appends.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Returns the number of deferred appends, if there are any.
    pub(super) fn deferred_count(&self) -> Option<usize> {
        self.has_deferred().then_some(self.deferred.len())
    }

    /// Returns the first deferred appends, for one transaction.
    pub(super) fn deferred_batches(&self, limit: usize) -> Vec<AppendBatch> {
        self.deferred.iter().take(limit).cloned().collect()
    }

    /// Removes the first deferred appends after they were written.
    pub(super) fn remove_deferred(&mut self, count: usize) {
        for writes in self.deferred.drain(..count.min(self.deferred.len())) {
            self.deferred_bytes = self.deferred_bytes.saturating_sub(writes.size());
        }
    }

    /// Holds an append that could not be written. Returns whether there was room.
    pub(super) fn defer(&mut self, batch: AppendBatch) -> bool {
        let bytes = self.deferred_bytes + batch.size();
        if self.deferred.len() >= MAX_DEFERRED || bytes > MAX_DEFERRED_BYTES {
            return false;
        }
        self.deferred_bytes = bytes;
        self.deferred.push_back(batch);
        true
    }

    /// Ends a transaction that is durable. Returns its events.
    pub(super) fn commit(&mut self) -> Vec<Arc<JournalEvent>> {
        self.journal_bytes = self.journal_bytes.saturating_add_signed(self.bytes_delta);
        self.bytes_delta = 0;
        std::mem::take(&mut self.appended)
    }

    /// Ends a transaction that failed.
    pub(super) fn roll_back(&mut self) {
        for event in self.appended.drain(..) {
            // Redriven events have no recorded id.
            if event.target.is_none() {
                self.recent_ids.remove(event.event_id);
            }
            self.next_seq = self.next_seq.min(event.seq);
        }
        self.bytes_delta = 0;
        self.kv_bytes.clear();
    }
}

/// The ids of the last events, in two sets. The older set is dropped as a whole.
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

    /// Returns whether the id is new.
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

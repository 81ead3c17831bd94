//! What the writing thread knows beside the file, so that it need not ask it for
//! every event.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::{Identity, Seq, Stored, Writes, ago};

/// Identities that are remembered in each of the two sets.
const MOST_KNOWN: usize = 500_000;

/// Decisions that are held when they cannot be written and nobody sends them
/// again; and their memory in bytes.
const MOST_OWED: usize = 10_000;
const MOST_OWED_BYTES: usize = 32 << 20;

/// See the [module](self).
pub(super) struct State {
    /// Of the next event.
    next: Seq,
    /// The last event when the file was first opened.
    last_before: Option<Seq>,
    known: Known,
    /// Bytes of the values in a namespace, as far as they were counted.
    pub(super) totals: HashMap<Arc<str>, usize>,
    /// What this transaction appended.
    fresh: Vec<Arc<Stored>>,
    owed: VecDeque<Writes>,
    owed_bytes: usize,
    /// Bytes of events and dead letters.
    pub(super) journal_bytes: u64,
    /// What the transaction does to them.
    pub(super) change: i64,
    /// Bytes of what is remembered of calls, at the most.
    pub(super) call_bytes: u64,
    /// Whether the operator's bound is reached.
    pub(super) full: bool,
}

impl State {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            next: 1,
            last_before: None,
            known: Known::new(keep),
            totals: HashMap::new(),
            fresh: Vec::new(),
            owed: VecDeque::new(),
            owed_bytes: 0,
            journal_bytes: 0,
            change: 0,
            call_bytes: 0,
            full: false,
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
        self.next = self.next.max(last.unwrap_or(0) + 1);
        self.last_before.get_or_insert(self.next - 1);
        let mut known = db.prepare(
            "SELECT identity, accepted FROM events WHERE only IS NULL ORDER BY seq DESC LIMIT ?",
        )?;
        let mut rows = known.query([MOST_KNOWN])?;
        let since = ago(self.known.keep);
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? < since {
                break;
            }
            self.known.insert(Identity(row.get(0)?));
        }
        self.totals.clear();
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
    pub(super) fn is_new(&mut self, identity: Identity) -> bool {
        self.known.insert(identity)
    }

    /// The place of the next event.
    pub(super) fn place(&mut self) -> Seq {
        let place = self.next;
        self.next += 1;
        place
    }

    /// The last event of earlier runs.
    pub(super) fn last_before(&self) -> Seq {
        self.last_before.unwrap_or(0)
    }

    /// The last event's place.
    pub(super) fn last(&self) -> Seq {
        self.next - 1
    }

    /// An event was appended by this transaction, if it comes to its end.
    pub(super) fn appended(&mut self, event: Arc<Stored>) {
        self.fresh.push(event);
    }

    /// Whether something has to be written though nobody asks.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// How much.
    pub(super) fn owed(&self) -> Option<usize> {
        self.owes().then_some(self.owed.len())
    }

    /// The first of what is owed, to be written in one transaction.
    pub(super) fn debts(&self, most: usize) -> Vec<Writes> {
        self.owed.iter().take(most).cloned().collect()
    }

    /// So much of it is written.
    pub(super) fn paid(&mut self, count: usize) {
        for writes in self.owed.drain(..count.min(self.owed.len())) {
            self.owed_bytes = self.owed_bytes.saturating_sub(writes.size());
        }
    }

    /// Holds what could not be written. Whether there was room.
    pub(super) fn owe(&mut self, writes: Writes) -> bool {
        let bytes = self.owed_bytes + writes.size();
        if self.owed.len() >= MOST_OWED || bytes > MOST_OWED_BYTES {
            return false;
        }
        self.owed_bytes = bytes;
        self.owed.push_back(writes);
        true
    }

    /// The transaction is durable: what it appended.
    pub(super) fn committed(&mut self) -> Vec<Arc<Stored>> {
        self.journal_bytes = self.journal_bytes.saturating_add_signed(self.change);
        self.change = 0;
        std::mem::take(&mut self.fresh)
    }

    /// The transaction has not happened.
    pub(super) fn rolled_back(&mut self) {
        for event in self.fresh.drain(..) {
            // What is for one observer alone was never looked up.
            if event.only.is_none() {
                self.known.remove(event.identity);
            }
            self.next = self.next.min(event.seq);
        }
        self.change = 0;
        self.totals.clear();
    }
}

/// The identities of the last events: two sets, of which the older one is
/// dropped as a whole.
struct Known {
    keep: Duration,
    since: Instant,
    newer: HashSet<Identity>,
    older: HashSet<Identity>,
}

impl Known {
    fn new(keep: Duration) -> Self {
        Self { keep, since: Instant::now(), newer: HashSet::new(), older: HashSet::new() }
    }

    /// Whether it is new.
    fn insert(&mut self, identity: Identity) -> bool {
        if self.newer.len() >= MOST_KNOWN || self.since.elapsed() > self.keep {
            self.older = std::mem::take(&mut self.newer);
            self.since = Instant::now();
        }
        !self.older.contains(&identity) && self.newer.insert(identity)
    }

    fn remove(&mut self, identity: Identity) {
        self.newer.remove(&identity);
        self.older.remove(&identity);
    }
}

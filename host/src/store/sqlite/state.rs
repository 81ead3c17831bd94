//! What the writing thread knows beside the file, so that it need not ask it for
//! every event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::{Identity, Record, Seq, Stored};

/// Identities that are remembered in each of the two sets.
const MOST_KNOWN: usize = 500_000;

/// Events that are held when they cannot be written and nobody sends them again.
const MOST_OWED: usize = 10_000;

/// See the [module](self).
pub(super) struct State {
    /// Of the next event.
    next: Seq,
    known: Known,
    /// Bytes of the values in a namespace, as far as they were counted.
    pub(super) totals: HashMap<Arc<str>, usize>,
    /// What this transaction appended.
    fresh: Vec<Arc<Stored>>,
    owed: Vec<Record>,
    /// Whether the operator's bound is reached.
    pub(super) full: bool,
}

impl State {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            next: 1,
            known: Known::new(keep),
            totals: HashMap::new(),
            fresh: Vec::new(),
            owed: Vec::new(),
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
        let mut known =
            db.prepare("SELECT identity FROM events WHERE only IS NULL ORDER BY seq DESC LIMIT ?")?;
        let mut rows = known.query([MOST_KNOWN])?;
        while let Some(row) = rows.next()? {
            self.known.insert(Identity(row.get(0)?));
        }
        self.totals.clear();
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

    /// What is owed, until a transaction has written it.
    pub(super) fn debts(&self) -> Vec<Record> {
        self.owed.clone()
    }

    /// Holds events that could not be written.
    pub(super) fn owe(&mut self, records: &mut Vec<Record>) {
        let room = MOST_OWED.saturating_sub(self.owed.len());
        let lost = records.len().saturating_sub(room);
        self.owed.extend(records.drain(..).take(room));
        if lost > 0 {
            tracing::error!(
                events = lost,
                "decisions could not be written down, and there is no more room to hold them"
            );
        }
    }

    /// The transaction is durable: what it appended.
    pub(super) fn committed(&mut self) -> Vec<Arc<Stored>> {
        self.owed.clear();
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

//! The end of the journal, in memory: observers that keep up need not read the
//! file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{JournalEvent, JournalPage, Seq};

/// Events in it.
const MAX_EVENTS: usize = 4_096;

/// Their memory in bytes.
const MAX_BYTES: usize = 8 << 20;

/// See the [module](self).
pub(super) struct JournalTail {
    ring: Mutex<Ring>,
    last: watch::Sender<Seq>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<JournalEvent>>,
    bytes: usize,
    /// Everything after this place is in it...
    after: Seq,
    /// ...up to this one: the last events may have been erased.
    up_to: Seq,
}

impl JournalTail {
    pub(super) fn new() -> Self {
        Self { ring: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// The last event in the file when that is opened. More than is known here is in
    /// it at start, and also if a transaction did happen of which that was not clear:
    /// that is then read from the file.
    pub(super) fn reset_to(&self, last: Seq) {
        let mut ring = self.lock_ring();
        if last > ring.up_to {
            *ring = Ring { after: last, up_to: last, ..Ring::default() };
            drop(ring);
            self.last.send_replace(last);
        }
    }

    /// Adds what became durable.
    pub(super) fn push(&self, events: Vec<Arc<JournalEvent>>) {
        let Some(last) = events.last().map(|event| event.seq) else { return };
        let mut ring = self.lock_ring();
        ring.up_to = last;
        for event in events {
            ring.bytes += event.size;
            ring.events.push_back(event);
        }
        while ring.events.len() > MAX_EVENTS || ring.bytes > MAX_BYTES {
            let Some(evicted) = ring.events.pop_front() else { break };
            ring.bytes -= evicted.size;
            ring.after = evicted.seq;
        }
        drop(ring);
        self.last.send_replace(last);
    }

    /// What comes after a place, if all of that is here.
    pub(super) fn read(&self, after: Seq, limit: usize) -> Option<JournalPage> {
        let ring = self.lock_ring();
        if after < ring.after {
            return None;
        }
        let start = ring.events.partition_point(|event| event.seq <= after);
        let events: Vec<_> = ring.events.range(start..).take(limit).cloned().collect();
        // With nothing left, whoever reads on must not stay before what was erased.
        let is_complete = events.len() < limit;
        let up_to =
            if is_complete { Some(ring.up_to) } else { events.last().map(|event| event.seq) };
        Some(JournalPage { events, up_to: up_to.map_or(after, |reaches| reaches.max(after)) })
    }

    /// Takes out events.
    pub(super) fn remove_erased(&self, is_erased: impl Fn(&JournalEvent) -> bool) {
        let mut ring = self.lock_ring();
        ring.events.retain(|event| !is_erased(event));
        ring.bytes = ring.events.iter().map(|event| event.size).sum();
    }

    pub(super) fn last_seq(&self) -> watch::Receiver<Seq> {
        self.last.subscribe()
    }

    fn lock_ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

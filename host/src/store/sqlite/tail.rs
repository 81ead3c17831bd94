//! The end of the journal, in memory: observers that keep up need not read the
//! file.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::{Page, Seq, Stored};

/// Events in it.
const MOST: usize = 4_096;

/// Their memory in bytes.
const MOST_BYTES: usize = 8 << 20;

/// See the [module](self).
pub(super) struct Tail {
    ring: Mutex<Ring>,
    last: watch::Sender<Seq>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Stored>>,
    bytes: usize,
    /// Everything after this place is in it...
    after: Seq,
    /// ...up to this one: the last events may have been erased.
    up_to: Seq,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { ring: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// The last event in the file when that is opened. More than is known here is in
    /// it at start, and also if a transaction did happen of which that was not clear:
    /// that is then read from the file.
    pub(super) fn starts_at(&self, last: Seq) {
        let mut ring = self.ring();
        if last > ring.up_to {
            *ring = Ring { after: last, up_to: last, ..Ring::default() };
            drop(ring);
            self.last.send_replace(last);
        }
    }

    /// Adds what became durable.
    pub(super) fn push(&self, events: Vec<Arc<Stored>>) {
        let Some(last) = events.last().map(|event| event.seq) else { return };
        let mut ring = self.ring();
        ring.up_to = last;
        for event in events {
            ring.bytes += event.size;
            ring.events.push_back(event);
        }
        while ring.events.len() > MOST || ring.bytes > MOST_BYTES {
            let Some(gone) = ring.events.pop_front() else { break };
            ring.bytes -= gone.size;
            ring.after = gone.seq;
        }
        drop(ring);
        self.last.send_replace(last);
    }

    /// What comes after a place, if all of that is here.
    pub(super) fn read(&self, after: Seq, most: usize) -> Option<Page> {
        let ring = self.ring();
        if after < ring.after {
            return None;
        }
        let start = ring.events.partition_point(|event| event.seq <= after);
        let events: Vec<_> = ring.events.range(start..).take(most).cloned().collect();
        // With nothing left, whoever reads on must not stay before what was erased.
        let whole = events.len() < most;
        let reaches = if whole { Some(ring.up_to) } else { events.last().map(|it| it.seq) };
        Some(Page { events, reaches: reaches.map_or(after, |reaches| reaches.max(after)) })
    }

    /// Takes out events.
    pub(super) fn erase(&self, is_erased: impl Fn(&Stored) -> bool) {
        let mut ring = self.ring();
        ring.events.retain(|event| !is_erased(event));
        ring.bytes = ring.events.iter().map(|event| event.size).sum();
    }

    pub(super) fn last(&self) -> watch::Receiver<Seq> {
        self.last.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

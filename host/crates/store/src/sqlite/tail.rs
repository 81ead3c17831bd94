//! The end of the journal in memory, so that consumers that keep up do not read the
//! file.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{JournalEvent, JournalPage, Seq};

/// The maximum number of events in the tail.
const MAX_EVENTS: usize = 4_096;

/// The maximum memory of the events in the tail, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// A ring of the latest events, see the [module](self).
pub(super) struct JournalTail {
    ring: Mutex<Ring>,
    last: watch::Sender<Seq>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<JournalEvent>>,
    bytes: usize,
    /// Sequence number after which the ring has all events.
    after: Seq,
    /// Sequence number up to which the ring has all events. The last event may be erased.
    up_to: Seq,
}

impl JournalTail {
    pub(super) fn new() -> Self {
        Self { ring: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Sets the last event of the file that was opened. Events that the ring lacks are then
    /// read from the file. These are events of earlier runs, and events of a transaction that
    /// was committed although it returned an error.
    pub(super) fn reset_to(&self, last: Seq) {
        let mut ring = self.ring.lock();
        if last > ring.up_to {
            *ring = Ring { after: last, up_to: last, ..Ring::default() };
            drop(ring);
            self.last.send_replace(last);
        }
    }

    /// Adds events that have become durable.
    pub(super) fn push(&self, events: Vec<Arc<JournalEvent>>) {
        let Some(last) = events.last().map(|event| event.seq) else { return };
        let mut ring = self.ring.lock();
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

    /// Returns the events after a sequence number, or `None` if the ring lacks some of them.
    pub(super) fn read(&self, after: Seq, limit: usize) -> Option<JournalPage> {
        let ring = self.ring.lock();
        if after < ring.after {
            return None;
        }
        let start = ring.events.partition_point(|event| event.seq <= after);
        let events: Vec<_> = ring.events.range(start..).take(limit).cloned().collect();
        // The page covers erased events at the end. Otherwise a reader would read them
        // repeatedly.
        let is_complete = events.len() < limit;
        let up_to =
            if is_complete { Some(ring.up_to) } else { events.last().map(|event| event.seq) };
        Some(JournalPage { events, up_to: up_to.map_or(after, |reaches| reaches.max(after)) })
    }

    /// Removes the events of erased calls.
    pub(super) fn remove_erased(&self, is_erased: impl Fn(&JournalEvent) -> bool) {
        let mut ring = self.ring.lock();
        ring.events.retain(|event| !is_erased(event));
        ring.bytes = ring.events.iter().map(|event| event.size).sum();
    }

    pub(super) fn last_seq(&self) -> watch::Receiver<Seq> {
        self.last.subscribe()
    }
}

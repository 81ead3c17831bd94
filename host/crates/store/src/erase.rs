//! The result of an erasure.

use super::{JournalEvent, Seq};

/// The range of an erasure in the journal. Later events of the call are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedRange {
    /// All events up to here are erased.
    pub up_to: Seq,
    /// Redriven dead letters up to here are erased.
    pub redriven_up_to: Seq,
}

impl ErasedRange {
    /// Returns whether an event of the call is erased.
    pub fn contains(&self, event: &JournalEvent) -> bool {
        event.seq <= self.up_to || (event.target.is_some() && event.seq <= self.redriven_up_to)
    }
}

/// The number of erased rows, and their range.
#[derive(Clone, Copy, Debug)]
pub struct ErasureResult {
    /// Events of the journal.
    pub events: u64,
    /// Dead letters, with their events.
    pub dead_letters: u64,
    /// Call contexts.
    pub calls: u64,
    /// The range in the journal.
    pub range: ErasedRange,
}

impl ErasureResult {
    /// Adds the result of a later erasure of the same call.
    #[must_use]
    pub fn merge(self, later: Self) -> Self {
        Self {
            events: self.events + later.events,
            dead_letters: self.dead_letters + later.dead_letters,
            calls: self.calls.max(later.calls),
            range: later.range,
        }
    }
}

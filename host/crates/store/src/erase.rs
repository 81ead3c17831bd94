//! The result of an erasure.

use super::journal_event::{JournalEvent, Seq};

/// The range of an erasure in the journal. Later events of the call are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedRange {
    /// Sequence number up to which all events are erased.
    pub up_to: Seq,
    /// Sequence number up to which redriven dead letters are erased.
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
    /// Number of erased events of the journal.
    pub events: u64,
    /// Number of erased dead letters.
    pub dead_letters: u64,
    /// Number of erased call contexts.
    pub calls: u64,
    /// The erased range in the journal.
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

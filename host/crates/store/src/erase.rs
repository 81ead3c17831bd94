//! Whose traces are to be erased, and what came of it.

use super::{JournalEvent, Seq};

/// How far an erasure reached into the journal: what came later is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedRange {
    /// Every event up to here.
    pub up_to: Seq,
    /// Up to here what was appended once more from dead letters, which is not new.
    pub redriven_up_to: Seq,
}

impl ErasedRange {
    /// Whether an event of the call is among what was erased.
    pub fn contains(&self, event: &JournalEvent) -> bool {
        event.seq <= self.up_to || (event.target.is_some() && event.seq <= self.redriven_up_to)
    }
}

/// What was erased.
#[derive(Clone, Copy, Debug)]
pub struct ErasureResult {
    /// Events of the journal.
    pub events: u64,
    /// Dead letters, with their events.
    pub dead_letters: u64,
    /// Calls of this name that were remembered.
    pub calls: u64,
    /// How far it reached.
    pub range: ErasedRange,
}

impl ErasureResult {
    /// With what a later erasure of the same call found.
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

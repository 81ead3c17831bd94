//! The events of the journal.

use std::sync::Arc;

use super::time::UnixMs;
use plugboard_core::event::{Event, EventKind};
use plugboard_core::event_id::EventId;

/// A sequence number: the position of an event in the journal. The first is 1.
pub type Seq = i64;

/// An event to append.
#[derive(Clone)]
pub struct NewEvent {
    /// The id of the event, equal for redeliveries.
    pub event_id: EventId,
    /// The time at which the event was accepted.
    pub accepted_at: UnixMs,
    /// The event, with the context of its call.
    pub event: Arc<Event>,
    /// The call of the event, as JSON.
    pub call: Arc<str>,
    /// The body of the event, as JSON.
    pub body: Arc<str>,
}

impl NewEvent {
    /// Returns the approximate memory, in bytes.
    pub fn size(&self) -> usize {
        /// Approximate memory of an event, and of a metadata value, beside their texts, in
        /// bytes.
        const EVENT: usize = 400;
        const VALUE: usize = 100;
        // The texts are in memory twice: as JSON, and in the event.
        let metadata = self.event.call.metadata.len();
        EVENT + VALUE * metadata + 2 * (self.call.len() + self.body.len())
    }
}

/// An event of the journal.
pub struct JournalEvent {
    /// The sequence number of the event.
    pub seq: Seq,
    /// The id of the event, equal for redeliveries.
    pub event_id: EventId,
    /// The time at which the event was accepted.
    pub accepted_at: UnixMs,
    /// The only consumer of a redriven event. `None`: all consumers.
    pub target: Option<Arc<str>>,
    /// The event, with the context of its call.
    pub event: Arc<Event>,
    /// The approximate memory of the event, in bytes.
    pub size: usize,
}

impl JournalEvent {
    /// Returns the kind of the event.
    pub fn kind(&self) -> EventKind {
        self.event.body.kind()
    }
}

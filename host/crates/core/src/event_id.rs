//! Identities of events, equal for redeliveries.

/// The identity of an event: a hash over its call, delivery and content. Deliveries of one
/// event have the same id. Plugins see it as the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub [u8; 16]);

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

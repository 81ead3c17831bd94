//! The span of a delivery.

use tracing::field::Empty;
use tracing::{Level, Span, span};

use plugboard_core::span::{ROOT_TARGET, should_sample};
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store::JournalEvent;

/// Returns the root span of an event's delivery; `attempt` counts from 1.
pub fn observer_span(plugin: &Plugin, event: &JournalEvent, attempt: u32) -> Span {
    if !should_sample() {
        return Span::none();
    }
    span!(
        target: ROOT_TARGET,
        parent: None,
        Level::INFO,
        "observe",
        otel.kind = "consumer",
        plugin.name = &**plugin.name(),
        plugin.version = %plugin.digest(),
        plugin.hook = Hook::Observer.interface(),
        event.kind = event.kind().name(),
        event.attempt = i64::from(attempt),
        call.id = &*event.event.call.id,
        call.platform = event.event.call.platform.name,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

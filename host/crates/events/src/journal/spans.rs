//! The span of an append.

use tracing::field::Empty;
use tracing::{Level, Span, span};

use plugboard_core::span::CHILD_TARGET;

/// Returns the span of a request that waits until its events are durable.
pub fn append_span() -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "journal.append",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

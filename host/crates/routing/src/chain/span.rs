//! The attributes of plugin spans that describe the reply.

use tracing::Span;

use plugboard_core::outcome::AnswerSource;
use plugboard_core::span::record_error;
use plugboard_runtime::plugin::error::CallError;

/// Records a plugin's reply in its span.
pub(super) fn record_reply(
    span: &Span,
    source: AnswerSource,
    outcome: Result<&'static str, &CallError>,
) {
    if span.is_disabled() {
        return;
    }
    span.record("plugin.source", source.name());
    span.record("plugin.outcome", outcome.unwrap_or("failed"));
    if let Err(error) = outcome {
        record_error(span, error.label());
    }
}

//! The attributes of plugin spans that describe the reply.

use tracing::Span;

use super::ChainQuery;
use plugboard_core::outcome::AnswerSource;
use plugboard_core::span::record_error;
use plugboard_runtime::plugin::error::CallError;

/// Records a plugin's reply in its span.
pub(super) fn record_reply<Q: ChainQuery>(
    span: &Span,
    source: AnswerSource,
    result: Result<Option<&Q::Answer>, &CallError>,
) {
    if span.is_disabled() {
        return;
    }
    span.record("plugin.source", source.name());
    span.record("plugin.outcome", result.map_or("failed", Q::outcome));
    if let Err(error) = result {
        record_error(span, error.label());
    }
}

//! What the spans of plugins say of their answers.

use tracing::Span;

use plugboard_core::decision::Verdict;
use plugboard_core::outcome::AnswerSource;
use plugboard_core::span::record_error;
use plugboard_core::verdict::VerdictKind;
use plugboard_runtime::plugin::error::PluginError;

/// What a plugin decided, where its word came from, and why it is none.
pub fn record_verdict(
    span: &Span,
    source: AnswerSource,
    verdict: Result<&Verdict, &PluginError>,
    error: Option<&PluginError>,
) {
    if span.is_disabled() {
        return;
    }
    let outcome = verdict.map_or(VerdictKind::Pass, Verdict::kind);
    record_outcome(span, source, error.map_or(Ok(outcome.name()), Err));
}

/// What a plugin said in the middle of a call: an answer, or that it has none.
pub fn record_mid_call_answer(
    span: &Span,
    source: AnswerSource,
    declines: Result<bool, &PluginError>,
) {
    if span.is_disabled() {
        return;
    }
    let outcome = |declines| if declines { "declined" } else { "answered" };
    record_outcome(span, source, declines.map(outcome));
}

fn record_outcome(span: &Span, source: AnswerSource, outcome: Result<&'static str, &PluginError>) {
    let source = if let Err(PluginError::CircuitOpen) = outcome {
        AnswerSource::CircuitOpen
    } else {
        source
    };
    span.record("plugin.source", source.name());
    span.record("plugin.outcome", outcome.unwrap_or("failed"));
    if let Err(error) = outcome {
        record_error(span, error.label());
    }
}

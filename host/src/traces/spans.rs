//! Every span but a webhook's own: its name, what it tells when it begins, and what is
//! added when it is over. Where OpenTelemetry has a name for an attribute, it is that.

use std::fmt::Display;

use tracing::field::{Empty, display};
use tracing::{Instrument, Level, Span, span};

use super::{CHILD_TARGET, ROOT_TARGET, should_sample};
use crate::decision::{Verdict, VerdictKind};
use crate::plugin::error::PluginError;
use crate::plugin::{Hook, Plugin};
use crate::router::AnswerSource;
use crate::store::{JournalEvent, KvCommand};

/// A plugin is asked.
pub fn plugin_span(plugin: &Plugin, hook: Hook) -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "plugin",
        plugin.name = &**plugin.name(),
        plugin.version = %plugin.digest(),
        plugin.hook = hook.interface(),
        plugin.source = Empty,
        plugin.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

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

/// An observer is told of an event, for the `attempt`th time: a trace of its own.
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

/// A version of a plugin is loaded: a trace of its own.
pub fn load_span(name: &str) -> Span {
    if !super::is_enabled() {
        return Span::none();
    }
    span!(
        target: ROOT_TARGET,
        parent: None,
        Level::INFO,
        "load",
        plugin.name = name,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A plugin reads or writes one of its values. Not which: a key may be a number.
pub fn kv_span(key: &str, command: &KvCommand) -> Span {
    let name = |command: &KvCommand| match command {
        KvCommand::Get => "kv.get",
        KvCommand::Set { .. } => "kv.set",
        KvCommand::Delete => "kv.delete",
        KvCommand::Increment { .. } => "kv.increment",
        KvCommand::Swap { .. } => "kv.compare_and_swap",
    };
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "kv",
        otel.name = name(command),
        kv.key.length = saturating_i64_len(key.len()),
        kv.value.length = saturating_i64_len(command.size()),
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A plugin sends a request.
pub fn http_span() -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "http",
        otel.kind = "client",
        http.request.method = Empty,
        server.address = Empty,
        server.port = Empty,
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Where a request goes: not its path. A host that is not granted may be any text, and is
/// not told.
pub fn record_request(span: &Span, method: &str, host: &dyn Display, port: u16) {
    if span.is_disabled() {
        return;
    }
    span.record("http.request.method", method);
    span.record("server.address", display(host));
    span.record("server.port", i64::from(port));
}

/// What a request was answered with. An error's status is one of the other side's, and for
/// the plugin to judge.
pub fn record_response(span: &Span, status: u16) {
    span.record("http.response.status_code", i64::from(status));
}

/// Something waits until it is on the disk.
pub fn append_span() -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "journal.append",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Does work within a span, which tells by a word of ours what went wrong.
///
/// # Errors
///
/// Those of the work.
pub async fn in_span<T, E>(
    span: Span,
    label: impl FnOnce(&E) -> &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result {
        record_error(&span, label(error));
    }
    result
}

/// It went wrong: one of our words for why.
pub fn record_error(span: &Span, label: &str) {
    span.record("error.type", label);
    span.record("otel.status_code", "error");
}

/// A length as attributes have them.
fn saturating_i64_len(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

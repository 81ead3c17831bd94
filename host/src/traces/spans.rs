//! Every span but a webhook's own: its name, what it tells when it begins, and what is
//! added when it is over. Where OpenTelemetry has a name for an attribute, it is that.

use std::fmt::Display;

use tracing::field::{Empty, display};
use tracing::{Instrument, Level, Span, span};

use super::{ROOT, TARGET, drawn};
use crate::decision::{Kind, Verdict};
use crate::plugin::error::PluginError;
use crate::plugin::{Hook, Plugin};
use crate::router::Source;
use crate::store::{KvCommand, Stored};

/// A plugin is asked.
pub fn plugin(plugin: &Plugin, hook: Hook) -> Span {
    span!(
        target: TARGET,
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
pub fn decided(
    span: &Span,
    source: Source,
    verdict: Result<&Verdict, &PluginError>,
    error: Option<&PluginError>,
) {
    if span.is_disabled() {
        return;
    }
    let outcome = verdict.map_or(Kind::Pass, Verdict::kind);
    said(span, source, error.map_or(Ok(outcome.name()), Err));
}

/// What a plugin said in the middle of a call: an answer, or that it has none.
pub fn answered(span: &Span, source: Source, declines: Result<bool, &PluginError>) {
    if span.is_disabled() {
        return;
    }
    let outcome = |declines| if declines { "declined" } else { "answered" };
    said(span, source, declines.map(outcome));
}

fn said(span: &Span, source: Source, said: Result<&'static str, &PluginError>) {
    let source = if let Err(PluginError::SetAside) = said { Source::SetAside } else { source };
    span.record("plugin.source", source.name());
    span.record("plugin.outcome", said.unwrap_or("failed"));
    if let Err(error) = said {
        failed(span, error.label());
    }
}

/// An observer is told of an event, for the `attempt`th time: a trace of its own.
pub fn observe(plugin: &Plugin, event: &Stored, attempt: u32) -> Span {
    if !drawn() {
        return Span::none();
    }
    span!(
        target: ROOT,
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
pub fn load(name: &str) -> Span {
    if !super::is_on() {
        return Span::none();
    }
    span!(
        target: ROOT,
        parent: None,
        Level::INFO,
        "load",
        plugin.name = name,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A plugin reads or writes one of its values. Not which: a key may be a number.
pub fn kv(key: &str, command: &KvCommand) -> Span {
    let name = |command: &KvCommand| match command {
        KvCommand::Get => "kv.get",
        KvCommand::Set { .. } => "kv.set",
        KvCommand::Delete => "kv.delete",
        KvCommand::Increment { .. } => "kv.increment",
        KvCommand::Swap { .. } => "kv.compare_and_swap",
    };
    span!(
        target: TARGET,
        Level::INFO,
        "kv",
        otel.name = name(command),
        kv.key.length = length(key.len()),
        kv.value.length = length(command.size()),
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A plugin sends a request.
pub fn http() -> Span {
    span!(
        target: TARGET,
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
pub fn requested(span: &Span, method: &str, host: &dyn Display, port: u16) {
    if span.is_disabled() {
        return;
    }
    span.record("http.request.method", method);
    span.record("server.address", display(host));
    span.record("server.port", i64::from(port));
}

/// What a request was answered with. An error's status is one of the other side's, and for
/// the plugin to judge.
pub fn responded(span: &Span, status: u16) {
    span.record("http.response.status_code", i64::from(status));
}

/// Something waits until it is on the disk.
pub fn append() -> Span {
    span!(
        target: TARGET,
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
pub async fn within<T, E>(
    span: Span,
    label: impl FnOnce(&E) -> &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result {
        failed(&span, label(error));
    }
    result
}

/// It went wrong: one of our words for why.
pub fn failed(span: &Span, label: &str) {
    span.record("error.type", label);
    span.record("otel.status_code", "error");
}

/// A length as attributes have them.
fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

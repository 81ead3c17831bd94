//! Spans of webhook requests.
//!
//! A sender may send the trace context of its request (`traceparent`, W3C). The context is used
//! only when the request is authenticated. Otherwise any sender could have all its requests
//! traced, or write into other traces. Authentication needs the body, so the span begins
//! before, and gets its parent then.

use axum::http::HeaderMap;
use tracing::field::Empty;
use tracing::{Level, Span, span};

use plugboard_core::call::Call;
use plugboard_core::outcome::{AnswerSource, RoutingOutcome};
use plugboard_core::span::{ROOT_TARGET, is_enabled, should_sample};
use plugboard_platform::{PlatformRequest, ToolAnswer};
use plugboard_routing::mid_call::ToolResponse;
use plugboard_telemetry::traces::RemoteSpan;

/// Begins the span of a request, if it is sampled or its sender may request sampling.
pub fn begin(path: &'static str, headers: &HeaderMap) -> (Span, RemoteParent) {
    if !is_enabled() {
        return (
            Span::none(),
            RemoteParent { span: Span::none(), remote: None, is_sampled: false },
        );
    }
    let (remote, is_sampled) = (extract_parent(headers), should_sample());
    let span = if is_sampled || remote.as_ref().is_some_and(RemoteSpan::is_sampled) {
        span!(
            target: ROOT_TARGET,
            parent: None,
            Level::INFO,
            "webhook",
            otel.kind = "server",
            http.request.method = "POST",
            url.path = path,
            http.response.status_code = Empty,
            webhook.kind = Empty,
            webhook.outcome = Empty,
            webhook.replayed = Empty,
            call.id = Empty,
            call.platform = Empty,
            plugin.name = Empty,
            plugin.source = Empty,
            tool.name = Empty,
            events.count = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        )
    } else {
        Span::none()
    };
    (span.clone(), RemoteParent { span, remote, is_sampled })
}

/// Returns the trace context that the sender claims.
fn extract_parent(headers: &HeaderMap) -> Option<RemoteSpan> {
    RemoteSpan::parse(headers.get("traceparent")?.to_str().ok()?)
}

/// The parent that a span gets if its sender is authenticated.
#[must_use = "dropped, the sender is not believed"]
pub struct RemoteParent {
    span: Span,
    remote: Option<RemoteSpan>,
    is_sampled: bool,
}

impl RemoteParent {
    /// Makes the claimed context the parent, because the sender is authenticated.
    pub fn trust(mut self) {
        if let Some(remote) = self.remote.take() {
            remote.set_as_parent(&self.span);
        }
    }
}

impl Drop for RemoteParent {
    fn drop(&mut self) {
        // The span exists only because of an unauthenticated claim, so it is not exported.
        if let Some(remote) = self.remote.take().filter(|_| !self.is_sampled) {
            remote.set_as_unsampled_parent(&self.span);
        }
    }
}

/// Records the kind of request.
pub fn record_request(span: &Span, message: &PlatformRequest) {
    if span.is_disabled() {
        return;
    }
    let (kind, call): (_, Option<&Call>) = match message {
        PlatformRequest::Decision(event) => ("decision", Some(&event.call)),
        PlatformRequest::Tool(tool_use) => ("tool", Some(&tool_use.call)),
        PlatformRequest::Transfer(transfer) => ("transfer", Some(&transfer.call)),
        PlatformRequest::Events(events) => {
            span.record("events.count", i64::try_from(events.len()).unwrap_or(i64::MAX));
            ("events", events.first().map(|event| &*event.call))
        }
    };
    span.record("webhook.kind", kind);
    if let Some(call) = call {
        span.record("call.id", &*call.id);
        span.record("call.platform", call.platform.name);
    }
}

/// Records the outcome of a decision, and whether it is a replay.
pub fn record_decision(span: &Span, outcome: &RoutingOutcome, is_replay: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("plugin.source", outcome.result.source.name());
    record_outcome(span, outcome.answer.name(), outcome.result.plugin.as_deref(), is_replay);
}

/// Records the outcome of a tool request. Records the tool's name only if some plugin has the
/// tool, because other names may be arbitrary text.
pub fn record_tool(span: &Span, name: &str, response: &ToolResponse, is_replay: bool) {
    if span.is_disabled() {
        return;
    }
    if !matches!(response.answer, ToolAnswer::Unknown) {
        span.record("tool.name", name);
    }
    let source = if response.cached { AnswerSource::Cache } else { AnswerSource::Plugin };
    span.record("plugin.source", source.name());
    record_outcome(span, response.outcome(), response.plugin.as_deref(), is_replay);
}

/// Records the outcome of a transfer: answered or declined.
pub fn record_transfer(span: &Span, answered: bool, is_replay: bool) {
    record_outcome(span, if answered { "answered" } else { "pass" }, None, is_replay);
}

fn record_outcome(span: &Span, outcome: &'static str, plugin: Option<&str>, is_replay: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("webhook.outcome", outcome);
    span.record("webhook.replayed", is_replay);
    if let Some(plugin) = plugin {
        span.record("plugin.name", plugin);
    }
}

/// Records the status, and the code of an error response.
pub fn record_response(span: &Span, status: u16, error_code: Option<&'static str>) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", i64::from(status));
    if let Some(code) = error_code {
        span.record("webhook.outcome", "rejected");
        span.record("error.type", code);
    }
    // A client error is not an error of the server.
    if status >= 500 {
        span.record("otel.status_code", "error");
    }
}

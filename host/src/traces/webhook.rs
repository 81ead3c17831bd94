//! The trace of a webhook: whether there is one, what it goes on from, and what it tells.
//!
//! A sender may send the trace that its webhook is a part of (`traceparent`, W3C). That is
//! believed only of one that has shown its secret: a stranger could otherwise have all of
//! its requests traced, or write into traces of others. The secret is looked at late, with
//! the body, so the span begins before and learns of its trace then.

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::field::Empty;
use tracing::{Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{ROOT, drawn, is_on};
use crate::event::Call;
use crate::midcall::ToolRuling;
use crate::platform::{Message, ToolAnswer};
use crate::router::{Outcome, Source};

/// Begins the span of a webhook to this path, if it is traced or may turn out to be.
pub fn begin(path: &'static str, headers: &HeaderMap) -> (Span, Parent) {
    if !is_on() {
        return (Span::none(), Parent { span: Span::none(), told: None, drawn: false });
    }
    let (told, drawn) = (told(headers), drawn());
    let span = if drawn || told.as_ref().is_some_and(SpanContext::is_sampled) {
        span!(
            target: ROOT,
            parent: None,
            Level::INFO,
            "webhook",
            otel.kind = "server",
            http.request.method = "POST",
            url.path = path,
            http.response.status_code = Empty,
            webhook.kind = Empty,
            webhook.outcome = Empty,
            webhook.repeated = Empty,
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
    (span.clone(), Parent { span, told, drawn })
}

/// What the sender says that its webhook is a part of.
fn told(headers: &HeaderMap) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    let span = context.span();
    let told = span.span_context();
    told.is_valid().then(|| parent(told, told.trace_flags()))
}

/// A remote span. Not its state, which is text of the sender's.
fn parent(of: &SpanContext, flags: TraceFlags) -> SpanContext {
    SpanContext::new(of.trace_id(), of.span_id(), flags, true, TraceState::NONE)
}

/// What a webhook's trace may go on from, if its sender may say so.
#[must_use = "dropped, the sender is not believed"]
pub struct Parent {
    span: Span,
    told: Option<SpanContext>,
    drawn: bool,
}

impl Parent {
    /// The sender has shown who it is.
    pub fn believed(mut self) {
        if let Some(told) = self.told.take() {
            self.adopt(told);
        }
    }

    fn adopt(&self, told: SpanContext) {
        let context = opentelemetry::Context::new().with_remote_span_context(told);
        // It is ours, and has no children yet.
        _ = self.span.set_parent(context);
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // Begun for no other reason than what a stranger says: not traced, then.
        if let Some(told) = self.told.take().filter(|_| !self.drawn) {
            self.adopt(parent(&told, TraceFlags::default()));
        }
    }
}

/// What the sender wants.
pub fn understood(span: &Span, message: &Message) {
    if span.is_disabled() {
        return;
    }
    let (kind, call): (_, Option<&Call>) = match message {
        Message::Decide(event) => ("decision", Some(&event.call)),
        Message::Tool(used) => ("tool", Some(&used.call)),
        Message::Transfer(asked) => ("transfer", Some(&asked.call)),
        Message::Events(events) => {
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

/// What was decided; and whether that was before, for the same delivery.
pub fn decided(span: &Span, outcome: &Outcome, again: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("plugin.source", outcome.ruling.source.name());
    ended(span, outcome.answer.name(), outcome.ruling.by.as_deref(), again);
}

/// What an agent got for using a tool. The tool's name is told if some plugin has it:
/// otherwise it may be any text.
pub fn tool(span: &Span, name: &str, ruling: &ToolRuling, again: bool) {
    if span.is_disabled() {
        return;
    }
    if !matches!(ruling.answer, ToolAnswer::Unknown) {
        span.record("tool.name", name);
    }
    let source = if ruling.cached { Source::Cached } else { Source::Ran };
    span.record("plugin.source", source.name());
    ended(span, ruling.outcome(), ruling.by.as_deref(), again);
}

/// Whether somebody had a say in a transfer.
pub fn transfer(span: &Span, answered: bool, again: bool) {
    ended(span, if answered { "answered" } else { "pass" }, None, again);
}

fn ended(span: &Span, outcome: &'static str, by: Option<&str>, again: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("webhook.outcome", outcome);
    span.record("webhook.repeated", again);
    if let Some(by) = by {
        span.record("plugin.name", by);
    }
}

/// The status that the sender gets; of a refusal, our word for why.
pub fn answered(span: &Span, status: u16, refused: Option<&'static str>) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", i64::from(status));
    if let Some(code) = refused {
        span.record("webhook.outcome", "refused");
        span.record("error.type", code);
    }
    // What a sender did wrong is no error of ours.
    if status >= 500 {
        span.record("otel.status_code", "error");
    }
}

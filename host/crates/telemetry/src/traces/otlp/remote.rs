//! Parent spans in other processes, named by W3C `traceparent` headers.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A span of another process.
pub struct RemoteSpan(SpanContext);

impl RemoteSpan {
    /// Reads a `traceparent` header. Returns `None` if it is not valid.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let context = TraceContextPropagator::new().extract(&TraceParentHeader(traceparent));
        let span = context.span();
        let remote = span.span_context();
        remote.is_valid().then(|| Self(with_flags(remote, remote.trace_flags())))
    }

    /// Returns true if the other process samples its trace.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// Makes this the parent of `span`, which must not have children yet. The span is
    /// sampled if the parent is.
    pub fn set_as_parent(self, span: &Span) {
        // This fails only for a span that has started already, and this span has not.
        _ = span.set_parent(Context::new().with_remote_span_context(self.0));
    }

    /// Makes this the parent of `span`, but without sampling.
    pub fn set_as_unsampled_parent(self, span: &Span) {
        Self(with_flags(&self.0, TraceFlags::default())).set_as_parent(span);
    }
}

/// Copies a remote span without its state, which is text of the sender.
fn with_flags(remote: &SpanContext, flags: TraceFlags) -> SpanContext {
    SpanContext::new(remote.trace_id(), remote.span_id(), flags, true, TraceState::NONE)
}

/// The propagator reads only this header.
struct TraceParentHeader<'a>(&'a str);

impl Extractor for TraceParentHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_is_read_by_the_standard() {
        let sampled = |text: &str| RemoteSpan::parse(text).map(|remote| remote.is_sampled());
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        assert_eq!(sampled(&format!("00-{ids}-01")), Some(true));
        assert_eq!(sampled(&format!("00-{ids}-00")), Some(false));
        for invalid in ["", "00", &format!("00-{ids}"), &format!("00-{ids}-01-more")] {
            assert_eq!(sampled(invalid), None, "{invalid}");
        }
    }
}

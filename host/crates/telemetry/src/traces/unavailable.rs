//! Stand-in for the exporter in a build without the feature `otlp`.

use anyhow::bail;
use tracing::Span;
use tracing_subscriber::layer::Identity;

use super::SpanCounts;
use plugboard_config::TracesConfig;

/// The trace exporter of a build that has none: no value of this type exists.
pub enum Traces {}

impl Traces {
    /// Fails, because this build cannot export traces.
    ///
    /// # Errors
    ///
    /// Always fails, because the build lacks the exporter.
    pub fn start(_: &TracesConfig) -> anyhow::Result<Self> {
        bail!(
            "traces.otlp_endpoint is set, but this build of Plugboard has no trace exporter; \
             remove the key, or build with the feature `otlp`"
        )
    }

    /// Returns the layer that exports spans.
    pub fn layer(&self) -> Identity {
        match *self {}
    }

    /// Returns the numbers of exported and dropped spans.
    pub fn counts(&self) -> &SpanCounts {
        match *self {}
    }

    /// Stops the exporter, which does not exist.
    pub fn stop(self) {
        match self {}
    }
}

/// A span of another process: no value of this type exists.
pub enum RemoteSpan {}

impl RemoteSpan {
    /// Returns `None`, because no span of this process can have a parent.
    pub fn parse(_: &str) -> Option<Self> {
        None
    }

    /// Returns true if the other process samples its trace.
    pub fn is_sampled(&self) -> bool {
        match *self {}
    }

    /// Makes this the parent of a span.
    pub fn set_as_parent(self, _: &Span) {
        match self {}
    }

    /// Makes this the parent of a span, but without sampling.
    pub fn set_as_unsampled_parent(self, _: &Span) {
        match self {}
    }
}

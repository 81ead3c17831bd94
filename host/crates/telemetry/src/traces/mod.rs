//! OpenTelemetry traces, optional: one trace for each webhook, with a span for each plugin
//! and each host call.
//!
//! Spans are those of `tracing`, with targets of their own ([`plugboard_core::span`]) that
//! the log excludes. They carry no data of callers: no numbers, texts, prompts, keys or
//! paths. With the feature `otlp` (on by default) they are exported by OTLP over HTTP.
//! Without it, [`Traces::start`] fails, so that a configured collector is not ignored.
//!
//! Without an endpoint no callsite is enabled, so a span costs one load and one branch.

#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
mod unavailable;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::filter::{LevelFilter, Targets};

use plugboard_core::span::{CHILD_TARGET, ROOT_TARGET};

#[cfg(feature = "otlp")]
pub use self::otlp::{RemoteSpan, Traces};
#[cfg(not(feature = "otlp"))]
pub use self::unavailable::{RemoteSpan, Traces};

/// The numbers of exported and dropped spans. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    /// Number of spans that the collector accepted.
    pub exported: Counter,
    /// Number of spans that the collector did not accept in time, or that found the queue full.
    pub dropped: Counter,
}

/// Excludes the spans of traces from a log filter.
pub fn exclude_spans(level: Targets) -> Targets {
    // The longest matching target has priority, so both are needed.
    level.with_target(CHILD_TARGET, LevelFilter::OFF).with_target(ROOT_TARGET, LevelFilter::OFF)
}

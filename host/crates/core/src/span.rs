//! The basis of traces: targets of spans, sampling, and the recording of errors.
//!
//! Spans are those of `tracing`, with targets that the log excludes. The constructor of
//! each span stands in the module of the type that it describes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::{Instrument, Span};

/// The target of spans that are recorded only inside another span. A request that is not traced
/// therefore begins no partial traces.
pub const CHILD_TARGET: &str = "plugboard::span";

/// The target of spans that begin a trace.
pub const ROOT_TARGET: &str = "plugboard::span::root";

/// The sampled share of root spans, from 0 to 1, as the bits of an `f64`. Global, as the
/// subscriber of `tracing` is; 0 while tracing is off.
static SAMPLE_RATIO: AtomicU64 = AtomicU64::new(0);

/// Sets the share of root spans that are sampled, from 0 to 1.
pub fn set_sample_ratio(ratio: f64) {
    // The bits of -0.0 are not zero.
    SAMPLE_RATIO.store(if ratio > 0.0 { ratio.to_bits() } else { 0 }, Relaxed);
}

/// Returns true if any root span can be sampled.
pub fn is_enabled() -> bool {
    SAMPLE_RATIO.load(Relaxed) != 0
}

/// Draws whether the next root span is sampled.
pub fn should_sample() -> bool {
    let ratio = f64::from_bits(SAMPLE_RATIO.load(Relaxed));
    ratio > 0.0 && (ratio >= 1.0 || fastrand::f64() < ratio)
}

/// Runs `work` in a span, and records the `label` of its error.
///
/// # Errors
///
/// Returns the error of `work`.
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

/// Records an error in a span; `label` is a fixed name, without data of callers.
pub fn record_error(span: &Span, label: &str) {
    span.record("error.type", label);
    span.record("otel.status_code", "error");
}

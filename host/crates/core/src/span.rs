//! The spans of traces: their targets, whether one is sampled, and how it ends.
//!
//! A span is one of `tracing`'s, with a target of its own that the log never sees. The
//! constructor of each span stands with the type that it describes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::{Instrument, Span};

/// The target of spans that are made within another one only: without it, whoever is
/// not traced would begin traces of parts.
pub const CHILD_TARGET: &str = "plugboard::span";

/// The target of spans that begin a trace.
pub const ROOT_TARGET: &str = "plugboard::span::root";

/// The share of what may be traced that is, as the bits of a number from 0 to 1. One for
/// the process, as its subscriber is; 0 as long as nothing is traced.
static SAMPLE_RATIO: AtomicU64 = AtomicU64::new(0);

/// From now on, this share is traced.
pub fn set_sample_ratio(ratio: f64) {
    // Also of -0.0, which is not all zeros.
    SAMPLE_RATIO.store(if ratio > 0.0 { ratio.to_bits() } else { 0 }, Relaxed);
}

/// Whether anything is traced.
pub fn is_enabled() -> bool {
    SAMPLE_RATIO.load(Relaxed) != 0
}

/// Whether the next one that may be traced is.
pub fn should_sample() -> bool {
    let ratio = f64::from_bits(SAMPLE_RATIO.load(Relaxed));
    ratio > 0.0 && (ratio >= 1.0 || fastrand::f64() < ratio)
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

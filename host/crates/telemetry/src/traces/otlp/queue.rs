//! The bounded queue between the threads that end spans and the SDK's export thread.
//!
//! `BatchSpanProcessor` has a bounded queue too, but does not report the number of dropped
//! spans, and a failed export does not report its number of spans. Both counts are metrics and
//! part of a log message. [`BoundedSpanProcessor`] and [`CountingExporter`] therefore wrap the
//! SDK's types and count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;

use crate::traces::SpanCounts;
use plugboard_core::text::sanitize;

/// Maximum number of spans that wait for export or are being exported. A span takes about 1
/// KiB.
pub(super) const MAX_QUEUED_SPANS: usize = 8192;

/// Minimum interval of log messages about dropped spans.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum length of the reason in a log message, in bytes. The reason may quote a library or
/// the collector.
const MAX_REASON_BYTES: usize = 300;

/// The number of spans in the queue, and the counts of those that left it.
#[derive(Debug, Default)]
pub(super) struct SpanQueue {
    queued: AtomicUsize,
    pub(super) counts: SpanCounts,
    failure: Mutex<ExportFailure>,
}

#[derive(Debug, Default)]
struct ExportFailure {
    /// The transport error of the last request. `None`: the request got a response.
    reason: Option<String>,
    /// The time of the last log message, and the count of dropped spans at that time.
    warned_at: Option<Instant>,
    warned_dropped: u64,
}

impl SpanQueue {
    pub(super) fn len(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Reserves a place for a span. Returns false, and counts a dropped span, if the queue
    /// is full.
    fn try_reserve(&self) -> bool {
        let had_room = self.queued.fetch_add(1, Relaxed) < MAX_QUEUED_SPANS;
        if !had_room {
            self.queued.fetch_sub(1, Relaxed);
            self.counts.dropped.inc();
        }
        had_room
    }

    /// Sets the reason for the next log message. `None`: the request got a response.
    pub(super) fn set_reason(&self, reason: Option<String>) {
        self.failure.lock().reason = reason;
    }

    #[cfg(test)]
    pub(super) fn reason(&self) -> Option<String> {
        self.failure.lock().reason.clone()
    }

    /// Logs the spans dropped since the last message, at most once in [`WARN_INTERVAL`].
    fn warn_dropped(&self, endpoint: &str, error: Option<String>) {
        let mut failure = self.failure.lock();
        let dropped = self.counts.dropped.get();
        let warned_recently = failure.warned_at.is_some_and(|at| at.elapsed() < WARN_INTERVAL);
        if dropped == failure.warned_dropped || warned_recently {
            return;
        }
        let spans = dropped - failure.warned_dropped;
        (failure.warned_at, failure.warned_dropped) = (Some(Instant::now()), dropped);
        let reason = failure.reason.clone().or(error);
        let reason = reason.unwrap_or_else(|| "it is slower than spans are created".to_owned());
        let reason = sanitize(&reason, MAX_REASON_BYTES);
        tracing::warn!(
            endpoint,
            spans,
            reason,
            "spans dropped: the OTLP collector rejects them or is too slow"
        );
    }
}

/// A span processor that passes spans to the SDK's processor while the queue has room.
#[derive(Debug)]
pub(super) struct BoundedSpanProcessor {
    pub(super) batches: BatchSpanProcessor,
    pub(super) queue: Arc<SpanQueue>,
}

impl SpanProcessor for BoundedSpanProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.try_reserve() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter that counts the spans of each batch as exported or dropped.
#[derive(Debug)]
pub(super) struct CountingExporter {
    pub(super) otlp: OtlpExporter,
    /// Scheme, host and port of the collector, for the log.
    pub(super) endpoint: String,
    pub(super) queue: Arc<SpanQueue>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        let counts = &self.queue.counts;
        let counter = if result.is_ok() { &counts.exported } else { &counts.dropped };
        counter.inc_by(spans as u64);
        self.queue.queued.fetch_sub(spans, Relaxed);
        let error = result.as_ref().err().map(ToString::to_string);
        self.queue.warn_dropped(&self.endpoint, error);
        result
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.otlp.shutdown()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_drops_and_counts_spans() {
        let queue = SpanQueue::default();
        assert!((0..MAX_QUEUED_SPANS).all(|_| queue.try_reserve()));
        assert!(!queue.try_reserve() && !queue.try_reserve());
        assert_eq!((queue.counts.dropped.get(), queue.queued.load(Relaxed)), (2, MAX_QUEUED_SPANS));
        queue.queued.fetch_sub(1, Relaxed);
        assert!(queue.try_reserve() && !queue.try_reserve());
    }

    #[test]
    fn dropped_spans_are_logged_once_a_minute() {
        let queue = SpanQueue::default();
        let warned_dropped = || queue.failure.lock().warned_dropped;
        queue.warn_dropped("http://a", None);
        assert!(queue.failure.lock().warned_at.is_none());
        queue.counts.dropped.inc_by(3);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 3);
        queue.counts.dropped.inc_by(4);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 3);
        queue.failure.lock().warned_at = Instant::now().checked_sub(WARN_INTERVAL);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 7);
    }
}

//! Rate-limited log of rejected requests, because a rejected sender retries repeatedly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Minimum interval of messages for the same reason.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The rejections for one reason.
pub(super) struct RejectionLog {
    counter: Counter,
    unlogged: AtomicU64,
    started: Instant,
    /// Time of the next possible message, in milliseconds since `started`.
    next_log_ms: AtomicU64,
}

impl RejectionLog {
    /// Creates a log without rejections.
    pub(super) fn new(counter: Counter) -> Self {
        let (untold, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { counter, unlogged: untold, started: Instant::now(), next_log_ms: next }
    }

    /// Counts a rejection. If a message is due, returns the number of rejections since the last
    /// message, including this one.
    pub(super) fn record(&self) -> Option<u64> {
        self.record_at(self.started.elapsed())
    }

    fn record_at(&self, now: Duration) -> Option<u64> {
        self.counter.inc();
        self.unlogged.fetch_add(1, Relaxed);
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (milliseconds(now), self.next_log_ms.load(Relaxed));
        let next_allowed = now.saturating_add(milliseconds(LOG_INTERVAL));
        // The exchange lets one of several concurrent rejections log.
        let should_log = now >= next
            && self.next_log_ms.compare_exchange(next, next_allowed, Relaxed, Relaxed).is_ok();
        should_log.then(|| self.unlogged.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_log_writes_one_line_a_minute() {
        let counter = Counter::default();
        let log = RejectionLog::new(counter.clone());
        let at = |seconds| log.record_at(Duration::from_secs(seconds));
        assert_eq!(at(5), Some(1));
        assert_eq!((at(5), at(6), at(64)), (None, None, None));
        assert_eq!(at(65), Some(4));
        assert_eq!(at(66), None);
        assert_eq!(at(1_000), Some(2));
        assert_eq!(counter.get(), 7);
    }
}

//! Telling the operator of refused senders without filling the log: whoever is refused
//! asks again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Between two lines in the log about the same.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The refusals for one reason.
pub(super) struct RejectionLog {
    counter: Counter,
    unlogged: AtomicU64,
    started: Instant,
    /// When the next line may be written, in milliseconds since `started`.
    next_log_ms: AtomicU64,
}

impl RejectionLog {
    /// None so far.
    pub(super) fn new(counter: Counter) -> Self {
        let (untold, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { counter, unlogged: untold, started: Instant::now(), next_log_ms: next }
    }

    /// Counts one. When it is time for a line in the log: how many there were since the
    /// last, this one included.
    pub(super) fn record(&self) -> Option<u64> {
        self.record_at(self.started.elapsed())
    }

    fn record_at(&self, now: Duration) -> Option<u64> {
        self.counter.inc();
        self.unlogged.fetch_add(1, Relaxed);
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (milliseconds(now), self.next_log_ms.load(Relaxed));
        let next_allowed = now.saturating_add(milliseconds(LOG_INTERVAL));
        // Of many at the same time, one writes.
        let should_log = now >= next
            && self.next_log_ms.compare_exchange(next, next_allowed, Relaxed, Relaxed).is_ok();
        should_log.then(|| self.unlogged.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_log_line_a_minute_counts_all_rejections() {
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

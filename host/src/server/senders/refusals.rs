//! Telling the operator of refused senders without filling the log: whoever is refused
//! asks again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Between two lines in the log about the same.
const PAUSE: Duration = Duration::from_secs(60);

/// The refusals for one reason.
pub(super) struct Refusals {
    counter: Counter,
    untold: AtomicU64,
    started: Instant,
    /// When the next line may be written, in milliseconds since `started`.
    next: AtomicU64,
}

impl Refusals {
    /// None so far.
    pub(super) fn new(counter: Counter) -> Self {
        let (untold, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { counter, untold, started: Instant::now(), next }
    }

    /// Counts one. When it is time for a line in the log: how many there were since the
    /// last, this one included.
    pub(super) fn count(&self) -> Option<u64> {
        self.count_at(self.started.elapsed())
    }

    fn count_at(&self, now: Duration) -> Option<u64> {
        self.counter.inc();
        self.untold.fetch_add(1, Relaxed);
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (milliseconds(now), self.next.load(Relaxed));
        let then = now.saturating_add(milliseconds(PAUSE));
        // Of many at the same time, one writes.
        let is_ours =
            now >= next && self.next.compare_exchange(next, then, Relaxed, Relaxed).is_ok();
        is_ours.then(|| self.untold.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_tells_of_all() {
        let counter = Counter::default();
        let refusals = Refusals::new(counter.clone());
        let at = |seconds| refusals.count_at(Duration::from_secs(seconds));
        assert_eq!(at(5), Some(1));
        assert_eq!((at(5), at(6), at(64)), (None, None, None));
        assert_eq!(at(65), Some(4));
        assert_eq!(at(66), None);
        assert_eq!(at(1_000), Some(2));
        assert_eq!(counter.get(), 7);
    }
}

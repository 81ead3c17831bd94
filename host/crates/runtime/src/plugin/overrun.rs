//! Overrun tracking: predicts from recent overruns whether a plugin is CPU-bound.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Number of overruns within a second above which a plugin is CPU-bound. A single
/// overrun does not count, because on a busy machine any guest overruns now and then. The
/// threshold is low, because each overrun holds a thread for two ticks.
const OVERRUN_THRESHOLD: u64 = 1;

/// Time after its last overrun for which a plugin counts as CPU-bound.
const CPU_BOUND_DURATION: Duration = Duration::from_secs(1);

/// Counter of overruns: ticks that the guests of one plugin used up.
#[derive(Debug)]
pub struct OverrunTracker {
    start: Instant,
    // The upper half has the seconds since `start`, the lower half the count.
    overruns: AtomicU64,
}

impl OverrunTracker {
    /// Creates a tracker without overruns.
    pub fn new() -> Self {
        Self { start: Instant::now(), overruns: AtomicU64::new(0) }
    }

    /// Counts a tick that a guest used up.
    pub fn record_overrun(&self, now: Instant) {
        let second = self.second(now);
        // A lost update is harmless: it loses one of many counts.
        let (last, count) = unpack(self.overruns.load(Relaxed));
        let count = if last == second { count.saturating_add(1) } else { 1 };
        self.overruns.store(second << 32 | count.min(u64::from(u32::MAX)), Relaxed);
    }

    /// Returns whether the next guest should wait for a CPU permit before it starts.
    pub fn is_cpu_bound(&self, now: Instant) -> bool {
        let (last, count) = unpack(self.overruns.load(Relaxed));
        count > OVERRUN_THRESHOLD
            && self.second(now).saturating_sub(last) <= CPU_BOUND_DURATION.as_secs()
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() & u64::from(u32::MAX)
    }
}

fn unpack(packed: u64) -> (u64, u64) {
    (packed >> 32, packed & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_overruns_mark_plugin_cpu_bound_temporarily() {
        let tracker = OverrunTracker::new();
        let at = |seconds| tracker.start + Duration::from_secs(seconds);
        for _ in 0..OVERRUN_THRESHOLD {
            tracker.record_overrun(at(1));
        }
        assert!(!tracker.is_cpu_bound(at(1)));
        tracker.record_overrun(at(1));
        assert!(tracker.is_cpu_bound(at(1)));
        assert!(tracker.is_cpu_bound(at(2)));
        assert!(!tracker.is_cpu_bound(at(3)));
    }
}

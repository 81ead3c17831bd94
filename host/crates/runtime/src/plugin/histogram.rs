//! Lock-free histogram of durations with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use plugboard_core::units;

/// Upper bounds of the buckets, in microseconds. They range from a decision without I/O
/// (tens) to the retries of an event (ten minutes).
pub const BUCKETS_US: [u64; 19] = [
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// Number of durations in each bucket, not cumulative; the last bucket has the durations
/// above all bounds.
pub type Buckets = [u64; BUCKETS_US.len() + 1];

/// Histogram of durations, updated without locks.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    total_us: AtomicU64,
    max_us: AtomicU64,
}

/// State of a histogram at one moment.
#[derive(Debug, Default)]
pub struct HistogramSnapshot {
    /// Numbers of durations, by the bounds in [`BUCKETS_US`].
    pub buckets: Buckets,
    /// Sum of all durations, in microseconds.
    pub total_us: u64,
    /// Longest duration, in microseconds.
    pub max_us: u64,
}

/// Summary of a histogram, in microseconds. The quantiles are upper bounds of the buckets.
#[derive(Debug, Default, Serialize)]
pub struct LatencySummary {
    /// Mean of all calls.
    pub mean: u64,
    /// Median: half of the calls took no longer.
    pub p50: u64,
    /// 99th percentile: 99 of 100 calls took no longer.
    pub p99: u64,
    /// Duration of the slowest call.
    pub max: u64,
}

impl Histogram {
    /// Counts one duration in its bucket.
    pub fn record(&self, time: Duration) {
        let us = units::micros(time);
        self.total_us.fetch_add(us, Relaxed);
        self.max_us.fetch_max(us, Relaxed);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Returns the current state.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Relaxed)),
            total_us: self.total_us.load(Relaxed),
            max_us: self.max_us.load(Relaxed),
        }
    }
}

impl HistogramSnapshot {
    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the mean, quantiles and maximum.
    pub fn summary(&self) -> LatencySummary {
        let count = self.count();
        LatencySummary {
            mean: self.total_us.checked_div(count).unwrap_or(0),
            p50: self.quantile_bound(count.div_ceil(2)),
            p99: self.quantile_bound(count - count / 100),
            max: self.max_us,
        }
    }

    /// Returns the lowest bound that at least `rank` durations do not exceed.
    fn quantile_bound(&self, rank: u64) -> u64 {
        let mut cumulative = 0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_US) {
            cumulative += bucket;
            if cumulative >= rank {
                return bound.min(self.max_us);
            }
        }
        self.max_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_durations_by_bucket() {
        let histogram = Histogram::default();
        for _ in 0..98 {
            histogram.record(Duration::from_micros(20));
        }
        histogram.record(Duration::from_micros(25));
        histogram.record(Duration::from_secs(3));
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.buckets[1], snapshot.buckets[16]), (100, 99, 1));
        let latency = snapshot.summary();
        assert_eq!((latency.p50, latency.p99, latency.max), (25, 25, 3_000_000));
    }
}

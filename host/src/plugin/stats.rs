//! What the plugins of one name did so far, for the operator. Counted without
//! locks, as it stands in the way of every call. A new version goes on counting
//! where the old one stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::error::{PluginError, Stage};
use crate::decision::Kind;

/// Upper bounds of the histogram of call times, in microseconds: from a
/// decision without I/O (tens) to the longest budget that makes sense.
pub const BUCKETS_US: [u64; 16] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    1_000_000, 2_500_000,
];

/// Counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    /// By verdict, as [`Kind`] is ordered; from the guest and from the cache.
    ran: [AtomicU64; 3],
    cached: [AtomicU64; 3],
    misses: AtomicU64,
    set_aside: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
    /// Calls whose time is within the bound and above the one before; the last
    /// is for those above all bounds.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    // Behind a lock because it is written on failures only.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// Something that went wrong with a plugin.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// Where in the plugin's life.
    pub stage: Stage,
    /// The label that metrics use.
    pub label: &'static str,
    /// For people.
    pub message: String,
    /// Of the file that it is about, SHA-256 in hex; none when it could not be
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When.
    pub at: jiff::Timestamp,
}

impl LastError {
    /// What happened just now to the file of this digest.
    pub fn now(error: &PluginError, digest: Option<String>) -> Self {
        Self {
            stage: error.stage(),
            label: error.label(),
            message: error.to_string(),
            digest,
            at: jiff::Timestamp::now(),
        }
    }
}

/// The counters at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Calls of the guest, by verdict.
    pub ran: Decisions,
    /// Verdicts that the cache had.
    pub cached: Decisions,
    /// Questions that the cache could not answer.
    pub misses: u64,
    /// Calls for which it was not asked because it kept failing.
    pub set_aside: u64,
    /// Calls that failed, by label.
    pub failures: BTreeMap<&'static str, u64>,
    /// How long calls of the guest took, waiting for a free instance included.
    pub latency_us: Latency,
    /// All of them, in microseconds.
    pub total_us: u64,
    /// As [`BUCKETS_US`], and those above.
    pub buckets: [u64; BUCKETS_US.len() + 1],
}

impl Snapshot {
    /// Calls of the guest that were answered or failed.
    pub fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Decisions by verdict.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Decisions {
    /// No opinion.
    pub pass: u64,
    /// The call goes on.
    pub route: u64,
    /// The call shall not be taken.
    pub reject: u64,
}

/// Times in microseconds. The shares are upper bounds of the histogram's
/// buckets.
#[derive(Debug, Default, Serialize)]
pub struct Latency {
    /// Of all calls.
    pub mean: u64,
    /// Half of the calls took no longer.
    pub p50: u64,
    /// 99 of 100 calls took no longer.
    pub p99: u64,
    /// The slowest call.
    pub max: u64,
}

impl Stats {
    /// Counts a call of the guest and what came of it.
    pub fn ran(&self, took: Duration, result: Result<Kind, &PluginError>) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(took, Relaxed);
        self.max_us.fetch_max(took, Relaxed);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        match result {
            Ok(kind) => count(&self.ran, kind),
            Err(error) => self.failed(error),
        }
    }

    /// Counts a failure, of the guest or of what it decided.
    pub fn failed(&self, error: &PluginError) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.entry(error.label()).or_default() += 1;
    }

    /// Counts a verdict that the cache had.
    pub fn cached(&self, kind: Kind) {
        count(&self.cached, kind);
    }

    /// Counts a question that the cache could not answer.
    pub fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// Counts a call that it was not asked about because it kept failing.
    pub fn set_aside(&self) {
        self.set_aside.fetch_add(1, Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        let calls: u64 = buckets.iter().sum();
        let (total_us, max) = (self.total_us.load(Relaxed), self.max_us.load(Relaxed));
        Snapshot {
            ran: decisions(&self.ran),
            cached: decisions(&self.cached),
            misses: self.misses.load(Relaxed),
            set_aside: self.set_aside.load(Relaxed),
            failures: self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            latency_us: Latency {
                mean: total_us.checked_div(calls).unwrap_or(0),
                p50: share(&buckets, calls.div_ceil(2), max),
                p99: share(&buckets, calls - calls / 100, max),
                max,
            },
            total_us,
            buckets,
        }
    }
}

fn count(counters: &[AtomicU64; 3], kind: Kind) {
    if let Some(counter) = counters.get(kind as usize) {
        counter.fetch_add(1, Relaxed);
    }
}

fn decisions(counters: &[AtomicU64; 3]) -> Decisions {
    let [pass, route, reject] = counters.each_ref().map(|counter| counter.load(Relaxed));
    Decisions { pass, route, reject }
}

/// The least bound that so many calls are within.
fn share(buckets: &[u64], calls: u64, max: u64) -> u64 {
    let mut within = 0;
    for (bucket, bound) in buckets.iter().zip(BUCKETS_US) {
        within += bucket;
        if within >= calls {
            return bound.min(max);
        }
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_verdict_label_and_time() {
        let stats = Stats::default();
        for _ in 0..98 {
            stats.ran(Duration::from_micros(20), Ok(Kind::Route));
        }
        stats.ran(Duration::from_micros(25), Ok(Kind::Pass));
        stats.ran(Duration::from_secs(3), Err(&PluginError::Busy));
        stats.cached(Kind::Reject);
        let seen = stats.snapshot();
        assert_eq!(
            (seen.calls(), seen.ran.route, seen.ran.pass, seen.cached.reject),
            (100, 98, 1, 1)
        );
        assert_eq!(seen.failures, BTreeMap::from([("busy", 1)]));
        assert_eq!((seen.buckets[1], seen.buckets[BUCKETS_US.len()]), (99, 1));
        let latency = seen.latency_us;
        assert_eq!((latency.p50, latency.p99, latency.max), (25, 25, 3_000_000));
    }
}

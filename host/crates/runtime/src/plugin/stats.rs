//! What the plugins of one name did so far, for the operator. Counted without
//! locks, as it stands in the way of every call. A new version goes on counting
//! where the old one stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::error::{CallError, LoadError, Stage};
use super::histogram::{Histogram, HistogramSnapshot};
use crate::capability::metrics::GuestMetrics;
use plugboard_core::verdict::VerdictKind;

/// Counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    /// By verdict, as [`VerdictKind`] is ordered; from the guest and from the cache.
    plugin_verdicts: [AtomicU64; 3],
    cached_verdicts: [AtomicU64; 3],
    cache_misses: AtomicU64,
    short_circuited: AtomicU64,
    /// Of its decisions.
    latency: Histogram,
    // Behind a lock because it is written on failures only.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    /// What it did with events.
    pub events: EventStats,
    /// What it did for voice agents' tools.
    pub tools: MidCallStats,
    /// What it did about transfers.
    pub transfers: MidCallStats,
    /// What it was refused, by capability and error.
    denials: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Its own figures.
    pub guest_metrics: Arc<GuestMetrics>,
}

/// What an observer did.
#[derive(Debug, Default)]
pub struct EventStats {
    /// Events that it took.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Events that it was given up for.
    pub dead_lettered: AtomicU64,
    /// How long it took over each attempt.
    pub latency: Histogram,
    /// From the moment an event was accepted to the one it was taken.
    pub delivery_latency: Histogram,
}

/// What a plugin did in the middle of calls.
#[derive(Debug, Default)]
pub struct MidCallStats {
    /// Answers.
    pub answered: AtomicU64,
    /// Errors of a tool's own, or transfers that it had no opinion on.
    pub declined: AtomicU64,
    /// Failures.
    pub failed: AtomicU64,
    /// Answers that the cache had.
    pub cached: AtomicU64,
    /// How long it took.
    pub latency: Histogram,
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
    /// The file of this digest could not be loaded just now. `None`: it could not be
    /// read.
    pub fn in_load(error: &LoadError, digest: Option<String>) -> Self {
        Self::new(error.stage(), error.label(), error.to_string(), digest)
    }

    /// A call of the version of this digest failed just now.
    pub fn in_call(error: &CallError, digest: String) -> Self {
        Self::new(Stage::Call, error.label(), error.to_string(), Some(digest))
    }

    fn new(stage: Stage, label: &'static str, message: String, digest: Option<String>) -> Self {
        Self { stage, label, message, digest, at: jiff::Timestamp::now() }
    }
}

/// The counters at one moment.
#[derive(Debug)]
pub struct StatsSnapshot {
    /// Calls of the guest, by verdict.
    pub plugin_verdicts: VerdictCounts,
    /// Verdicts that the cache had.
    pub cached_verdicts: VerdictCounts,
    /// Questions that the cache could not answer.
    pub cache_misses: u64,
    /// Calls for which it was not asked because it kept failing.
    pub short_circuited: u64,
    /// Calls that failed, by label; of every hook.
    pub failures: BTreeMap<&'static str, u64>,
    /// How long decisions took, waiting for a free instance included.
    pub latency: HistogramSnapshot,
    /// What it was refused, by capability and error.
    pub denials: BTreeMap<(&'static str, &'static str), u64>,
}

/// Decisions by verdict.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct VerdictCounts {
    /// No opinion.
    pub pass: u64,
    /// The call goes on.
    pub route: u64,
    /// The call shall not be taken.
    pub reject: u64,
}

impl Stats {
    /// Counts a call of the guest and what came of it.
    pub fn record_run(&self, took: Duration, result: Result<VerdictKind, &CallError>) {
        self.latency.record(took);
        match result {
            Ok(kind) => increment(&self.plugin_verdicts, kind),
            Err(error) => self.record_failure(error),
        }
    }

    /// Counts a failure, of the guest or of what it decided.
    pub fn record_failure(&self, error: &CallError) {
        let mut failures = self.failures.lock();
        *failures.entry(error.label()).or_default() += 1;
    }

    /// Counts a verdict that the cache had.
    pub fn record_cache_hit(&self, kind: VerdictKind) {
        increment(&self.cached_verdicts, kind);
    }

    /// Counts a question that the cache could not answer.
    pub fn record_cache_miss(&self) {
        self.cache_misses.fetch_add(1, Relaxed);
    }

    /// Counts a call that it was not asked about because it kept failing.
    pub fn record_short_circuit(&self) {
        self.short_circuited.fetch_add(1, Relaxed);
    }

    /// Counts something that it wanted and did not get.
    pub fn record_denial(&self, capability: &'static str, error: &'static str) {
        let mut denials = self.denials.lock();
        *denials.entry((capability, error)).or_default() += 1;
    }

    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            plugin_verdicts: load_verdicts(&self.plugin_verdicts),
            cached_verdicts: load_verdicts(&self.cached_verdicts),
            cache_misses: self.cache_misses.load(Relaxed),
            short_circuited: self.short_circuited.load(Relaxed),
            failures: self.failures.lock().clone(),
            latency: self.latency.snapshot(),
            denials: self.denials.lock().clone(),
        }
    }
}

fn increment(counters: &[AtomicU64; 3], kind: VerdictKind) {
    if let Some(counter) = counters.get(kind as usize) {
        counter.fetch_add(1, Relaxed);
    }
}

fn load_verdicts(counters: &[AtomicU64; 3]) -> VerdictCounts {
    let [pass, route, reject] = counters.each_ref().map(|counter| counter.load(Relaxed));
    VerdictCounts { pass, route, reject }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_count_calls_by_verdict_and_label() {
        let stats = Stats::default();
        stats.record_run(Duration::from_micros(25), Ok(VerdictKind::Pass));
        stats.record_run(Duration::from_micros(25), Ok(VerdictKind::Route));
        stats.record_run(Duration::from_secs(3), Err(&CallError::Busy));
        stats.record_cache_hit(VerdictKind::Reject);
        stats.record_denial("kv", "quota");
        let snapshot = stats.snapshot();
        assert_eq!(
            (
                snapshot.latency.count(),
                snapshot.plugin_verdicts.route,
                snapshot.cached_verdicts.reject
            ),
            (3, 1, 1)
        );
        assert_eq!(snapshot.failures, BTreeMap::from([("busy", 1)]));
        assert_eq!(snapshot.denials, BTreeMap::from([(("kv", "quota"), 1)]));
    }
}

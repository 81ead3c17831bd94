//! Counters of the plugins of one name.
//!
//! Every call counts, so a counter is one atomic addition; only failures take a lock. A
//! new version of a plugin continues the counters of the version that it replaces.
//!
//! These are not handles of `prometheus-client`'s families: a family keeps its rows in a
//! hash map, from which each row of a removed plugin would have to be removed by its
//! labels, and its histogram locks. The metrics and `GET /plugins` read
//! [`StatsSnapshot`] instead.

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

/// Counters of the plugins of one name. Only [`super::Plugin`] writes them.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Verdicts of the guest, in the order of [`VerdictKind`].
    plugin_verdicts: [AtomicU64; 3],
    /// Verdicts from the cache, in the same order.
    cached_verdicts: [AtomicU64; 3],
    cache_misses: AtomicU64,
    short_circuited: AtomicU64,
    /// Duration of decisions, including the wait for an instance.
    latency: Histogram,
    // Behind a lock because it is written on failures only.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) events: EventStats,
    pub(super) tools: MidCallStats,
    pub(super) transfers: MidCallStats,
    /// Numbers of failed host calls, by capability and error.
    host_call_errors: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// The plugin's custom metrics.
    pub(super) guest_metrics: Arc<GuestMetrics>,
}

/// Counters of an observer.
#[derive(Debug, Default)]
pub(super) struct EventStats {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dead_lettered: AtomicU64,
    pub(super) latency: Histogram,
    pub(super) delivery_latency: Histogram,
}

/// Counters of tool calls, or of transfers.
#[derive(Debug, Default)]
pub(super) struct MidCallStats {
    pub(super) answered: AtomicU64,
    pub(super) declined: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) latency: Histogram,
}

/// Last error of a plugin.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// Step of loading or calling that failed.
    pub stage: Stage,
    /// Label of the error in metrics.
    pub label: &'static str,
    /// Text for the author and the operator.
    pub message: String,
    /// SHA-256 of the plugin's file, in hex. `None`: it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Time of the error.
    pub at: jiff::Timestamp,
}

impl LastError {
    /// Creates an error of loading, with the current time. `digest` is `None` if the file
    /// could not be read.
    pub fn in_load(error: &LoadError, digest: Option<String>) -> Self {
        Self::new(error.stage(), error.label(), error.to_string(), digest)
    }

    /// Creates an error of a call of the version of this digest, with the current time.
    pub fn in_call(error: &CallError, digest: String) -> Self {
        Self::new(Stage::Call, error.label(), error.to_string(), Some(digest))
    }

    fn new(stage: Stage, label: &'static str, message: String, digest: Option<String>) -> Self {
        Self { stage, label, message, digest, at: jiff::Timestamp::now() }
    }
}

/// Counters of a plugin at one moment.
#[derive(Debug, Default)]
pub struct StatsSnapshot {
    /// Verdicts of the guest.
    pub plugin_verdicts: VerdictCounts,
    /// Verdicts from the cache.
    pub cached_verdicts: VerdictCounts,
    /// Decisions for which the cache had no verdict.
    pub cache_misses: u64,
    /// Decisions for which the plugin was not called because its circuit breaker was
    /// open.
    pub short_circuited: u64,
    /// Failed calls of all hooks, by the label of the error.
    pub failures: BTreeMap<&'static str, u64>,
    /// Duration of decisions, including the wait for an instance.
    pub latency: HistogramSnapshot,
    /// Counters of events, if the plugin is an observer.
    pub events: EventStatsSnapshot,
    /// Counters of tool calls by result.
    pub tools: MidCallStatsSnapshot,
    /// Counters of decided and declined transfers.
    pub transfers: MidCallStatsSnapshot,
    /// Host calls that failed, by capability and label of the error.
    pub host_call_errors: BTreeMap<(&'static str, &'static str), u64>,
}

/// Counters of an observer at one moment.
#[derive(Debug, Default)]
pub struct EventStatsSnapshot {
    /// Events that the plugin accepted.
    pub delivered: u64,
    /// Delivery attempts that failed.
    pub failed: u64,
    /// Events that were moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Duration of each attempt.
    pub latency: HistogramSnapshot,
    /// Time from the acceptance of an event to its delivery.
    pub delivery_latency: HistogramSnapshot,
}

/// Counters of tool calls or transfers at one moment.
#[derive(Debug, Default)]
pub struct MidCallStatsSnapshot {
    /// Answers of the guest.
    pub answered: u64,
    /// Errors that tools returned, or transfers that the guest declined.
    pub declined: u64,
    /// Calls that failed or timed out.
    pub failed: u64,
    /// Answers from the cache.
    pub cached: u64,
    /// Duration of each call.
    pub latency: HistogramSnapshot,
}

/// Numbers of decisions by verdict.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct VerdictCounts {
    /// The plugin declined to decide.
    pub pass: u64,
    /// The call is routed.
    pub route: u64,
    /// The call is rejected.
    pub reject: u64,
}

impl Stats {
    /// Counts a decision of the guest.
    pub(super) fn record_run(&self, took: Duration, result: Result<VerdictKind, &CallError>) {
        self.latency.record(took);
        match result {
            Ok(kind) => increment(&self.plugin_verdicts, kind),
            Err(error) => self.record_failure(error),
        }
    }

    /// Counts a failed call of any hook, or a verdict that cannot be used.
    pub(super) fn record_failure(&self, error: &CallError) {
        *self.failures.lock().entry(error.label()).or_default() += 1;
    }

    /// Counts a verdict from the cache.
    pub(super) fn record_cache_hit(&self, kind: VerdictKind) {
        increment(&self.cached_verdicts, kind);
    }

    /// Counts a decision for which the cache had no verdict.
    pub(super) fn record_cache_miss(&self) {
        self.cache_misses.fetch_add(1, Relaxed);
    }

    /// Counts a decision that an open circuit breaker prevented.
    pub(super) fn record_short_circuit(&self) {
        self.short_circuited.fetch_add(1, Relaxed);
    }

    /// Counts a host call that failed.
    pub(super) fn record_host_call_error(&self, capability: &'static str, error: &'static str) {
        *self.host_call_errors.lock().entry((capability, error)).or_default() += 1;
    }

    pub(super) fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            plugin_verdicts: load_verdicts(&self.plugin_verdicts),
            cached_verdicts: load_verdicts(&self.cached_verdicts),
            cache_misses: self.cache_misses.load(Relaxed),
            short_circuited: self.short_circuited.load(Relaxed),
            failures: self.failures.lock().clone(),
            latency: self.latency.snapshot(),
            events: self.events.snapshot(),
            tools: self.tools.snapshot(),
            transfers: self.transfers.snapshot(),
            host_call_errors: self.host_call_errors.lock().clone(),
        }
    }
}

impl EventStats {
    fn snapshot(&self) -> EventStatsSnapshot {
        EventStatsSnapshot {
            delivered: self.delivered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            latency: self.latency.snapshot(),
            delivery_latency: self.delivery_latency.snapshot(),
        }
    }
}

impl MidCallStats {
    fn snapshot(&self) -> MidCallStatsSnapshot {
        MidCallStatsSnapshot {
            answered: self.answered.load(Relaxed),
            declined: self.declined.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cached: self.cached.load(Relaxed),
            latency: self.latency.snapshot(),
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
        stats.record_host_call_error("kv", "quota");
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
        assert_eq!(snapshot.host_call_errors, BTreeMap::from([(("kv", "quota"), 1)]));
    }
}

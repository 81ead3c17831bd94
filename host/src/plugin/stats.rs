//! What the plugins of one name did so far, for the operator. Counted without
//! locks, as it stands in the way of every call. A new version goes on counting
//! where the old one stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::error::{PluginError, Stage};
use super::histogram::{Histogram, Times};
use crate::capability::metrics::Figures;
use crate::decision::Kind;

/// Counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    /// By verdict, as [`Kind`] is ordered; from the guest and from the cache.
    ran: [AtomicU64; 3],
    cached: [AtomicU64; 3],
    misses: AtomicU64,
    set_aside: AtomicU64,
    /// Of its decisions.
    times: Histogram,
    // Behind a lock because it is written on failures only.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    /// What it did with events.
    pub events: EventStats,
    /// What it did for voice agents' tools.
    pub tools: UseStats,
    /// What it did about transfers.
    pub transfers: UseStats,
    /// What it was refused, by capability and error.
    refusals: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Its own figures.
    pub figures: Arc<Figures>,
}

/// What an observer did.
#[derive(Debug, Default)]
pub struct EventStats {
    /// Events that it took.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Events that it was given up for.
    pub dead: AtomicU64,
    /// How long it took over each attempt.
    pub times: Histogram,
    /// From the moment an event was accepted to the one it was taken.
    pub delays: Histogram,
}

/// What a plugin did in the middle of calls.
#[derive(Debug, Default)]
pub struct UseStats {
    /// Answers.
    pub answered: AtomicU64,
    /// Errors of a tool's own, or transfers that it had no opinion on.
    pub declined: AtomicU64,
    /// Failures.
    pub failed: AtomicU64,
    /// Answers that the cache had.
    pub cached: AtomicU64,
    /// How long it took.
    pub times: Histogram,
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
    /// Calls that failed, by label; of every hook.
    pub failures: BTreeMap<&'static str, u64>,
    /// How long decisions took, waiting for a free instance included.
    pub times: Times,
    /// What it was refused, by capability and error.
    pub refusals: BTreeMap<(&'static str, &'static str), u64>,
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

impl Stats {
    /// Counts a call of the guest and what came of it.
    pub fn ran(&self, took: Duration, result: Result<Kind, &PluginError>) {
        self.times.add(took);
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

    /// Counts something that it wanted and did not get.
    pub fn refused(&self, capability: &'static str, error: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((capability, error)).or_default() += 1;
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            ran: decisions(&self.ran),
            cached: decisions(&self.cached),
            misses: self.misses.load(Relaxed),
            set_aside: self.set_aside.load(Relaxed),
            failures: self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            times: self.times.snapshot(),
            refusals: self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_verdict_and_label() {
        let stats = Stats::default();
        stats.ran(Duration::from_micros(25), Ok(Kind::Pass));
        stats.ran(Duration::from_micros(25), Ok(Kind::Route));
        stats.ran(Duration::from_secs(3), Err(&PluginError::Busy));
        stats.cached(Kind::Reject);
        stats.refused("kv", "quota");
        let seen = stats.snapshot();
        assert_eq!((seen.times.count(), seen.ran.route, seen.cached.reject), (3, 1, 1));
        assert_eq!(seen.failures, BTreeMap::from([("busy", 1)]));
        assert_eq!(seen.refusals, BTreeMap::from([(("kv", "quota"), 1)]));
    }
}

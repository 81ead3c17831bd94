//! What a plugin did so far, for the operator. Counted without locks, as it
//! stands in the way of every call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::error::{PluginError, Stage};
use crate::decision::Kind;

/// Counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    calls: AtomicU64,
    failures: AtomicU64,
    passes: AtomicU64,
    routes: AtomicU64,
    rejections: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
    // Behind a lock because it is written on failures only.
    last_error: Mutex<Option<LastError>>,
}

/// The last thing that went wrong with a plugin.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// Where in the plugin's life.
    pub stage: Stage,
    /// The label that metrics use.
    pub label: &'static str,
    /// For people.
    pub message: String,
    /// When.
    pub at: jiff::Timestamp,
}

impl From<&PluginError> for LastError {
    fn from(error: &PluginError) -> Self {
        Self {
            stage: error.stage(),
            label: error.label(),
            message: error.to_string(),
            at: jiff::Timestamp::now(),
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Calls that were answered or failed.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// What it decided.
    pub decisions: Decisions,
    /// How long calls took, waiting for a free instance included.
    pub latency_us: Latency,
    /// The last failure.
    pub last_error: Option<LastError>,
}

/// Decisions by verdict.
#[derive(Debug, Default, Serialize)]
pub struct Decisions {
    /// No opinion.
    pub pass: u64,
    /// The call goes on.
    pub route: u64,
    /// The call shall not be taken.
    pub reject: u64,
}

/// Times in microseconds.
#[derive(Debug, Default, Serialize)]
pub struct Latency {
    /// Of all calls.
    pub mean: u64,
    /// The slowest call.
    pub max: u64,
}

impl Stats {
    /// Counts a call and what came of it.
    pub fn record(&self, took: Duration, result: Result<Kind, &PluginError>) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Relaxed);
        self.total_us.fetch_add(took, Relaxed);
        self.max_us.fetch_max(took, Relaxed);
        let kind = match result {
            Ok(Kind::Pass) => &self.passes,
            Ok(Kind::Route) => &self.routes,
            Ok(Kind::Reject) => &self.rejections,
            Err(error) => {
                *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(error.into());
                &self.failures
            }
        };
        kind.fetch_add(1, Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let calls = self.calls.load(Relaxed);
        Snapshot {
            calls,
            failures: self.failures.load(Relaxed),
            decisions: Decisions {
                pass: self.passes.load(Relaxed),
                route: self.routes.load(Relaxed),
                reject: self.rejections.load(Relaxed),
            },
            latency_us: Latency {
                mean: self.total_us.load(Relaxed).checked_div(calls).unwrap_or(0),
                max: self.max_us.load(Relaxed),
            },
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

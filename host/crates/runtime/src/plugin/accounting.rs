//! Accounting of a plugin's replies: updates its counters and its circuit breakers together.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::Plugin;
use super::contract::Hook;
use super::error::CallError;
use plugboard_core::call::Call;
use plugboard_core::verdict::VerdictKind;

impl Plugin {
    /// Counts a verdict from the cache. It is a success for the circuit breaker: a
    /// plugin that fails for some calls only is not disabled for the others.
    pub fn record_cached_verdict(&self, kind: VerdictKind) {
        self.stats.record_cache_hit(kind);
        self.breaker(Hook::Router).record_success();
    }

    /// Counts a decision for which the cache had no verdict.
    pub fn record_cache_miss(&self) {
        self.stats.record_cache_miss();
    }

    /// Counts a decision of the guest, or one that the circuit breaker prevented.
    pub fn record_decision(&self, elapsed: Duration, result: Result<VerdictKind, &CallError>) {
        if let Err(CallError::CircuitOpen) = result {
            self.stats.record_short_circuit();
        } else {
            self.stats.record_run(elapsed, result);
        }
    }

    /// Counts a verdict that cannot be used for the call, for example because its URL
    /// template cannot be filled.
    pub fn record_unusable_verdict(&self, error: &CallError) {
        self.stats.record_failure(error);
    }

    /// Counts a tool result from the cache. As for verdicts, it is a success for the
    /// circuit breaker.
    pub fn record_cached_tool_result(&self) {
        self.stats.tools.cached.fetch_add(1, Relaxed);
        self.breaker(Hook::Tools).record_success();
    }

    /// Counts the guest's reply to a tool call or a transfer: an answer, a refusal (`declined`)
    /// or an error. An open circuit breaker is not counted.
    pub fn record_mid_call(
        &self,
        hook: Hook,
        elapsed: Duration,
        declined: Result<bool, &CallError>,
    ) {
        let stats = match hook {
            Hook::Transfers => &self.stats.transfers,
            _ => &self.stats.tools,
        };
        let counter = match declined {
            Ok(true) => &stats.declined,
            Ok(false) => &stats.answered,
            Err(CallError::CircuitOpen) => return,
            Err(error) => {
                self.stats.record_failure(error);
                &stats.failed
            }
        };
        counter.fetch_add(1, Relaxed);
        stats.latency.record(elapsed);
    }

    /// Counts an event that the plugin accepted. `took` is the duration of the attempt,
    /// `delivery_latency` the time since the journal accepted the event.
    pub fn record_delivery(&self, took: Duration, delivery_latency: Duration) {
        let stats = &self.stats.events;
        stats.latency.record(took);
        stats.delivered.fetch_add(1, Relaxed);
        stats.delivery_latency.record(delivery_latency);
    }

    /// Counts an attempt to deliver an event of this call that failed, and keeps the
    /// error as the last one.
    pub fn record_failed_delivery(&self, took: Duration, call: &Call, error: &CallError) {
        let stats = &self.stats.events;
        stats.latency.record(took);
        stats.failed.fetch_add(1, Relaxed);
        self.stats.record_failure(error);
        self.record_failure(call, error);
    }

    /// Counts an event that was moved to the dead-letter queue.
    pub fn record_dead_letter(&self) {
        self.stats.events.dead_lettered.fetch_add(1, Relaxed);
    }

    /// Waits for one of this plugin's permits for tools and transfers. A plugin has half as
    /// many as all plugins share. Never returns `None`, because the semaphore is not closed.
    pub async fn acquire_mid_call_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.mid_call_permits.acquire().await.ok()
    }
}

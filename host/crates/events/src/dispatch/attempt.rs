//! One attempt to tell a plugin of an event, and what becomes of an event that is never
//! taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::consumer::ConsumerShared;
use super::spans;
use super::tombstones::DeliveryAdmission;
use super::window::PendingDelivery;
use plugboard_core::span::in_span;
use plugboard_core::text::sanitize;
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store::DeadLetter;

/// Longest text of an error that is kept with a dead letter, in bytes.
const MAX_ERROR_BYTES: usize = 1024;

/// What became of a delivery.
pub(super) struct DeliveryOutcome {
    pub(super) delivery: PendingDelivery,
    pub(super) result: Result<(), RetryReason>,
}

/// Why an event is still to be told.
pub(super) enum RetryReason {
    /// The plugin failed over it.
    Failed,
    /// No fault of the plugin's: there was no room, or no plugin.
    Unavailable,
    /// The plugin keeps failing.
    CircuitOpen,
}

/// Tells a plugin of an event; gives up after the last attempt.
pub(super) async fn deliver(
    shared: Arc<ConsumerShared>,
    plugin: Arc<Plugin>,
    delivery: PendingDelivery,
) -> DeliveryOutcome {
    let result = attempt_delivery(&shared, &plugin, &delivery).await;
    DeliveryOutcome { delivery, result }
}

async fn attempt_delivery(
    shared: &ConsumerShared,
    plugin: &Plugin,
    delivery: &PendingDelivery,
) -> Result<(), RetryReason> {
    // Never closed.
    let Ok(_concurrency_permit) = shared.permits.acquire().await else {
        return Err(RetryReason::Unavailable);
    };
    let _delivery_guard = match shared.tombstones.begin_delivery(&delivery.event) {
        Ok(delivery_guard) => delivery_guard,
        Err(admission) => return result_for_blocked(admission),
    };
    let Some(breaker_permit) = plugin.breaker(Hook::Observer).try_acquire(Instant::now()) else {
        return Err(RetryReason::CircuitOpen);
    };
    let event = &delivery.event;
    let start = Instant::now();
    let span = spans::observer_span(plugin, event, delivery.attempts + 1);
    let observe_call = plugin.observe(&event.event, event.event_id);
    let result = in_span(span, CallError::label, observe_call).await;
    let now = Instant::now();
    let error = match result {
        Ok(()) => {
            breaker_permit.record_success();
            let delay = plugboard_store::unix_now().saturating_sub(event.accepted_at);
            let delay = Duration::from_millis(u64::try_from(delay).unwrap_or(0));
            plugin.record_delivery(now - start, delay);
            return Ok(());
        }
        Err(CallError::Busy) => return Err(RetryReason::Unavailable),
        Err(error) => error,
    };
    plugin.record_failed_delivery(now - start, &event.event.call, &error);
    let attempts = delivery.attempts + 1;
    let (name, call) = (&**plugin.name(), &*event.event.call.id);
    tracing::warn!(
        plugin = name,
        call,
        event = event.kind().name(),
        attempts,
        error = error.label(),
        message = ?error.to_string(),
        "an event was not taken"
    );
    if breaker_permit.record_failure(now) {
        tracing::error!(
            plugin = name,
            error = error.label(),
            "it keeps failing over events, which wait for it (breaker.pause)"
        );
    }
    if attempts < shared.config.attempts {
        return Err(RetryReason::Failed);
    }
    let letter = DeadLetter {
        id: 0,
        consumer: Arc::clone(plugin.name()),
        event_id: event.event_id,
        kind: event.kind(),
        call: event.event.call.id.to_string(),
        accepted_at: event.accepted_at,
        dead_lettered_at: plugboard_store::unix_now(),
        attempts,
        error: sanitize(&error.to_string(), MAX_ERROR_BYTES),
    };
    let dead_letter_result = shared
        .tombstones
        .run_if_allowed(event, || shared.store.add_dead_letter(letter, Arc::clone(event)));
    let dead_letter_write = match dead_letter_result {
        Ok(pending_write) => pending_write,
        Err(admission) => return result_for_blocked(admission),
    };
    // Not done before it is kept: otherwise it is tried once more.
    dead_letter_write.await.map_err(|_| RetryReason::Failed)?;
    plugin.record_dead_letter();
    tracing::error!(
        plugin = name,
        call,
        event = event.kind().name(),
        attempts,
        "an event is given up; see GET /events/dead"
    );
    Ok(())
}

/// What becomes of an event for which there is no leave.
fn result_for_blocked(admission: DeliveryAdmission) -> Result<(), RetryReason> {
    match admission {
        DeliveryAdmission::Allowed | DeliveryAdmission::Held => Err(RetryReason::Unavailable),
        DeliveryAdmission::Erased => Ok(()),
    }
}

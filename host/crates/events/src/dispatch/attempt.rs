//! One attempt to deliver an event to a plugin, and the dead letter of an event whose last
//! attempt fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::{Delivery, RetryReason};
use super::shared::ConsumerShared;
use super::spans;
use super::tombstones::DeliveryAdmission;
use plugboard_core::span::in_span;
use plugboard_core::text::sanitize;
use plugboard_runtime::plugin::Hook;
use plugboard_runtime::plugin::error::CallError;
use plugboard_store::DeadLetter;

/// The maximum length of the error text in a dead letter, in bytes.
const MAX_ERROR_BYTES: usize = 1024;

/// Delivers an event to a plugin. `Ok`: the event is acknowledged, because the plugin processed
/// it, the event was erased, or it is a dead letter.
pub(super) async fn deliver(
    shared: Arc<ConsumerShared>,
    delivery: Delivery,
) -> Result<(), RetryReason> {
    let Delivery { plugin, pending, .. } = &delivery;
    // The semaphore is never closed.
    let Ok(_concurrency_permit) = shared.permits.acquire().await else {
        return Err(RetryReason::Unavailable);
    };
    let _delivery_guard = match shared.tombstones.begin_delivery(&pending.event) {
        Ok(delivery_guard) => delivery_guard,
        Err(admission) => return result_for_blocked(admission),
    };
    let Some(breaker_permit) = plugin.breaker(Hook::Observer).try_acquire(Instant::now()) else {
        return Err(RetryReason::CircuitOpen);
    };
    let event = &pending.event;
    let start = Instant::now();
    let span = spans::observer_span(plugin, event, pending.attempts + 1);
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
    let did_open_circuit = breaker_permit.record_failure(now);
    record_failure(&shared, &delivery, now - start, &error, did_open_circuit).await
}

/// Records an attempt that panicked as a failed one. The panic is not a fault of the plugin, so
/// its circuit breaker does not count it.
pub(super) async fn record_panic(
    shared: Arc<ConsumerShared>,
    delivery: Delivery,
) -> Result<(), RetryReason> {
    let _delivery_guard = match shared.tombstones.begin_delivery(&delivery.pending.event) {
        Ok(delivery_guard) => delivery_guard,
        Err(admission) => return result_for_blocked(admission),
    };
    let took = delivery.started_at.elapsed();
    record_failure(&shared, &delivery, took, &CallError::HostPanicked, false).await
}

/// Counts and logs a failed attempt. The last one makes the event a dead letter.
async fn record_failure(
    shared: &ConsumerShared,
    delivery: &Delivery,
    took: Duration,
    error: &CallError,
    did_open_circuit: bool,
) -> Result<(), RetryReason> {
    let Delivery { plugin, pending, .. } = delivery;
    let event = &pending.event;
    plugin.record_failed_delivery(took, &event.event.call, error);
    let attempts = pending.attempts + 1;
    let (name, call) = (&**plugin.name(), &*event.event.call.id);
    tracing::warn!(
        plugin = name,
        call,
        event = event.kind().name(),
        attempts,
        error = error.label(),
        message = ?error.to_string(),
        "event delivery failed"
    );
    if did_open_circuit {
        tracing::error!(
            plugin = name,
            error = error.label(),
            "circuit breaker opened; events wait (circuit_breaker.open_duration)"
        );
    }
    if attempts < shared.config.max_attempts {
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
    // An event whose dead letter is not stored is not acknowledged.
    dead_letter_write.await.map_err(|_| RetryReason::Failed)?;
    plugin.record_dead_letter();
    tracing::error!(
        plugin = name,
        call,
        event = event.kind().name(),
        attempts,
        "event moved to the dead-letter queue (GET /events/dead)"
    );
    Ok(())
}

/// Returns the result for an event whose call is being or was erased.
fn result_for_blocked(admission: DeliveryAdmission) -> Result<(), RetryReason> {
    match admission {
        DeliveryAdmission::Allowed | DeliveryAdmission::Held => Err(RetryReason::Unavailable),
        DeliveryAdmission::Erased => Ok(()),
    }
}

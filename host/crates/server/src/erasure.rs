//! Erasure of a call: events, dead letters, call context, cached answers, live feed, plugins'
//! values about it, and the last error of a plugin about it. When it returns, the data is
//! removed from memory, from the store, and from the bytes of the store's files. Later data of
//! the call is new data.
//!
//! The order matters. The dispatcher first holds the call's deliveries. The journal then evicts
//! the context and sends the erasure to the store in one step, without an append in between.
//! The position in the writer's queue therefore separates earlier events from later ones.
//! Tombstones pass the erased range to the consumers. The erasure then waits for plugins that
//! process the call. A tool may have stored data of the call meanwhile, so the call is erased
//! again after it. Values, cached answers and last errors are erased last. A concurrent
//! decision counts as later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Services;
use plugboard_core::call_selector::CallSelector;
use plugboard_store::erase::ErasureResult;
use plugboard_store::{Store, StoreError};

/// Maximum wait for plugins that process the call, because they may still write values. Their
/// `event_timeout` is 5 s by default.
const PLUGIN_WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The numbers of erased items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedCounts {
    /// Number of erased events of the journal.
    pub events: u64,
    /// Number of erased dead letters, with their events.
    pub dead_letters: u64,
    /// Number of erased call contexts: one for each platform that has a call of this id.
    pub calls: u64,
    /// Number of erased values of plugins.
    pub values: u64,
}

/// The reason why a call is not erased completely.
#[derive(Debug, Error)]
pub enum ErasureError {
    /// The store is not available.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plugin may still write a value about the call.
    #[error(
        "the stored data is erased, but a plugin is still processing the call and may store new \
         values; repeat the request when it has finished"
    )]
    ErasureIncomplete,
}

impl ErasedCounts {
    fn new(erased: &ErasureResult, values: u64) -> Self {
        Self {
            events: erased.events,
            dead_letters: erased.dead_letters,
            calls: erased.calls,
            values,
        }
    }
}

impl fmt::Display for ErasedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, dead_letters: dead, calls, values } = *self;
        if *self == Self::default() {
            return f.write_str("nothing is stored about this call");
        }
        let counted = |count, noun| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        write!(f, "erased {}, {}", counted(events, "event"), counted(dead, "dead letter"))?;
        match calls {
            0 => {}
            count => write!(f, ", {}", counted(count, "call context"))?,
        }
        write!(f, ", {}", counted(values, "plugin value"))
    }
}

/// Erases a call while the server runs. Continues if its caller is cancelled.
///
/// # Errors
///
/// Fails if the call is not erased, or not completely; the operator should retry.
pub async fn erase_call(
    services: Services,
    call: CallSelector,
) -> Result<ErasedCounts, ErasureError> {
    let task = tokio::spawn(async move {
        let Services { registry, mid_call, idempotency, journal, store, dispatcher, live, .. } =
            services;
        // Last errors are erased now, which needs no store, and again when no request in flight
        // can set them any more.
        let erase_last_errors =
            || registry.current().plugins().for_each(|plugin| plugin.erase_last_error(&call));
        erase_last_errors();
        live.erase(&call).await;
        let mut delivery_hold = dispatcher.hold_deliveries(call.clone());
        let is_in_flight = mid_call.is_in_flight(&call);
        let mut erased = journal.erase(&call).await?;
        let mut all_ended = true;
        if is_in_flight || mid_call.is_in_flight(&call) {
            // The request has read events that were erased, and may report them.
            all_ended = mid_call.wait_for_call(&call, PLUGIN_WAIT_TIMEOUT).await;
            erased = erased.merge(journal.erase(&call).await?);
        }
        delivery_hold.set_erased_range(erased.range);
        // Plugins may write values until their deliveries have ended.
        all_ended &= delivery_hold.wait_for_deliveries(PLUGIN_WAIT_TIMEOUT).await;
        idempotency.iter().for_each(|answers| answers.erase(call.id()));
        mid_call.erase(call.id());
        erase_last_errors();
        live.erase(&call).await;
        let values = store.erase_values(Arc::clone(call.id())).await?;
        store.truncate_wal().await?;
        let counts = ErasedCounts::new(&erased, values);
        let ErasedCounts { events, dead_letters, calls, values } = counts;
        tracing::info!(call = &**call.id(), events, dead_letters, calls, values, "call erased");
        if all_ended { Ok(counts) } else { Err(ErasureError::ErasureIncomplete) }
    });
    task.await.unwrap_or(Err(ErasureError::Store(StoreError::Closed)))
}

/// Erases a call in a store that no server uses.
///
/// # Errors
///
/// Fails if the call is not erased, or not completely.
pub async fn erase_offline(
    store: &dyn Store,
    call: &CallSelector,
) -> Result<ErasedCounts, StoreError> {
    let erased = store.erase(call.clone()).await?;
    let values = store.erase_values(Arc::clone(call.id())).await?;
    store.truncate_wal().await?;
    Ok(ErasedCounts::new(&erased, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erased_counts_display_lists_every_kind() {
        let text = |events, dead, calls, values| {
            ErasedCounts { events, dead_letters: dead, calls, values }.to_string()
        };
        assert_eq!(text(0, 0, 0, 0), "nothing is stored about this call");
        assert_eq!(
            text(12, 1, 1, 2),
            "erased 12 events, 1 dead letter, 1 call context, 2 plugin values"
        );
        assert_eq!(
            text(1, 0, 2, 0),
            "erased 1 event, 0 dead letters, 2 call contexts, 0 plugin values"
        );
        assert_eq!(text(0, 0, 0, 1), "erased 0 events, 0 dead letters, 1 plugin value");
    }
}

//! Erasure of a call: its events, delivered or not, dead letters, call context, cached
//! answers, live feed, the last error of a plugin about it, and plugins' values about it.
//! When it returns, the data is gone from memory, from the store, and from the bytes of
//! the store's files. Later data of the call is new data.
//!
//! The order matters. The dispatcher first holds the call's deliveries. The journal then drops the
//! context and asks the store in one step that no append comes between, so that the position in
//! the writer's queue separates earlier events from later ones. Tombstones tell the consumers how
//! far the erasure reached. Plugins that work on the call are waited for; as a tool knew the call,
//! the call is erased once more after it. Values, cached answers and last errors go last. A
//! decision that is made meanwhile counts as later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Services;
use plugboard_core::call_selector::CallSelector;
use plugboard_store::erase::ErasureResult;
use plugboard_store::{Store, StoreError};

/// How long to wait for plugins that are at work on the call, because they may still write
/// values. Their `event_timeout` is 5 s by default.
const PLUGIN_WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of erased items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedCounts {
    /// Events of the journal.
    pub events: u64,
    /// Dead letters, with their events.
    #[serde(rename = "dead")]
    pub dead_letters: u64,
    /// Call contexts: one, or one for each platform that has a call of this id.
    pub calls: u64,
    /// Plugins' values.
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
        "all is erased that was there, but a plugin is still at work on the call, and may keep \
         something of it; ask once more when it is done"
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
            return f.write_str("nothing was kept about this call");
        }
        let counted = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(f, "erased {}, {}", counted(events, "event"), counted(dead, "dead letter"))?;
        match calls {
            0 => {}
            1 => f.write_str(", the memory of the call")?,
            _ => write!(f, ", the memory of {calls} calls of this name")?,
        }
        write!(f, ", {}", counted(values, "plugin value"))
    }
}

/// Erases a call while the server runs. Continues if its caller is cancelled.
///
/// # Errors
///
/// The call is not erased, or not completely; try again.
pub async fn erase_call(
    services: Services,
    call: CallSelector,
) -> Result<ErasedCounts, ErasureError> {
    let task = tokio::spawn(async move {
        let Services { registry, mid_call, idempotency, journal, store, dispatcher, live, .. } =
            services;
        // At once, because it needs no store; and again when nothing in flight can set it
        // any more.
        let erase_last_errors =
            || registry.current().plugins().for_each(|plugin| plugin.erase_last_error(&call));
        erase_last_errors();
        live.erase(&call).await;
        let mut delivery_hold = dispatcher.hold_deliveries(call.clone());
        let is_in_flight = mid_call.is_in_flight(&call);
        let mut erased = journal.erase(&call).await?;
        let mut all_ended = true;
        if is_in_flight || mid_call.is_in_flight(&call) {
            // The request has seen events that were erased, and may report them.
            all_ended = mid_call.wait_for_call(&call, PLUGIN_WAIT_TIMEOUT).await;
            erased = erased.merge(journal.erase(&call).await?);
        }
        delivery_hold.set_erased_range(erased.range);
        // Plugins may write values until then.
        all_ended &= delivery_hold.wait_for_deliveries(PLUGIN_WAIT_TIMEOUT).await;
        idempotency.iter().for_each(|answers| answers.erase(call.id()));
        mid_call.erase(call.id());
        erase_last_errors();
        live.erase(&call).await;
        let values = store.erase_values(Arc::clone(call.id())).await?;
        store.truncate_wal().await?;
        let counts = ErasedCounts::new(&erased, values);
        let ErasedCounts { events, dead_letters: dead, calls, values } = counts;
        tracing::info!(call = &**call.id(), events, dead, calls, values, "a call is erased");
        if all_ended { Ok(counts) } else { Err(ErasureError::ErasureIncomplete) }
    });
    task.await.unwrap_or(Err(ErasureError::Store(StoreError::Closed)))
}

/// Erases a call in a store that no server uses.
///
/// # Errors
///
/// The call is not erased, or not completely.
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
        assert_eq!(text(0, 0, 0, 0), "nothing was kept about this call");
        assert_eq!(
            text(12, 1, 1, 2),
            "erased 12 events, 1 dead letter, the memory of the call, 2 plugin values"
        );
        assert_eq!(
            text(1, 0, 2, 0),
            "erased 1 event, 0 dead letters, the memory of 2 calls of this name, 0 plugin values"
        );
        assert_eq!(text(0, 0, 0, 1), "erased 0 events, 0 dead letters, 1 plugin value");
    }
}

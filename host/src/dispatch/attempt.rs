//! One attempt to tell a plugin of an event, and what becomes of an event that is never
//! taken.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::erase::Leave;
use super::observer::Shared;
use super::window::Delivery;
use crate::capability::log::quote;
use crate::plugin::error::PluginError;
use crate::plugin::{Hook, Plugin};
use crate::store::DeadLetter;
use crate::traces::spans;

/// Longest text of an error that is kept with a dead letter, in bytes.
const MAX_ERROR: usize = 1024;

/// What became of a delivery.
pub(super) struct Told {
    pub(super) delivery: Delivery,
    pub(super) result: Result<(), Untold>,
}

/// Why an event is still to be told.
pub(super) enum Untold {
    /// The plugin failed over it.
    Failed,
    /// No fault of the plugin's: there was no room, or no plugin.
    NotNow,
    /// The plugin keeps failing.
    SetAside,
}

/// Tells a plugin of an event; gives up after the last attempt.
pub(super) async fn tell(shared: Arc<Shared>, plugin: Arc<Plugin>, delivery: Delivery) -> Told {
    let result = attempt(&shared, &plugin, &delivery).await;
    Told { delivery, result }
}

async fn attempt(shared: &Shared, plugin: &Plugin, delivery: &Delivery) -> Result<(), Untold> {
    // Never closed.
    let Ok(_place) = shared.places.acquire().await else { return Err(Untold::NotNow) };
    let _under_way = match shared.erasures.admit(&delivery.event) {
        Ok(under_way) => under_way,
        Err(leave) => return untold(leave),
    };
    let Some(leave) = plugin.breaker(Hook::Observer).admit(Instant::now()) else {
        return Err(Untold::SetAside);
    };
    let (event, stats) = (&delivery.event, &plugin.stats.events);
    let start = Instant::now();
    let span = spans::observe(plugin, event, delivery.attempts + 1);
    let told = plugin.observe(&event.event, event.identity);
    let result = spans::within(span, PluginError::label, told).await;
    let now = Instant::now();
    let error = match result {
        Ok(()) => {
            leave.succeeded();
            stats.times.add(now - start);
            stats.delivered.fetch_add(1, Relaxed);
            let delay = crate::store::now().saturating_sub(event.accepted);
            stats.delays.add(Duration::from_millis(u64::try_from(delay).unwrap_or(0)));
            return Ok(());
        }
        Err(PluginError::Busy) => return Err(Untold::NotNow),
        Err(error) => error,
    };
    stats.times.add(now - start);
    stats.failed.fetch_add(1, Relaxed);
    plugin.stats.failed(&error);
    plugin.failed(&event.event.call, &error);
    let attempts = delivery.attempts + 1;
    let (name, call) = (&**plugin.name(), event.event.call.id.as_str());
    tracing::warn!(
        plugin = name,
        call,
        event = event.kind().name(),
        attempts,
        error = error.label(),
        message = ?error.to_string(),
        "an event was not taken"
    );
    if leave.failed(now) {
        tracing::error!(
            plugin = name,
            error = error.label(),
            "it keeps failing over events, which wait for it (breaker.pause)"
        );
    }
    if attempts < shared.config.attempts {
        return Err(Untold::Failed);
    }
    let letter = DeadLetter {
        id: 0,
        observer: Arc::clone(plugin.name()),
        identity: event.identity,
        kind: event.kind(),
        call: event.event.call.id.clone(),
        accepted: event.accepted,
        at: crate::store::now(),
        attempts,
        error: quote(&error.to_string(), MAX_ERROR),
    };
    let buried = shared.erasures.unless(event, || shared.store.bury(letter, Arc::clone(event)));
    let buried = match buried {
        Ok(buried) => buried,
        Err(leave) => return untold(leave),
    };
    // Not done before it is kept: otherwise it is tried once more.
    buried.await.map_err(|_| Untold::Failed)?;
    stats.dead.fetch_add(1, Relaxed);
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
fn untold(leave: Leave) -> Result<(), Untold> {
    match leave {
        Leave::Given | Leave::Later => Err(Untold::NotNow),
        Leave::Never => Ok(()),
    }
}

//! Delivery of events to observers.
//!
//! Every observer has a consumer: a task that reads the journal at its own pace, so that a slow
//! or failing observer delays no other. The [`Supervisor`] starts and removes consumers when
//! plugins are added and removed. It also removes events from the journal that every consumer
//! has acknowledged. [`Dispatcher`] is the handle for the rest of the program.

mod attempt;
mod consumer;
mod in_flight;
mod shared;
mod spans;
mod supervisor;
#[cfg(test)]
mod tests;
mod tombstones;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::consumer::ConsumerLags;
use self::shared::ConsumerShared;
pub use self::supervisor::Supervisor;
pub use self::tombstones::DeliveryHold;
use self::tombstones::Tombstones;
use crate::journal::Subscriptions;
use plugboard_config::{EventsConfig, JournalConfig};
use plugboard_core::call_selector::CallSelector;
use plugboard_registry::Registry;
use plugboard_store::{Store, StoreStats};

/// The handle of event delivery. Its [`Supervisor`] does the work.
pub struct Dispatcher {
    /// The last generation whose observers all have consumers.
    adopted_generation: watch::Receiver<u64>,
    /// Statistics as of the last retention run.
    stats: Arc<Mutex<StoreStats>>,
    lags: Arc<Mutex<ConsumerLags>>,
    tombstones: Arc<Tombstones>,
}

impl Dispatcher {
    /// Creates the handle and its supervisor, which delivers while
    /// [`Supervisor::run`] runs, and keeps `subscriptions` up to date.
    ///
    /// At most `concurrency` guests run at a time. At shutdown, deliveries in flight
    /// have `grace` to end.
    pub fn new(
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        subscriptions: Arc<Subscriptions>,
        events: EventsConfig,
        journal: JournalConfig,
        concurrency: usize,
        grace: Duration,
    ) -> (Self, Supervisor) {
        let (adopted_sender, adopted_generation) = watch::channel(0);
        let dispatcher = Self {
            adopted_generation,
            stats: Arc::default(),
            lags: Arc::default(),
            tombstones: Arc::default(),
        };
        let shared = Arc::new(ConsumerShared {
            registry,
            store,
            tombstones: Arc::clone(&dispatcher.tombstones),
            config: events,
            permits: Arc::new(Semaphore::new(concurrency)),
            max_per_consumer: AtomicUsize::new(concurrency),
        });
        let supervisor = Supervisor {
            shared,
            journal,
            subscriptions,
            grace,
            concurrency,
            tasks: TaskTracker::new(),
            consumers: BTreeMap::new(),
            adopted_generation: adopted_sender,
            stats: Arc::clone(&dispatcher.stats),
            lags: Arc::clone(&dispatcher.lags),
        };
        (dispatcher, supervisor)
    }

    /// Waits until every observer of a generation has a consumer. Returns `false` after
    /// `max_wait`, which means that the store cannot be used.
    pub async fn wait_until_adopted(&self, generation: u64, max_wait: Duration) -> bool {
        let mut adopted_generation = self.adopted_generation.clone();
        let adopted = adopted_generation.wait_for(|number| *number >= generation);
        matches!(timeout(max_wait, adopted).await, Ok(Ok(_)))
    }

    /// Returns the size of the store as of the last retention run.
    pub fn stats(&self) -> StoreStats {
        *self.stats.lock()
    }

    /// Returns the name and the approximate lag, in events, of each consumer.
    pub fn consumer_lags(&self) -> Vec<(Arc<str>, u64)> {
        let lags = self.lags.lock();
        lags.iter().map(|(name, count)| (Arc::clone(name), count.load(Relaxed))).collect()
    }

    /// Holds the deliveries of a call until the hold has the range of the erased events, which
    /// are then never delivered. Deliveries in flight continue.
    pub fn hold_deliveries(&self, call: CallSelector) -> DeliveryHold {
        self.tombstones.hold_deliveries(call)
    }
}

//! The state that the supervisor shares with all consumers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use super::tombstones::Tombstones;
use plugboard_config::EventsConfig;
use plugboard_registry::Registry;
use plugboard_store::Store;

/// The state that all consumers share.
pub(super) struct ConsumerShared {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) config: EventsConfig,
    /// The tombstones of erased calls.
    pub(super) tombstones: Arc<Tombstones>,
    /// Limits the deliveries of all consumers that run at a time.
    pub(super) permits: Arc<Semaphore>,
    /// The limit of one consumer, so that no consumer takes all permits.
    pub(super) max_per_consumer: AtomicUsize,
}

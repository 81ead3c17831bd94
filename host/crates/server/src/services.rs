//! The services that every part of the server shares.

use std::sync::Arc;

use crate::live::Live;
use plugboard_core::outcome::ChainResult;
use plugboard_events::dispatch::Dispatcher;
use plugboard_events::journal::Journal;
use plugboard_registry::Registry;
use plugboard_registry::reload::ReloadHandle;
use plugboard_routing::idempotency::IdempotencyCache;
use plugboard_routing::mid_call::MidCall;
use plugboard_routing::router::Router;
use plugboard_runtime::engine::Engine;
use plugboard_store::Store;
use plugboard_tls::Tls;

/// Handles to the services that requests, metrics and erasure use. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The engine that runs plugins.
    pub engine: Engine,
    /// The generation of plugins that serves.
    pub registry: Arc<Registry>,
    /// The decision chain with its cache.
    pub router: Arc<Router>,
    /// The service that answers tools and transfers.
    pub mid_call: Arc<MidCall>,
    /// The results of recent decisions, for redeliveries. `None`: disabled.
    pub idempotency: Option<Arc<IdempotencyCache<ChainResult>>>,
    /// The journal, which accepts events.
    pub journal: Arc<Journal>,
    /// The store, which keeps durable data.
    pub store: Arc<dyn Store>,
    /// The dispatcher, which delivers events to observers.
    pub dispatcher: Arc<Dispatcher>,
    /// The live feed for operators.
    pub live: Live,
    /// The handle that requests reloads of the plugin folder.
    pub reload: ReloadHandle,
    /// The certificate of the webhook listener. `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

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
    /// The WebAssembly engine.
    pub engine: Engine,
    /// The generation of plugins that serves.
    pub registry: Arc<Registry>,
    /// The decision chain with its cache.
    pub router: Arc<Router>,
    /// Tools and transfers.
    pub mid_call: Arc<MidCall>,
    /// The results of decisions that a platform may request again. `None`: switched off.
    pub idempotency: Option<Arc<IdempotencyCache<ChainResult>>>,
    /// Accepts events.
    pub journal: Arc<Journal>,
    /// The durable store.
    pub store: Arc<dyn Store>,
    /// Delivers events to observers.
    pub dispatcher: Arc<Dispatcher>,
    /// The live feed for operators.
    pub live: Live,
    /// Requests reloads of the plugin folder.
    pub reload: ReloadHandle,
    /// The certificate of the webhook listener. `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

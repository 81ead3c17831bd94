//! The listeners, and what is behind them: webhooks for the platforms, the
//! admin surface for operators.

#![forbid(unsafe_code)]

mod admin;
mod admission;
pub mod erasure;
mod error;
mod listener;
pub mod live;
pub mod metrics;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;

use self::admission::AdmissionPolicy;
#[doc(hidden)]
pub use self::error::all_error_responses;
use self::listener::{Listener, ListenerLimits};
use crate::live::Live;
use crate::metrics::Metrics;
use plugboard_config::Config;
use plugboard_core::outcome::ChainResult;
use plugboard_events::dispatch::Dispatcher;
use plugboard_events::journal::Journal;
use plugboard_platform::{self as platform, PlatformAdapter};
use plugboard_registry::Registry;
use plugboard_registry::reload::ReloadHandle;
use plugboard_routing::idempotency::IdempotencyCache;
use plugboard_routing::mid_call::MidCall;
use plugboard_routing::router::Router;
use plugboard_runtime::engine::Engine;
use plugboard_store::Store;
use plugboard_tls::Tls;

/// Connections of operators and probes.
const ADMIN_CONNECTIONS: usize = 256;

/// Decisions in one of the maps of those that may be asked for again, as many as fill
/// a table of 32,768 places: a minute of four hundred calls a second.
const IDEMPOTENCY_CAPACITY: usize = 28_000;

/// What every request may need.
struct AppState {
    /// The configuration.
    config: Config,
    /// The plugins.
    registry: Arc<Registry>,
    /// The chain.
    router: Router,
    /// What was answered already.
    idempotency: Option<Arc<IdempotencyCache<ChainResult>>>,
    /// Who speaks to us.
    adapters: Vec<Arc<dyn PlatformAdapter>>,
    /// What is asked in the middle of calls.
    mid_call: Arc<MidCall>,
    body_budget: webhook::BodyBudget,
    /// The way in for events.
    journal: Arc<Journal>,
    /// What is kept.
    store: Arc<dyn Store>,
    /// Those who tell observers.
    dispatcher: Arc<Dispatcher>,
    /// Where plugins run.
    engine: Engine,
    /// What is counted.
    metrics: Arc<Metrics>,
    /// What operators see of what happens.
    live: Live,
    unmask_audit: admin::UnmaskAudit,
    /// The way to have plugins loaded again.
    reload: ReloadHandle,
    /// The certificate of the webhook listener, if it has one.
    tls: Option<Arc<Tls>>,
    broken_at_start: Vec<String>,
    is_stopping: AtomicBool,
}

/// What the server is to be in front of.
pub struct Services {
    /// Where plugins run.
    pub engine: Engine,
    /// The plugins, once looked for.
    pub registry: Arc<Registry>,
    /// The way in for events.
    pub journal: Arc<Journal>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Those who tell observers.
    pub dispatcher: Arc<Dispatcher>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What operators see of what happens.
    pub live: Live,
    /// The way to have plugins loaded again.
    pub reload: ReloadHandle,
    /// The certificate of the webhook listener, if it shall have one.
    pub tls: Option<Tls>,
}

/// A service whose addresses are bound.
pub struct Server {
    app: Arc<AppState>,
    webhooks: TcpListener,
    admin: TcpListener,
}

impl Server {
    /// Binds both addresses. Within a runtime only.
    ///
    /// # Errors
    ///
    /// When one of them cannot be had.
    pub fn bind(config: Config, services: Services) -> anyhow::Result<Self> {
        let bind = |key, address| {
            listener::bind(address).with_context(|| format!("cannot listen on {address} ({key})"))
        };
        let webhooks = bind("listen", config.listen)?;
        let admin = bind("admin", config.admin)?;
        let Services { engine, registry, journal, store, dispatcher, metrics, live, reload, tls } =
            services;
        let app = AppState {
            router: Router::new(config.routing.clone(), &config.cache),
            idempotency: config
                .cache
                .deliveries
                .map(|ttl| Arc::new(IdempotencyCache::new(ttl, IDEMPOTENCY_CAPACITY))),
            adapters: platform::adapters(&config),
            mid_call: Arc::new(MidCall::new(&engine, &config.cache)),
            body_budget: webhook::BodyBudget::default(),
            unmask_audit: admin::UnmaskAudit::default(),
            broken_at_start: registry.current().broken().map(|entry| entry.name.clone()).collect(),
            is_stopping: AtomicBool::new(false),
            config,
            registry,
            journal,
            store,
            dispatcher,
            engine,
            metrics,
            live,
            reload,
            tls: tls.map(Arc::new),
        };
        Ok(Self { app: Arc::new(app), webhooks, admin })
    }

    /// Where webhooks are taken.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn webhook_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.webhooks.local_addr()?)
    }

    /// Where operators look.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn admin_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.admin.local_addr()?)
    }

    /// Serves until `stop` resolves, then lets what is in flight finish. The
    /// admin listener stays up until the last webhook is answered, so that
    /// probes see why.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { app, webhooks, admin } = self;
        let limits = &app.config.limits;
        let admin_limits = ListenerLimits {
            max_connections: ADMIN_CONNECTIONS,
            header_timeout: limits.header_timeout,
            drain_timeout: Duration::from_secs(1),
        };
        let webhook_limits = ListenerLimits {
            max_connections: limits.connections,
            header_timeout: limits.header_timeout,
            drain_timeout: limits.shutdown,
        };
        let http = Arc::clone(app.metrics.http());
        let (stop_admin, admin_stopped) = tokio::sync::oneshot::channel::<()>();
        let admin = Listener {
            socket: admin,
            routes: admin::routes(Arc::clone(&app)),
            count_status: {
                let http = Arc::clone(&http);
                move |status| http.admin.count(status)
            },
            limits: admin_limits,
            admission: None,
            tls: None,
            exposes_peer: true,
        };
        // Sent, or dropped with the sender: the end either way.
        let admin = tokio::spawn(admin.serve(async move { _ = admin_stopped.await }));
        let network = app.metrics.network();
        let certificate_watch = app.tls.clone().map(|tls| {
            tokio::spawn(tls.watch(app.config.reload.poll, network.certificate.clone()))
        });
        let stop = async {
            stop.await;
            app.is_stopping.store(true, Ordering::Relaxed);
            // Streams do not end by themselves.
            app.live.close();
        };
        let webhooks = Listener {
            socket: webhooks,
            routes: webhook::routes(Arc::clone(&app)),
            count_status: move |status| http.webhooks.count(status),
            limits: webhook_limits,
            admission: AdmissionPolicy::new(&app.config.senders, network).map(Arc::new),
            tls: app.tls.clone(),
            exposes_peer: false,
        };
        webhooks.serve(stop).await;
        // What goes on although its platform has hung up.
        if !app.mid_call.wait_until_idle(app.config.limits.shutdown).await {
            tracing::warn!("stopping while tools are at work");
        }
        if let Some(keeping_up) = certificate_watch {
            keeping_up.abort();
        }
        drop(stop_admin);
        _ = admin.await;
    }
}

impl AppState {
    /// Whether the service is on its way out.
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, feature = "toy-platform"))]
mod tests;

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
mod services;
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
pub use self::services::Services;
use plugboard_config::Config;
use plugboard_platform::{self as platform, PlatformAdapter};

/// Connections of operators and probes.
const ADMIN_CONNECTIONS: usize = 256;

/// The state that request handlers share.
struct AppState {
    config: Config,
    services: Services,
    /// The enabled platforms.
    adapters: Vec<Arc<dyn PlatformAdapter>>,
    body_budget: webhook::BodyBudget,
    unmask_audit: admin::UnmaskAudit,
    /// Names of the plugins that were broken when the server was bound.
    broken_at_start: Vec<String>,
    is_stopping: AtomicBool,
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
        let generation = services.registry.current();
        let app = AppState {
            adapters: platform::adapters(&config),
            body_budget: webhook::BodyBudget::default(),
            unmask_audit: admin::UnmaskAudit::default(),
            broken_at_start: generation.broken().map(|entry| entry.name.clone()).collect(),
            is_stopping: AtomicBool::new(false),
            config,
            services,
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
        let http = Arc::clone(app.services.metrics.http());
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
        let network = app.services.metrics.network();
        let certificate_watch = app.services.tls.clone().map(|tls| {
            tokio::spawn(tls.watch(app.config.reload.poll, network.certificate.clone()))
        });
        let stop = async {
            stop.await;
            app.is_stopping.store(true, Ordering::Relaxed);
            // Streams do not end by themselves.
            app.services.live.close();
        };
        let webhooks = Listener {
            socket: webhooks,
            routes: webhook::routes(Arc::clone(&app)),
            count_status: move |status| http.webhooks.count(status),
            limits: webhook_limits,
            admission: AdmissionPolicy::new(&app.config.senders, network).map(Arc::new),
            tls: app.services.tls.clone(),
            exposes_peer: false,
        };
        webhooks.serve(stop).await;
        // What goes on although its platform has hung up.
        if !app.services.mid_call.wait_until_idle(app.config.limits.shutdown).await {
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

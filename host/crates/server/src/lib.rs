//! The HTTP server: webhooks for the platforms, the admin API and the page for operators.
//!
//! [`Server`] binds both listeners and serves them over [`Services`], the handles that requests,
//! metrics and erasure share.

#![forbid(unsafe_code)]

mod admin;
mod admission;
mod app_state;
mod body;
pub mod erasure;
mod error;
mod listener;
pub mod live;
pub mod metrics;
mod services;
mod unmask_audit;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::AdmissionPolicy;
use self::app_state::AppState;
use self::body::BodyBudget;
#[doc(hidden)]
pub use self::error::all_error_responses;
use self::listener::{Listener, ListenerLimits};
use self::metrics::Metrics;
pub use self::services::Services;
use self::unmask_audit::UnmaskAudit;
use plugboard_config::Config;
use plugboard_platform::PlatformAdapter;

/// Maximum number of open connections of the admin listener.
const ADMIN_CONNECTIONS: usize = 256;

/// A server with bound addresses.
pub struct Server {
    app: AppState,
    webhooks: TcpListener,
    admin: TcpListener,
}

impl Server {
    /// Binds both addresses. Serves the platforms of `adapters`. Needs a runtime.
    ///
    /// # Errors
    ///
    /// Fails if an address cannot be bound.
    pub fn bind(
        config: Config,
        adapters: Vec<Arc<dyn PlatformAdapter>>,
        services: Services,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let bind = |key, address| {
            listener::bind(address).with_context(|| format!("cannot listen on {address} ({key})"))
        };
        let webhooks = bind("listen", config.listen)?;
        let admin = bind("admin", config.admin)?;
        let generation = services.registry.current();
        let app = AppState {
            adapters,
            body_budget: BodyBudget::default(),
            unmask_audit: UnmaskAudit::default(),
            broken_at_start: generation.broken().map(|entry| entry.name.clone()).collect(),
            stop: CancellationToken::new(),
            config,
            services,
            metrics,
        };
        Ok(Self { app, webhooks, admin })
    }

    /// Returns the address of the webhook listener.
    ///
    /// # Errors
    ///
    /// Fails if the system does not report the address.
    pub fn webhook_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.webhooks.local_addr()?)
    }

    /// Returns the address of the admin listener.
    ///
    /// # Errors
    ///
    /// Fails if the system does not report the address.
    pub fn admin_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.admin.local_addr()?)
    }

    /// Serves until `stop` is cancelled, then drains: requests in flight finish, within
    /// `limits.shutdown_grace_period`. The admin listener stays up until the last webhook is
    /// answered, so that probes can report why the server is not ready.
    pub async fn run(self, stop: CancellationToken) {
        let Self { app, webhooks, admin } = self;
        // Handlers now see that the server stops.
        let app = Arc::new(AppState { stop: stop.clone(), ..app });
        let (limits, services) = (&app.config.limits, &app.services);
        let (http, network) = (app.metrics.http(), app.metrics.network());
        let admin = Listener {
            socket: admin,
            routes: admin::routes(Arc::clone(&app)),
            count_status: {
                let http = Arc::clone(http);
                move |status| http.admin.count(status)
            },
            limits: ListenerLimits {
                max_connections: ADMIN_CONNECTIONS,
                header_timeout: limits.header_timeout,
                drain_timeout: Duration::from_secs(1),
            },
            admission: None,
            tls: None,
            exposes_peer: true,
        };
        let webhooks = Listener {
            socket: webhooks,
            routes: webhook::routes(Arc::clone(&app)),
            count_status: {
                let http = Arc::clone(http);
                move |status| http.webhooks.count(status)
            },
            limits: ListenerLimits {
                max_connections: limits.max_connections,
                header_timeout: limits.header_timeout,
                drain_timeout: limits.shutdown_grace_period,
            },
            admission: AdmissionPolicy::new(&app.config.ingress, network).map(Arc::new),
            tls: services.tls.clone(),
            exposes_peer: false,
        };
        let (tasks, drained) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(admin.serve(drained.clone()));
        if let Some(tls) = services.tls.clone() {
            let counters = network.certificate.clone();
            tasks.spawn(tls.watch(app.config.reload.poll_interval, counters, drained.clone()));
        }
        webhooks.serve(stop).await;
        // Tools and transfers continue after their platform has hung up.
        if !services.mid_call.wait_until_idle(limits.shutdown_grace_period).await {
            tracing::warn!("stopping with tool calls in progress");
        }
        drained.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

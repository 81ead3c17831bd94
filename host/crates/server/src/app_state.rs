//! The state that request handlers share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::body::BodyBudget;
use super::metrics::Metrics;
use super::services::Services;
use super::unmask_audit::UnmaskAudit;
use plugboard_config::Config;
use plugboard_platform::PlatformAdapter;

/// The state that request handlers share.
pub(super) struct AppState {
    pub(super) config: Config,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
    /// The adapters of the enabled platforms.
    pub(super) adapters: Vec<Arc<dyn PlatformAdapter>>,
    pub(super) body_budget: BodyBudget,
    pub(super) unmask_audit: UnmaskAudit,
    /// Names of the plugins that were broken when the server was bound.
    pub(super) broken_at_start: Vec<String>,
    /// Cancelled when the server begins to drain.
    pub(super) stop: CancellationToken,
}

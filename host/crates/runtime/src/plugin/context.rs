//! Context of a plugin: the parts that its calls share.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::limits::ResourceLimits;
use super::overrun::OverrunTracker;
use super::recorder::Recorder;
use super::settings::Settings;
use super::stats::Stats;
use crate::capability::kv::Kv;
use crate::capability::metrics::MetricsCapability;
use crate::engine::Priority;
use plugboard_core::sts_url::{AllowedHosts, StsUrl, StsUrlError};
use plugboard_egress::HttpClient;

/// Parts of a plugin that its calls share.
pub(super) struct PluginContext {
    pub(super) name: Arc<str>,
    pub(super) settings: Settings,
    pub(super) limits: ResourceLimits,
    pub(super) allowed_sts_hosts: Arc<AllowedHosts>,
    /// Last URL template that the plugin returned; most plugins return only a few.
    pub(super) last_url: ArcSwapOption<StsUrl>,
    /// One tracker for each class, in the order of [`Priority::ALL`]: a plugin may be CPU-bound
    /// for events but not for decisions.
    pub(super) overrun_trackers: [OverrunTracker; Priority::ALL.len()],
    pub(super) kv: Kv,
    /// `None`: the settings grant no host.
    pub(super) http: Option<HttpClient>,
    pub(super) metrics: MetricsCapability,
    /// Always `None` in the server.
    pub(super) recorder: Option<Arc<Recorder>>,
    /// Statistics of all plugins of this name.
    pub(super) stats: Arc<Stats>,
}

impl PluginContext {
    /// Returns the overrun tracker of a priority class.
    pub(super) fn overrun_tracker(&self, priority: Priority) -> &OverrunTracker {
        let [decision, mid_call, event] = &self.overrun_trackers;
        match priority {
            Priority::Decision => decision,
            Priority::MidCall => mid_call,
            Priority::Event => event,
        }
    }

    /// Validates a URL template of the plugin.
    pub(super) fn parse_sts_url(&self, template: String) -> Result<Arc<StsUrl>, StsUrlError> {
        if let Some(last) = self.last_url.load().as_ref().filter(|url| url.template() == template) {
            return Ok(Arc::clone(last));
        }
        let url = Arc::new(StsUrl::parse(template, &self.allowed_sts_hosts)?);
        self.last_url.store(Some(Arc::clone(&url)));
        Ok(url)
    }
}

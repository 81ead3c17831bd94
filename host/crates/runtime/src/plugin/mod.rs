//! Plugins: one version of a component with its settings, and its state.
//!
//! [`Loader`] makes a [`Plugin`] from files, whose methods call its hooks. [`examine`] and
//! [`recorder`] give authors more detail.

mod accounting;
pub mod backtrace;
mod bindings;
pub mod breaker;
mod compile_cache;
mod component;
mod cpu_permit;
pub mod error;
pub mod examine;
mod guest_state;
pub mod histogram;
mod hooks;
mod host_call_text;
mod invocation;
mod limits;
mod load;
mod overrun;
mod plugin_files;
pub mod recorder;
pub mod settings;
pub mod spans;
pub mod stats;
mod wit_convert;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::breaker::{CircuitBreaker, CircuitState};
pub use self::compile_cache::CompileCache;
use self::component::LinkedComponent;
use self::error::CallError;
pub use self::hooks::ToolResult;
use self::limits::ResourceLimits;
pub use self::load::{LoadOutcome, Loader};
use self::overrun::OverrunTracker;
pub use self::plugin_files::{ContentDigest, FileFingerprints, PluginFiles, PluginVersion};
use self::recorder::Recorder;
use self::settings::Settings;
use self::stats::{LastError, Stats, StatsSnapshot};
use crate::capability::kv::Kv;
use crate::capability::metrics::{GuestMetrics, MetricsCapability};
use crate::engine::{Engine, Priority};
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::EventKinds;
use plugboard_core::sts_url::{AllowedHosts, StsUrl, StsUrlError};
use plugboard_core::units;
use plugboard_egress::HttpClient;

/// The package and version of the contract, as in `wit/`.
pub const CONTRACT: &str = "plugboard:plugin@0.1.0";

/// A hook: an interface of the contract that a plugin can export and the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Decides where a call goes.
    Router,
    /// Receives the events of calls.
    Observer,
    /// Answers tool calls of voice agents.
    Tools,
    /// Decides transfers.
    Transfers,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] = [Self::Router, Self::Observer, Self::Tools, Self::Transfers];

    /// Its interface's name in the contract.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Observer => "observer",
            Self::Tools => "tools",
            Self::Transfers => "transfers",
        }
    }

    /// Priority class of calls of this hook.
    fn priority(self) -> Priority {
        match self {
            Self::Router => Priority::Decision,
            Self::Observer => Priority::Event,
            Self::Tools | Self::Transfers => Priority::MidCall,
        }
    }
}

/// One version of a plugin: a component and its settings, ready to be called. Another
/// file or other settings make another version.
pub struct Plugin {
    id: u64,
    /// Shared with the versions before and after this one.
    stats: Arc<Stats>,
    version: PluginVersion,
    component: Arc<LinkedComponent>,
    context: Arc<PluginContext>,
    engine: Engine,
    /// One for each hook, in the order of [`Hook::ALL`].
    breakers: [CircuitBreaker; Hook::ALL.len()],
    /// Concurrency limit of its guests for tools and transfers.
    mid_call_permits: Semaphore,
    /// Names of its tools.
    tools: Box<[Box<str>]>,
    /// `limits.budget`.
    decision_timeout: Duration,
    // Behind a lock because it is written on failures only.
    last_failure: Mutex<Option<CallFailure>>,
}

/// A failed call.
struct CallFailure {
    call: CallId,
    error: LastError,
}

impl Plugin {
    /// A number that no other version has, even of the same file, as long as this
    /// process runs. State of one version is never used for another.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The counters of the plugins of this name.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// The custom metrics of the plugins of this name.
    pub fn guest_metrics(&self) -> &GuestMetrics {
        &self.stats.guest_metrics
    }

    /// Its name: the file name without the extension.
    pub fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// The digests of its file and its settings.
    pub fn version(&self) -> PluginVersion {
        self.version
    }

    /// The digest of its file.
    pub fn digest(&self) -> ContentDigest {
        self.version.file
    }

    /// Size of its file, in bytes.
    pub fn size(&self) -> u64 {
        self.component.size
    }

    /// The hooks that it exports.
    pub fn hooks(&self) -> &[Hook] {
        &self.component.hooks
    }

    /// Whether it exports this hook.
    pub fn has_hook(&self, hook: Hook) -> bool {
        self.component.hooks.contains(&hook)
    }

    /// Whether the circuit breaker of any of its hooks is not closed.
    pub fn is_circuit_open(&self, now: Instant) -> bool {
        self.breakers.iter().any(|breaker| breaker.circuit_state(now) != CircuitState::Closed)
    }

    /// The circuit breaker of a hook.
    pub fn breaker(&self, hook: Hook) -> &CircuitBreaker {
        let [router, observer, tools, transfers] = &self.breakers;
        match hook {
            Hook::Router => router,
            Hook::Observer => observer,
            Hook::Tools => tools,
            Hook::Transfers => transfers,
        }
    }

    /// Names of its tools: those in its settings, else those that it exports.
    pub fn tools(&self) -> &[Box<str>] {
        &self.tools
    }

    /// The kinds of events that it subscribes to.
    pub fn event_kinds(&self) -> EventKinds {
        if self.has_hook(Hook::Observer) {
            self.settings().events.kinds()
        } else {
            EventKinds::NONE
        }
    }

    /// Keeps the error of a call as the last one.
    fn record_failure(&self, call: &Call, error: &CallError) {
        let error = LastError::in_call(error, self.digest().to_string());
        *self.last_failure.lock() = Some(CallFailure { call: call.call_id(), error });
    }

    /// Erases the last error if it is one of this call: its text may quote the caller.
    pub fn erase_last_error(&self, call: &CallSelector) {
        let mut last_failure = self.last_failure.lock();
        last_failure.take_if(|failure| call.matches_id(&failure.call));
    }

    /// Runs `work`, a call of this hook, unless the hook's circuit breaker is open, and
    /// records the result in the breaker.
    ///
    /// # Errors
    ///
    /// The error of `work`, or [`CallError::CircuitOpen`].
    pub async fn run_with_breaker<T>(
        &self,
        hook: Hook,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let permit =
            self.breaker(hook).try_acquire(Instant::now()).ok_or(CallError::CircuitOpen)?;
        let result = work.await;
        match &result {
            Ok(_) => permit.record_success(),
            Err(error) if self.is_plugin_fault(hook, error) => {
                if permit.record_failure(Instant::now()) {
                    tracing::error!(
                        plugin = &**self.name(),
                        hook = hook.interface(),
                        error = error.label(),
                        "it keeps failing and is set aside for a while (breaker.pause)"
                    );
                }
            }
            Err(_) => drop(permit),
        }
        result
    }

    /// Keeps the error of a call as the last one, and logs it. An open circuit breaker
    /// was logged when it opened.
    pub fn log_failure(&self, call: &Call, took: Duration, error: &CallError) {
        if matches!(error, CallError::CircuitOpen) {
            return;
        }
        self.record_failure(call, error);
        tracing::warn!(
            plugin = &**self.name(),
            call = &*call.id,
            error = error.label(),
            took_us = units::micros(took),
            message = ?error.to_string(),
        );
    }

    /// The last error of a call.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_failure.lock().as_ref().map(|failure| failure.error.clone())
    }

    /// Whether a failure is the plugin's fault, and not a lack of instances or of time
    /// that other plugins have used up.
    fn is_plugin_fault(&self, hook: Hook, error: &CallError) -> bool {
        match error {
            CallError::Busy => false,
            // It is, if the plugin had at least this long: its timeout may be longer
            // than the time for a decision or a tool.
            CallError::Timeout(elapsed) => {
                let plugin_timeout = self.timeout(hook);
                *elapsed
                    >= if hook == Hook::Tools {
                        plugin_timeout / 2
                    } else {
                        plugin_timeout.min(self.decision_timeout / 2)
                    }
            }
            _ => true,
        }
    }

    /// Timeout of calls of this hook.
    pub fn timeout(&self, hook: Hook) -> Duration {
        let ResourceLimits { timeout, event_timeout, tool_timeout, .. } = self.context.limits;
        match hook {
            Hook::Router | Hook::Transfers => timeout,
            Hook::Observer => event_timeout,
            Hook::Tools => tool_timeout,
        }
    }
}

/// An id that no other plugin of this process has.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// The parts of a plugin that its calls share.
struct PluginContext {
    name: Arc<str>,
    settings: Settings,
    limits: ResourceLimits,
    allowed_sts_hosts: Arc<AllowedHosts>,
    /// The last URL template that it returned: most plugins return few.
    last_url: ArcSwapOption<StsUrl>,
    /// One for each class, in the order of [`Priority::ALL`]: a plugin may be CPU-bound
    /// for events and not for decisions.
    overrun_trackers: [OverrunTracker; Priority::ALL.len()],
    kv: Kv,
    /// `None`: nothing is granted.
    http: Option<HttpClient>,
    metrics: MetricsCapability,
    /// `None` in the server.
    recorder: Option<Arc<Recorder>>,
    /// Those of the plugin.
    stats: Arc<Stats>,
}

impl PluginContext {
    /// The overruns of a priority class.
    fn overrun_tracker(&self, priority: Priority) -> &OverrunTracker {
        let [decision, mid_call, event] = &self.overrun_trackers;
        match priority {
            Priority::Decision => decision,
            Priority::MidCall => mid_call,
            Priority::Event => event,
        }
    }

    /// Validates a URL template of the plugin.
    fn parse_sts_url(&self, template: String) -> Result<Arc<StsUrl>, StsUrlError> {
        if let Some(last) = self.last_url.load().as_ref().filter(|url| url.template() == template) {
            return Ok(Arc::clone(last));
        }
        let url = Arc::new(StsUrl::parse(template, &self.allowed_sts_hosts)?);
        self.last_url.store(Some(Arc::clone(&url)));
        Ok(url)
    }
}

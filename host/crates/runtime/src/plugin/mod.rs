//! A plugin: a component that was found good, its settings, and what it did.
//! `load` makes one of files, `invocation` calls it; [`examine`] and [`recorder`] are for
//! authors who want to know more.

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
use self::stats::{LastError, Stats};
use crate::capability::kv::Kv;
use crate::capability::metrics::MetricsCapability;
use crate::engine::{Engine, Priority};
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::EventKinds;
use plugboard_core::sts_url::{AllowedHosts, StsUrl, StsUrlError};
use plugboard_core::units;
use plugboard_egress::HttpClient;

/// The package and version that we speak, as it stands in `wit/`.
pub const CONTRACT: &str = "plugboard:plugin@0.1.0";

/// What plugins can do for us: the interfaces of the contract that we call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Deciding where a call goes.
    Router,
    /// Being told what happens in calls.
    Observer,
    /// Answering voice agents' tools.
    Tools,
    /// Having a say in transfers.
    Transfers,
}

impl Hook {
    /// Every hook.
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

    /// Whom a guest works for when it is called by this hook.
    fn priority(self) -> Priority {
        match self {
            Self::Router => Priority::Decision,
            Self::Observer => Priority::Event,
            Self::Tools | Self::Transfers => Priority::MidCall,
        }
    }
}

/// One version of a plugin: a file and its settings, ready to be called. Never
/// changed; another file or other settings make another one.
pub struct Plugin {
    /// Tells this version from every other one that this process loaded, also
    /// of the same file: what is remembered of one is never used for another.
    pub id: u64,
    /// What the plugins of this name did.
    pub stats: Arc<Stats>,
    version: PluginVersion,
    component: Arc<LinkedComponent>,
    context: Arc<PluginContext>,
    engine: Engine,
    /// Of each hook, as they are ordered: what it keeps failing at is done without.
    breakers: [CircuitBreaker; Hook::ALL.len()],
    /// Guests of it that may run at the same time in the middle of calls.
    mid_call_permits: Semaphore,
    /// The tools that it answers.
    tools: Box<[Box<str>]>,
    /// Of a call that is decided.
    decision_timeout: Duration,
    // Behind a lock because it is written on failures only.
    last_failure: Mutex<Option<CallFailure>>,
}

/// What went wrong in a call, and in which one.
struct CallFailure {
    call: CallId,
    error: LastError,
}

impl Plugin {
    /// Its name: the file's, without the ending.
    pub fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    /// What the operator says about it.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// Its file and its settings.
    pub fn version(&self) -> PluginVersion {
        self.version
    }

    /// Of the file's bytes.
    pub fn digest(&self) -> ContentDigest {
        self.version.file
    }

    /// Of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.component.size
    }

    /// What it can do.
    pub fn hooks(&self) -> &[Hook] {
        &self.component.hooks
    }

    /// Whether it can do that.
    pub fn has_hook(&self, hook: Hook) -> bool {
        self.component.hooks.contains(&hook)
    }

    /// Whether it is done without, by any of its hooks.
    pub fn is_circuit_open(&self, now: Instant) -> bool {
        self.breakers.iter().any(|breaker| breaker.circuit_state(now) != CircuitState::Closed)
    }

    /// Whether it is done without at what this hook is for.
    pub fn breaker(&self, hook: Hook) -> &CircuitBreaker {
        let [router, observer, tools, transfers] = &self.breakers;
        match hook {
            Hook::Router => router,
            Hook::Observer => observer,
            Hook::Tools => tools,
            Hook::Transfers => transfers,
        }
    }

    /// The tools that it answers: those that its settings name, else its own.
    pub fn tools(&self) -> &[Box<str>] {
        &self.tools
    }

    /// The kinds of events that it is told.
    pub fn event_kinds(&self) -> EventKinds {
        if self.has_hook(Hook::Observer) {
            self.settings().events.kinds()
        } else {
            EventKinds::NONE
        }
    }

    /// Remembers what went wrong in a call.
    pub fn record_failure(&self, call: &Call, error: &CallError) {
        let error = LastError::in_call(error, self.digest().to_string());
        *self.last_failure.lock() = Some(CallFailure { call: call.call_id(), error });
    }

    /// Knows no more what went wrong, if it did in this call: the plugin's words may be
    /// those of the caller.
    pub fn erase_last_error(&self, call: &CallSelector) {
        let mut last_failure = self.last_failure.lock();
        last_failure.take_if(|failure| call.matches_id(&failure.call));
    }

    /// Runs the plugin by one of its hooks, unless it is set aside there, and judges
    /// it by what comes of it.
    ///
    /// # Errors
    ///
    /// What `work` comes to, or that it is set aside.
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

    /// Remembers what went wrong in a call, and tells the operator. That it is set aside
    /// was told when it was.
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

    /// What went wrong last in a call.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_failure.lock().as_ref().map(|failure| failure.error.clone())
    }

    /// Whether a failure of a call is the plugin's own: not the want of room,
    /// nor of time that others have used up.
    fn is_plugin_fault(&self, hook: Hook, error: &CallError) -> bool {
        match error {
            CallError::Busy => false,
            // Who had this long to answer has only himself to blame; a plugin may be
            // given more time than a call has, or than a tool.
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

    /// How long it may take to be called by this hook.
    pub fn timeout(&self, hook: Hook) -> Duration {
        let ResourceLimits { timeout, event_timeout, tool_timeout, .. } = self.context.limits;
        match hook {
            Hook::Router | Hook::Transfers => timeout,
            Hook::Observer => event_timeout,
            Hook::Tools => tool_timeout,
        }
    }
}

/// A number that no other plugin of this process has.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// What calls of a plugin need for as long as they last.
struct PluginContext {
    name: Arc<str>,
    settings: Settings,
    limits: ResourceLimits,
    allowed_sts_hosts: Arc<AllowedHosts>,
    /// The last URL that it gave: most plugins give few, again and again.
    last_url: ArcSwapOption<StsUrl>,
    /// By whom it works for, as [`Priority`] is ordered: its work on events says nothing
    /// about its decisions.
    overrun_trackers: [OverrunTracker; Priority::ALL.len()],
    kv: Kv,
    /// None: nothing is granted.
    http: Option<HttpClient>,
    metrics: MetricsCapability,
    /// Of what it does. None in the server.
    recorder: Option<Arc<Recorder>>,
    /// The plugin's.
    stats: Arc<Stats>,
}

impl PluginContext {
    /// How fast it was lately.
    fn overrun_tracker(&self, priority: Priority) -> &OverrunTracker {
        let [decision, mid_call, event] = &self.overrun_trackers;
        match priority {
            Priority::Decision => decision,
            Priority::MidCall => mid_call,
            Priority::Event => event,
        }
    }

    /// A URL of the plugin's, found good.
    fn parse_sts_url(&self, template: String) -> Result<Arc<StsUrl>, StsUrlError> {
        if let Some(last) = self.last_url.load().as_ref().filter(|url| url.template() == template) {
            return Ok(Arc::clone(last));
        }
        let url = Arc::new(StsUrl::parse(template, &self.allowed_sts_hosts)?);
        self.last_url.store(Some(Arc::clone(&url)));
        Ok(url)
    }
}

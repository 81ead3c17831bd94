//! Plugins: one version of a component with its settings, and its state.
//!
//! [`Loader`] creates a [`Plugin`] from files; its methods call its hooks. [`examine`] and
//! [`recorder`] give authors more detail.

mod accounting;
pub mod backtrace;
mod bindings;
pub mod breaker;
mod compile_cache;
mod component;
mod context;
mod contract;
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

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::breaker::{CircuitBreaker, CircuitState};
pub use self::compile_cache::CompileCache;
use self::component::LinkedComponent;
use self::context::PluginContext;
pub use self::contract::{CONTRACT, Hook};
use self::error::CallError;
pub use self::hooks::ToolResult;
use self::limits::ResourceLimits;
pub use self::load::{LoadOutcome, Loader};
pub use self::plugin_files::{ContentDigest, FileFingerprints, PluginFiles, PluginVersion};
use self::settings::Settings;
use self::stats::{LastError, Stats, StatsSnapshot};
use crate::capability::metrics::GuestMetrics;
use crate::engine::Engine;
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::EventKinds;
use plugboard_core::units;

/// One version of a plugin: a component and its settings, ready to be called. A change of
/// the file or the settings makes another version.
pub struct Plugin {
    id: u64,
    /// Shared with the versions before and after this one.
    stats: Arc<Stats>,
    version: PluginVersion,
    component: Arc<LinkedComponent>,
    context: Arc<PluginContext>,
    engine: Engine,
    /// One breaker for each hook, in the order of [`Hook::ALL`].
    breakers: [CircuitBreaker; Hook::ALL.len()],
    /// Permits that limit its concurrent guests for tools and transfers.
    mid_call_permits: Semaphore,
    /// Names of the plugin's tools.
    tools: Box<[Box<str>]>,
    /// Value of `limits.decision_timeout` in the configuration.
    decision_timeout: Duration,
    // Behind a lock because it is written on failures only.
    last_failure: Mutex<Option<CallFailure>>,
}

/// Failed call with its error.
struct CallFailure {
    call: CallId,
    error: LastError,
}

impl Plugin {
    /// Returns an id that is unique in this process, also among versions of the same file.
    /// State of one version is never used for another.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the counters of the plugins of this name.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Returns the custom metrics of the plugins of this name.
    pub fn guest_metrics(&self) -> &GuestMetrics {
        &self.stats.guest_metrics
    }

    /// Returns its name: the file name without the extension.
    pub fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    /// Returns the settings of this version.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// Returns the digests of its file and its settings.
    pub fn version(&self) -> PluginVersion {
        self.version
    }

    /// Returns the digest of its file.
    pub fn digest(&self) -> ContentDigest {
        self.version.file
    }

    /// Returns the size of its file, in bytes.
    pub fn size(&self) -> u64 {
        self.component.size
    }

    /// Returns the hooks that it exports.
    pub fn hooks(&self) -> &[Hook] {
        &self.component.hooks
    }

    /// Returns whether it exports this hook.
    pub fn has_hook(&self, hook: Hook) -> bool {
        self.component.hooks.contains(&hook)
    }

    /// Returns whether the circuit breaker of any of its hooks is not closed.
    pub fn is_circuit_open(&self, now: Instant) -> bool {
        self.breakers.iter().any(|breaker| breaker.circuit_state(now) != CircuitState::Closed)
    }

    /// Returns the circuit breaker of a hook.
    pub fn breaker(&self, hook: Hook) -> &CircuitBreaker {
        let [router, observer, tools, transfers] = &self.breakers;
        match hook {
            Hook::Router => router,
            Hook::Observer => observer,
            Hook::Tools => tools,
            Hook::Transfers => transfers,
        }
    }

    /// Returns the names of its tools: from its settings, else from its exports.
    pub fn tools(&self) -> &[Box<str>] {
        &self.tools
    }

    /// Returns the kinds of events that it subscribes to.
    pub fn event_kinds(&self) -> EventKinds {
        if self.has_hook(Hook::Observer) {
            self.settings().events.kinds()
        } else {
            EventKinds::NONE
        }
    }

    /// Stores the error of a call as the last error.
    fn record_failure(&self, call: &Call, error: &CallError) {
        let error = LastError::in_call(error, self.digest().to_string());
        *self.last_failure.lock() = Some(CallFailure { call: call.call_id(), error });
    }

    /// Erases the last error if it belongs to this call, because its text may quote the caller.
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
                        "circuit breaker opened (circuit_breaker.open_duration)"
                    );
                }
            }
            Err(_) => drop(permit),
        }
        result
    }

    /// Stores the error of a call as the last error, and logs it. Ignores an open circuit
    /// breaker, which was logged when it opened.
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

    /// Returns the last error of a call.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_failure.lock().as_ref().map(|failure| failure.error.clone())
    }

    /// Returns whether the plugin caused a failure, as opposed to other plugins that used up
    /// the instances or the time.
    fn is_plugin_fault(&self, hook: Hook, error: &CallError) -> bool {
        match error {
            CallError::Busy => false,
            // The plugin caused it only if it had at least this long. Its timeout may exceed the
            // time that a decision or a tool has left.
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

    /// Returns the time limit of calls of this hook.
    pub fn timeout(&self, hook: Hook) -> Duration {
        let ResourceLimits { timeout, event_timeout, tool_timeout, .. } = self.context.limits;
        match hook {
            Hook::Router | Hook::Transfers => timeout,
            Hook::Observer => event_timeout,
            Hook::Tools => tool_timeout,
        }
    }
}

/// Returns an id that no other plugin of this process has.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

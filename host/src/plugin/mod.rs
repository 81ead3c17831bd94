//! A plugin: a component that was found good, its settings, and what it did.
//! `load` makes one of files, `call` asks it; [`examine`] and [`record`] are for
//! authors who want to know more.

pub mod backtrace;
mod bindings;
pub mod breaker;
mod call;
mod compiled;
mod component;
pub mod error;
pub mod examine;
pub mod habits;
pub mod histogram;
mod hooks;
mod limits;
mod load;
mod pace;
pub mod record;
pub mod settings;
mod sources;
mod state;
pub mod stats;
mod told;
mod turn;
mod words;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::breaker::{Breaker, Condition};
pub use self::compiled::CompileCache;
use self::component::Checked;
use self::error::PluginError;
use self::habits::Habits;
pub use self::hooks::ToolResult;
use self::limits::Limits;
pub use self::load::{Loaded, Loader};
use self::pace::Pace;
use self::record::Recorder;
use self::settings::Settings;
pub use self::sources::{Digest, Sources, Stamps, Version};
use self::stats::{LastError, Stats};
use crate::capability::http::HttpClient;
use crate::capability::kv::Kv;
use crate::capability::metrics::Metrics;
use crate::engine::{Engine, Queue};
use crate::event::{Call, Kinds, Platform};
use crate::store::erase::CallName;
use crate::sts_url::{AllowedHosts, StsUrl, StsUrlError};
use crate::units;

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
    fn queue(self) -> Queue {
        match self {
            Self::Router => Queue::Calls,
            Self::Observer => Queue::Events,
            Self::Tools | Self::Transfers => Queue::Agents,
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
    /// What its verdicts depended on.
    pub habits: Habits,
    version: Version,
    component: Arc<Checked>,
    shared: Arc<Shared>,
    engine: Engine,
    /// Of each hook, as they are ordered: what it keeps failing at is done without.
    breakers: [Breaker; Hook::ALL.len()],
    /// Guests of it that may run at the same time in the middle of calls.
    pub midcall: Semaphore,
    /// The tools that it answers.
    tools: Box<[Box<str>]>,
    /// Of a call that is decided.
    budget: Duration,
    // Behind a lock because it is written on failures only.
    last_failure: Mutex<Option<Failure>>,
}

/// What went wrong in a call, and in which one.
struct Failure {
    call: Box<str>,
    platform: Platform,
    error: LastError,
}

impl Plugin {
    /// Its name: the file's, without the ending.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// What the operator says about it.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Its file and its settings.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Of the file's bytes.
    pub fn digest(&self) -> Digest {
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
    pub fn has(&self, hook: Hook) -> bool {
        self.component.hooks.contains(&hook)
    }

    /// Whether it is done without, by any of its hooks.
    pub fn is_set_aside(&self, now: Instant) -> bool {
        self.breakers.iter().any(|breaker| breaker.condition(now) != Condition::Closed)
    }

    /// Whether it is done without at what this hook is for.
    pub fn breaker(&self, hook: Hook) -> &Breaker {
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
    pub fn kinds(&self) -> Kinds {
        if self.has(Hook::Observer) { self.settings().events.kinds() } else { Kinds::NONE }
    }

    /// Remembers what went wrong in a call.
    pub fn failed(&self, call: &Call, error: &PluginError) {
        let error = LastError::now(error, Some(self.digest().to_string()));
        let failure = Failure { call: call.id.as_str().into(), platform: call.platform, error };
        *self.last_failure() = Some(failure);
    }

    /// Knows no more what went wrong, if it did in this call: the plugin's words may be
    /// those of the caller.
    pub fn forget(&self, call: &CallName) {
        let mut last = self.last_failure();
        last.take_if(|failure| call.is(&failure.call, failure.platform));
    }

    /// Runs the plugin by one of its hooks, unless it is set aside there, and judges
    /// it by what comes of it.
    ///
    /// # Errors
    ///
    /// What `work` comes to, or that it is set aside.
    pub async fn attempt<T>(
        &self,
        hook: Hook,
        work: impl Future<Output = Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        let leave = self.breaker(hook).admit(Instant::now()).ok_or(PluginError::SetAside)?;
        let result = work.await;
        match &result {
            Ok(_) => leave.succeeded(),
            Err(error) if self.is_to_blame(hook, error) => {
                if leave.failed(Instant::now()) {
                    tracing::error!(
                        plugin = &**self.name(),
                        hook = hook.interface(),
                        error = error.label(),
                        "it keeps failing and is set aside for a while (breaker.pause)"
                    );
                }
            }
            Err(_) => drop(leave),
        }
        result
    }

    /// Remembers what went wrong in a call, and tells the operator. That it is set aside
    /// was told when it was.
    pub fn tell_failure(&self, call: &Call, took: Duration, error: &PluginError) {
        if matches!(error, PluginError::SetAside) {
            return;
        }
        self.failed(call, error);
        tracing::warn!(
            plugin = &**self.name(),
            call = call.id.as_str(),
            error = error.label(),
            took_us = units::micros(took),
            message = ?error.to_string(),
        );
    }

    /// What went wrong last in a call.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_failure().as_ref().map(|failure| failure.error.clone())
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a failure of a call is the plugin's own: not the want of room,
    /// nor of time that others have used up.
    fn is_to_blame(&self, hook: Hook, error: &PluginError) -> bool {
        match error {
            PluginError::Busy => false,
            // Who had this long to answer has only himself to blame; a plugin may be
            // given more time than a call has, or than a tool.
            PluginError::Timeout(after) => {
                let own = self.timeout(hook);
                *after >= if hook == Hook::Tools { own / 2 } else { own.min(self.budget / 2) }
            }
            _ => true,
        }
    }

    /// How long it may take to be called by this hook.
    pub fn timeout(&self, hook: Hook) -> Duration {
        let Limits { timeout, event_timeout, tool_timeout, .. } = self.shared.limits;
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
struct Shared {
    name: Arc<str>,
    settings: Settings,
    limits: Limits,
    allowed_sts_hosts: Arc<AllowedHosts>,
    /// The last URL that it gave: most plugins give few, again and again.
    last_url: ArcSwapOption<StsUrl>,
    /// By whom it works for, as [`Queue`]s are ordered: its work on events says nothing
    /// about its decisions.
    paces: [Pace; Queue::ALL.len()],
    kv: Kv,
    /// None: nothing is granted.
    http: Option<HttpClient>,
    figures: Metrics,
    /// Of what it does. None in the server.
    recorder: Option<Arc<Recorder>>,
    /// The plugin's.
    stats: Arc<Stats>,
}

impl Shared {
    /// How fast it was lately.
    fn pace(&self, queue: Queue) -> &Pace {
        let [calls, agents, events] = &self.paces;
        match queue {
            Queue::Calls => calls,
            Queue::Agents => agents,
            Queue::Events => events,
        }
    }

    /// A URL of the plugin's, found good.
    fn url(&self, template: String) -> Result<Arc<StsUrl>, StsUrlError> {
        if let Some(last) = self.last_url.load().as_ref().filter(|it| it.template() == template) {
            return Ok(Arc::clone(last));
        }
        let url = Arc::new(StsUrl::parse(template, &self.allowed_sts_hosts)?);
        self.last_url.store(Some(Arc::clone(&url)));
        Ok(url)
    }
}

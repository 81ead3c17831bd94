//! A plugin: a component that was found good, its settings, and what it did.
//! [`load`] makes one of files, [`call`] asks it.

mod bindings;
pub mod breaker;
mod call;
mod compiled;
pub mod error;
pub mod habits;
pub mod histogram;
mod limits;
mod load;
mod pace;
pub mod settings;
mod sources;
mod state;
pub mod stats;
mod told;
mod turn;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use self::breaker::Breaker;
pub use self::compiled::CompileCache;
use self::error::PluginError;
use self::habits::Habits;
use self::limits::Limits;
use self::load::Checked;
pub use self::load::{Loaded, Loader};
use self::pace::Pace;
use self::settings::Settings;
pub use self::sources::{Digest, Files, Sources, Stamps, Version};
use self::stats::{LastError, Stats};
use crate::capability::http::HttpClient;
use crate::capability::kv::Kv;
use crate::capability::metrics::Metrics;
use crate::engine::{Engine, Queue};
use crate::event::Kinds;
use crate::sts_url::{AllowedHosts, StsUrl, StsUrlError};

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
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 2] = [Self::Router, Self::Observer];

    /// Its interface's name in the contract.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Observer => "observer",
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
    /// Whether its decisions are done without.
    pub breaker: Breaker,
    /// Whether events wait, as it keeps failing over them.
    pub event_breaker: Breaker,
    /// What its verdicts depended on.
    pub habits: Habits,
    version: Version,
    component: Arc<Checked>,
    shared: Arc<Shared>,
    engine: Engine,
    /// Who had this long to answer has only himself to blame.
    patience: Duration,
    // Behind a lock because it is written on failures only.
    last_error: Mutex<Option<LastError>>,
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

    /// The kinds of events that it is told.
    pub fn kinds(&self) -> Kinds {
        if self.has(Hook::Observer) { self.settings().events.kinds() } else { Kinds::NONE }
    }

    /// Remembers what went wrong in a call.
    pub fn failed(&self, error: &PluginError) {
        let error = LastError::now(error, Some(self.digest().to_string()));
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What went wrong last in a call.
    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a failure of a call is the plugin's own: not the want of room,
    /// nor of time that others have used up.
    pub fn is_to_blame(&self, error: &PluginError) -> bool {
        match error {
            PluginError::Busy => false,
            PluginError::Timeout(after) => *after >= self.patience,
            _ => true,
        }
    }

    /// How long one decision of it may take.
    pub fn timeout(&self) -> Duration {
        self.shared.limits.timeout
    }

    /// How long it may take over one event.
    pub fn event_timeout(&self) -> Duration {
        self.shared.limits.event_timeout
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
    pace: Pace,
    /// Of its work on events, which says nothing about its decisions.
    event_pace: Pace,
    kv: Kv,
    /// None: nothing is granted.
    http: Option<HttpClient>,
    figures: Metrics,
    /// The plugin's.
    stats: Arc<Stats>,
}

impl Shared {
    /// How fast it was lately.
    fn pace(&self, queue: Queue) -> &Pace {
        match queue {
            Queue::Calls => &self.pace,
            Queue::Events => &self.event_pace,
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

//! A plugin: a component that was found good, its settings, and what it did.
//! [`load`] makes one of files, [`call`] asks it.

mod bindings;
mod call;
pub mod error;
mod limits;
mod load;
mod pace;
pub mod settings;
mod state;
pub mod stats;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;

use self::bindings::RouterPluginPre;
use self::limits::Limits;
pub use self::load::{Loader, Sources};
use self::pace::Pace;
use self::settings::Settings;
use self::state::State;
use self::stats::Stats;
use crate::engine::Engine;

/// The package and version that we speak, as it stands in `wit/`.
pub const CONTRACT: &str = "plugboard:plugin@0.1.0";

/// What plugins can do for us: the interfaces of the contract that we call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Deciding where a call goes.
    Router,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 1] = [Self::Router];

    /// Its interface's name in the contract.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Router => "router",
        }
    }
}

/// A plugin that can be called.
pub struct Plugin {
    /// The file.
    pub file: PathBuf,
    /// Of the file's bytes: SHA-256, in hex.
    pub digest: String,
    /// Of the file, in bytes.
    pub size: u64,
    /// What it can do.
    pub hooks: Vec<Hook>,
    /// What it did.
    pub stats: Stats,
    shared: Arc<Shared>,
    engine: Engine,
    router: Option<RouterPluginPre<State>>,
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
}

/// What calls of a plugin need for as long as they last.
struct Shared {
    name: Arc<str>,
    settings: Settings,
    limits: Limits,
    pace: Pace,
}

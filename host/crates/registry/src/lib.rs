//! Generations: the immutable set of plugins that serves a request.
//!
//! One generation is current at a time. A request takes the current generation once and keeps
//! it to its end, so it sees one set of versions and settings. [`Registry::publish`] swaps the
//! current generation; [`reload`] creates the next one from the plugin folder.

#![forbid(unsafe_code)]

mod chain;
mod index;
pub mod reload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::chain::Chain;
pub use self::index::ChainIndex;
use plugboard_core::event::EventKinds;
use plugboard_runtime::plugin::stats::LastError;
use plugboard_runtime::plugin::{Hook, Plugin};

/// An immutable set of plugins and settings that serves requests.
#[derive(Default)]
pub struct Generation {
    /// The number of the generation. It changes with the set of serving plugins; 1 is the
    /// first one after start.
    pub number: u64,
    decision_chain: Chain,
    /// Chains of the tools hook, by the name of the tool.
    tools: BTreeMap<Box<str>, Chain>,
    transfers: Chain,
    event_kinds: EventKinds,
    /// Every plugin in the folder, in the order of their file names.
    pub entries: Vec<PluginEntry>,
    /// Settings files without a plugin of the same name.
    pub orphan_settings: Vec<PathBuf>,
}

/// A plugin in the folder, whether it serves or not.
#[derive(Clone)]
pub struct PluginEntry {
    /// The name of the plugin.
    pub name: String,
    /// The path of its component file.
    pub file: PathBuf,
    /// The serving version: the last version that could be loaded.
    pub plugin: Option<Arc<Plugin>>,
    /// True if its settings disable the plugin.
    pub disabled: bool,
    /// The reason why the version in the folder does not serve.
    pub error: Option<LastError>,
}

impl PluginEntry {
    /// Returns whether the plugin is enabled but no version serves.
    pub fn is_broken(&self) -> bool {
        self.plugin.is_none() && self.error.is_some()
    }
}

impl Generation {
    /// Creates a generation of the plugins in the folder.
    pub fn new(number: u64, entries: Vec<PluginEntry>, orphan_settings: Vec<PathBuf>) -> Self {
        let plugins = entries.iter().filter_map(|entry| entry.plugin.as_ref());
        let event_kinds = plugins
            .clone()
            .fold(EventKinds::NONE, |kinds, plugin| kinds.union(plugin.event_kinds()));
        let chain_for = |hook| {
            let plugins = plugins.clone().filter(move |plugin| plugin.has_hook(hook));
            Chain::new(plugins.cloned().collect())
        };
        let (decision_chain, transfers) = (chain_for(Hook::Router), chain_for(Hook::Transfers));
        let mut tools = BTreeMap::<Box<str>, Vec<_>>::new();
        for plugin in plugins {
            for tool in plugin.tools() {
                tools.entry(tool.clone()).or_default().push(Arc::clone(plugin));
            }
        }
        let tools = tools.into_iter().map(|(name, chain)| (name, Chain::new(chain))).collect();
        Self { number, decision_chain, tools, transfers, event_kinds, entries, orphan_settings }
    }

    /// Returns every serving plugin, with any hook.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.entries.iter().filter_map(|entry| entry.plugin.as_ref())
    }

    /// Returns the serving plugin of a name.
    pub fn plugin(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.entry(name)?.plugin.as_ref()
    }

    /// Returns whether the folder has a plugin of this name, serving or not.
    pub fn has_file(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&PluginEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Returns the kinds of events to which some plugin subscribes.
    pub fn event_kinds(&self) -> EventKinds {
        self.event_kinds
    }

    /// Returns the chain of plugins with the hook `router`.
    pub fn decision_chain(&self) -> &Chain {
        &self.decision_chain
    }

    /// Returns the chain of a tool. `None`: no plugin has such a tool.
    pub fn tool(&self, name: &str) -> Option<&Chain> {
        self.tools.get(name)
    }

    /// Returns the names of all tools, in alphabetical order.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(|name| &**name)
    }

    /// Returns the chain of plugins with the hook `transfers`.
    pub fn transfers(&self) -> &Chain {
        &self.transfers
    }

    /// Returns whether some plugin answers tools or transfers, which needs the call data of the
    /// call's start.
    pub fn needs_call_context(&self) -> bool {
        !self.tools.is_empty() || !self.transfers.plugins().is_empty()
    }

    /// Returns the enabled plugins of which no version serves.
    pub fn broken(&self) -> impl Iterator<Item = &PluginEntry> {
        self.entries.iter().filter(|entry| entry.is_broken())
    }
}

/// The current generation, with notifications of later ones.
pub struct Registry {
    current: ArcSwap<Generation>,
    changes: watch::Sender<Arc<Generation>>,
}

impl Default for Registry {
    fn default() -> Self {
        let none = Arc::new(Generation::default());
        Self { current: ArcSwap::new(Arc::clone(&none)), changes: watch::Sender::new(none) }
    }
}

impl Registry {
    /// Returns the current generation.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Makes a generation the current one, for requests from now on.
    pub fn publish(&self, generation: Generation) {
        let generation = Arc::new(generation);
        self.current.store(Arc::clone(&generation));
        self.changes.send_replace(generation);
    }

    /// Subscribes to the current generation and every later one.
    pub fn changes(&self) -> watch::Receiver<Arc<Generation>> {
        self.changes.subscribe()
    }
}

//! Generations: the immutable set of plugins that serves a request.
//!
//! One generation is current at a time. A request takes it once and keeps it to its end, so it
//! sees one set of versions and settings. [`Registry::publish`] swaps the current generation;
//! [`reload`] makes the next one from the plugin folder.

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

/// All that a request needs to know about plugins.
#[derive(Default)]
pub struct Generation {
    /// Which one it is: 1 is the first with plugins looked for. Another one has
    /// other plugins.
    pub number: u64,
    decision_chain: Chain,
    /// By the name of the tool.
    tools: BTreeMap<Box<str>, Chain>,
    transfers: Chain,
    event_kinds: EventKinds,
    /// Every plugin in the folder, in the order of their file names.
    pub entries: Vec<PluginEntry>,
    /// Settings without a plugin of their name.
    pub orphan_settings: Vec<PathBuf>,
}

/// A plugin in the folder, whether it works or not.
#[derive(Clone)]
pub struct PluginEntry {
    /// The plugin's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// What serves: the last version that could be loaded.
    pub plugin: Option<Arc<Plugin>>,
    /// Whether the operator switched it off.
    pub disabled: bool,
    /// Why what is in the folder now does not serve.
    pub error: Option<LastError>,
}

impl PluginEntry {
    /// Whether it should serve, and nothing does.
    pub fn is_broken(&self) -> bool {
        self.plugin.is_none() && self.error.is_some()
    }
}

impl Generation {
    /// A generation of what is in the folder.
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

    /// Every plugin that serves, whatever it can do.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.entries.iter().filter_map(|entry| entry.plugin.as_ref())
    }

    /// The plugin of a name, if it serves.
    pub fn plugin(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.entry(name)?.plugin.as_ref()
    }

    /// Whether there is a file of this name, whether it serves or not.
    pub fn has_file(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&PluginEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The kinds of events that some plugin wants to be told.
    pub fn event_kinds(&self) -> EventKinds {
        self.event_kinds
    }

    /// The plugins that decide.
    pub fn decision_chain(&self) -> &Chain {
        &self.decision_chain
    }

    /// The plugins that answer a tool. None: there is no such tool.
    pub fn tool(&self, name: &str) -> Option<&Chain> {
        self.tools.get(name)
    }

    /// The names of all tools, in alphabetical order.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(|name| &**name)
    }

    /// The plugins that have a say in transfers.
    pub fn transfers(&self) -> &Chain {
        &self.transfers
    }

    /// Whether some plugin is asked in the middle of calls, and should know then what
    /// was told at their beginning.
    pub fn needs_call_context(&self) -> bool {
        !self.tools.is_empty() || !self.transfers.plugins().is_empty()
    }

    /// The plugins that should serve, and do not.
    pub fn broken(&self) -> impl Iterator<Item = &PluginEntry> {
        self.entries.iter().filter(|entry| entry.is_broken())
    }
}

/// The generation that answers requests now.
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
    /// The generation for a request that comes now.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Requests that come from now on get this one.
    pub fn publish(&self, generation: Generation) {
        let generation = Arc::new(generation);
        self.current.store(Arc::clone(&generation));
        self.changes.send_replace(generation);
    }

    /// The generation, and word of every other one.
    pub fn changes(&self) -> watch::Receiver<Arc<Generation>> {
        self.changes.subscribe()
    }
}

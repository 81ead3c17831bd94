//! Chains: the plugins that answer one kind of request, one after another.

use std::sync::Arc;

use super::ChainIndex;
use plugboard_core::call::Call;
use plugboard_runtime::plugin::Plugin;

/// The plugins that answer one kind of request, in the order of their file names.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    index: ChainIndex,
}

impl Chain {
    /// Creates a chain of these plugins.
    pub fn new(plugins: Vec<Arc<Plugin>>) -> Self {
        let index = ChainIndex::new(&plugins);
        Self { plugins, index }
    }

    /// Returns all plugins of the chain.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// Returns the plugins whose settings match a call, in chain order.
    pub fn matching<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Arc<Plugin>> {
        let candidates = self.index.candidates(call).into_iter();
        candidates
            .filter_map(|position| self.plugins.get(position as usize))
            .filter(|plugin| plugin.settings().accepts_call(call))
    }
}

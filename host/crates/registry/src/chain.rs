//! Chains: the plugins that answer one kind of request, one after another.

use std::sync::Arc;

use super::ChainIndex;
use plugboard_core::call::Call;
use plugboard_runtime::plugin::Plugin;

/// The plugins that can answer one kind of question, in the order of their file
/// names.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    index: ChainIndex,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(plugins: Vec<Arc<Plugin>>) -> Self {
        let index = ChainIndex::new(&plugins);
        Self { plugins, index }
    }

    /// All of them.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// Those that a call concerns, in the order in which they are asked.
    pub fn matching<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Arc<Plugin>> {
        let candidates = self.index.candidates(call).into_iter();
        candidates
            .filter_map(|position| self.plugins.get(position as usize))
            .filter(|plugin| plugin.settings().accepts_call(call))
    }
}

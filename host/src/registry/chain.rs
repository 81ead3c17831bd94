//! Plugins that are asked the same, one after another.

use std::sync::Arc;

use super::Index;
use crate::event::Call;
use crate::plugin::Plugin;

/// The plugins that can answer one kind of question, in the order of their file
/// names.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Arc<Plugin>>,
    index: Index,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(plugins: Vec<Arc<Plugin>>) -> Self {
        let index = Index::new(&plugins);
        Self { plugins, index }
    }

    /// All of them.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// Those that a call concerns, in the order in which they are asked.
    pub fn concerned<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Arc<Plugin>> {
        let candidates = self.index.candidates(call).into_iter();
        candidates
            .filter_map(|place| self.plugins.get(place as usize))
            .filter(|plugin| plugin.settings().accept(call))
    }
}

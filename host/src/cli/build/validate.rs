//! Checks that the server can load a component that was built.

use tokio::runtime::{self, Runtime};

use plugboard_config::Config;
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::{Loader, PluginFiles};

/// Loads plugins as a server does, to see whether they can be.
pub(super) struct PluginValidator {
    loader: Loader,
    runtime: Runtime,
}

/// A plugin that can be loaded, byte by byte: its files may change meanwhile.
pub(super) struct ValidatedPlugin {
    /// Where it was read.
    pub(super) sources: PluginFiles,
    /// The component.
    pub(super) bytes: Vec<u8>,
    /// The settings that it was loaded with, if there are any.
    pub(super) settings: Option<Vec<u8>>,
    /// The hooks that it has, for people.
    pub(super) hooks: String,
}

impl PluginValidator {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let loader = Loader::new(
            Engine::start(&config.engine, Purpose::Serve { threads: 1 })?,
            None,
            None,
            config,
        )?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { loader, runtime })
    }

    /// Judges a component and its settings together.
    ///
    /// # Errors
    ///
    /// When a server would not serve it; in the words that the server has for it.
    pub(super) fn validate(&self, sources: &PluginFiles) -> anyhow::Result<ValidatedPlugin> {
        let files = sources.read().map_err(anyhow::Error::msg)?;
        let (bytes, settings) = (files.bytes.clone(), files.settings.clone());
        // Switched on later, it is to work.
        let plugin = self.runtime.block_on(self.loader.load_ignoring_enabled(sources, files));
        // Its text has those of its sources already.
        let plugin = plugin.map_err(anyhow::Error::msg)?;
        let hooks: Vec<&str> = plugin.hooks().iter().map(|hook| hook.interface()).collect();
        Ok(ValidatedPlugin { sources: sources.clone(), bytes, settings, hooks: hooks.join(", ") })
    }
}

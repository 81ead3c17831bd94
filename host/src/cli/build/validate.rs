//! Checks that the server can load a component.

use tokio::runtime::{self, Runtime};

use plugboard_config::Config;
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::{Loader, PluginFiles};

/// Loads plugins as the server does, to check them.
pub(super) struct PluginValidator {
    loader: Loader,
    runtime: Runtime,
}

/// Contents of a plugin that can be loaded. The files can change afterwards.
pub(super) struct ValidatedPlugin {
    /// Files that were read.
    pub(super) sources: PluginFiles,
    /// Bytes of the component.
    pub(super) bytes: Vec<u8>,
    /// Settings with which it was loaded, if any.
    pub(super) settings: Option<Vec<u8>>,
    /// Names of its hooks, for the output.
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

    /// Checks a component and its settings together.
    ///
    /// # Errors
    ///
    /// If the server would not serve it, with the message of the server.
    pub(super) fn validate(&self, sources: &PluginFiles) -> anyhow::Result<ValidatedPlugin> {
        let files = sources.read().map_err(anyhow::Error::msg)?;
        let (bytes, settings) = (files.bytes.clone(), files.settings.clone());
        // A disabled plugin is checked too, because it can be enabled later.
        let plugin = self.runtime.block_on(self.loader.load_ignoring_enabled(sources, files));
        // The error's text already has the texts of its sources.
        let plugin = plugin.map_err(anyhow::Error::msg)?;
        let hooks: Vec<&str> = plugin.hooks().iter().map(|hook| hook.interface()).collect();
        Ok(ValidatedPlugin { sources: sources.clone(), bytes, settings, hooks: hooks.join(", ") })
    }
}

//! Whether a server could load what was built.

use std::sync::Arc;

use tokio::runtime::{self, Runtime};

use crate::config::Config;
use crate::engine::{Engine, Purpose};
use crate::plugin::{Loaded, Loader, Sources};

/// Loads plugins as a server does, to see whether they can be.
pub(super) struct Judge {
    loader: Loader,
    runtime: Runtime,
}

/// A plugin that can be loaded, byte by byte: its files may change meanwhile.
pub(super) struct Judged {
    /// The component.
    pub(super) bytes: Vec<u8>,
    /// The settings that it was loaded with, if there are any.
    pub(super) settings: Option<Vec<u8>>,
    /// The hooks that it has, for people.
    pub(super) hooks: String,
}

impl Judge {
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
    pub(super) fn judge(&self, sources: &Sources) -> anyhow::Result<Judged> {
        let mut files = sources.read()?;
        let (bytes, settings) = (files.bytes.clone(), files.settings.clone());
        let load = |files| self.runtime.block_on(self.loader.load(sources, files, Arc::default()));
        let plugin = match load(files)? {
            Loaded::Plugin(plugin) => Some(plugin),
            // The component was not looked at.
            Loaded::Disabled => {
                files = sources.read()?;
                files.settings = None;
                match load(files)? {
                    Loaded::Plugin(plugin) => Some(plugin),
                    Loaded::Disabled => None,
                }
            }
        };
        let hooks = plugin.iter().flat_map(|plugin| plugin.hooks());
        let hooks: Vec<&str> = hooks.map(|hook| hook.interface()).collect();
        Ok(Judged { bytes, settings, hooks: hooks.join(", ") })
    }
}

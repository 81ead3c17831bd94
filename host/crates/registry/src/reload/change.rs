//! The change of one plugin in a reload, for the history of reloads.

use serde::Serialize;

use plugboard_core::text::truncate;

/// The change of one plugin in a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginChange {
    /// The name of the plugin.
    pub plugin: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// SHA-256 of the serving component, in hex.
    pub version: Option<String>,
    /// The reason why the version in the folder does not serve.
    pub error: Option<String>,
}

/// The kind of change of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// A new plugin serves.
    Added,
    /// Another version or other settings serve.
    Replaced,
    /// The plugin was removed from the folder.
    Removed,
    /// The version in the folder cannot be loaded; the last good version, if any, serves.
    Broken,
    /// A plugin that could not be loaded serves again.
    Fixed,
    /// The settings disable the plugin.
    Disabled,
    /// The settings enable the plugin.
    Enabled,
}

impl PluginChange {
    /// Returns the change with its error truncated to this number of bytes.
    #[must_use]
    pub fn truncated(&self, max_bytes: usize) -> Self {
        let error = self.error.as_deref().map(|error| truncate(error, max_bytes).into_owned());
        Self { error, ..self.clone() }
    }
}

//! The difference that a reload made to one plugin, for the history of reloads.

use serde::Serialize;

use plugboard_core::text::truncate;

/// A change of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginChange {
    /// The plugin's name.
    pub plugin: String,
    /// What became of it.
    pub kind: ChangeKind,
    /// What serves now: the digest of the file, SHA-256 in hex.
    pub version: Option<String>,
    /// Why what is in the folder does not serve.
    pub error: Option<String>,
}

/// What became of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It serves, and was not there before.
    Added,
    /// Another version or other settings of it serve.
    Replaced,
    /// It is gone from the folder.
    Removed,
    /// What is in the folder cannot be loaded; what served before serves on.
    Broken,
    /// It was broken, and is not any more.
    Fixed,
    /// The operator switched it off.
    Disabled,
    /// The operator switched it on.
    Enabled,
}

impl PluginChange {
    /// The same with no more of the error than so many bytes.
    #[must_use]
    pub fn truncated(&self, max_bytes: usize) -> Self {
        let error = self.error.as_deref().map(|error| truncate(error, max_bytes).into_owned());
        Self { error, ..self.clone() }
    }
}

//! The changes of one reload, for the feed.

use jiff::Timestamp;

use plugboard_registry::reload::PluginChange;

/// The changes of one reload.
#[derive(Debug, serde::Serialize)]
pub struct ReloadSummary {
    /// The time of the reload.
    pub at: Timestamp,
    /// The number of the generation that serves since then.
    pub generation: u64,
    /// The changes of plugins, at most 100.
    pub changes: Vec<PluginChange>,
    /// The number of further changes.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

//! State that the threads of the store share.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::tail::JournalTail;
use crate::StoreError;
use plugboard_config::JournalConfig;

/// State that the threads of the store share.
pub(super) struct StoreShared {
    pub(super) path: PathBuf,
    pub(super) config: JournalConfig,
    pub(super) tail: JournalTail,
    pub(super) health: ArcSwapOption<StoreError>,
}

impl StoreShared {
    pub(super) fn set_health(&self, error: Option<StoreError>) {
        if error.is_some() || self.health.load().is_some() {
            self.health.store(error.map(Arc::new));
        }
    }
}

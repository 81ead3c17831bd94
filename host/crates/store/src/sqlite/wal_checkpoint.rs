//! The thread that moves pages of the write-ahead log to the file, so that the writer rarely
//! has to.
//!
//! The writer still moves pages when the log has
//! [`WAL_AUTOCHECKPOINT_PAGES`](super::database_file::WAL_AUTOCHECKPOINT_PAGES) pages, because
//! under load only the writer can restart the log. Few pages are left to move then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::database_file::connect;

/// The interval of checkpoints. Under load, the log grows by some MiB within it.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

/// The handle of the thread, which ends when this is dropped.
pub(super) struct WalCheckpointer {
    has_new_pages: Arc<AtomicBool>,
    _end: mpsc::Sender<()>,
}

impl WalCheckpointer {
    pub(super) fn start(path: PathBuf) -> std::io::Result<Self> {
        let has_new_pages = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel::<()>();
        let thread_has_new_pages = Arc::clone(&has_new_pages);
        std::thread::Builder::new().name("store-moves".to_owned()).spawn(move || {
            while ended.recv_timeout(CHECKPOINT_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                if !thread_has_new_pages.swap(false, Relaxed) {
                    continue;
                }
                checkpoint_passive(&path);
            }
        })?;
        Ok(Self { has_new_pages, _end: end })
    }

    /// Records that the log has new pages.
    pub(super) fn mark_written(&self) {
        self.has_new_pages.store(true, Relaxed);
    }
}

/// Moves the pages of the write-ahead log that no reader needs to the file. Blocks the
/// calling thread, but no other connection.
pub(super) fn checkpoint_passive(path: &Path) {
    // Each run opens its own connection, so that no closed or replaced file stays open.
    let result =
        connect(path).and_then(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    if let Err(error) = result {
        // The writer logs persistent errors.
        tracing::debug!(%error, "WAL checkpoint failed");
    }
}

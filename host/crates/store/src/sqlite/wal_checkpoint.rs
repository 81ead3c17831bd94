//! The thread that moves the write-ahead log to the file, now and then, so that
//! whoever writes need not wait for it. (The writer does it as well when the log has
//! grown to [`super::database_file::WAL_AUTOCHECKPOINT_PAGES`] pages: only then it can start anew, which
//! nobody else can bring about while events come. There is little left to move by
//! then.)

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::database_file::connect;

/// How often: a few MiB under load.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

/// The thread; it ends with this.
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

    /// There is something to move.
    pub(super) fn mark_written(&self) {
        self.has_new_pages.store(true, Relaxed);
    }
}

/// Moves what is in the write-ahead log to the file, as far as nobody needs it
/// there. Takes as long as that takes, and holds up nobody else.
pub(super) fn checkpoint_passive(path: &Path) {
    // Opened each time: a file that stands in nobody's way when it is closed, moved
    // or replaced.
    let result =
        connect(path).and_then(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    if let Err(error) = result {
        // The writer will notice, and says so.
        tracing::debug!(%error, "the store's log was not moved");
    }
}

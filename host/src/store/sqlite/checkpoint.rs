//! The thread that moves the write-ahead log to the file, now and then, so that
//! whoever writes need not wait for it. (The writer does it as well when the log has
//! grown to [`super::file::CHECKPOINT`] pages: only then it can start anew, which
//! nobody else can bring about while events come. There is little left to move by
//! then.)

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::file::connect;

/// How often: a few MiB under load.
const PAUSE: Duration = Duration::from_millis(500);

/// The thread; it ends with this.
pub(super) struct Checkpoints {
    written: Arc<AtomicBool>,
    _end: mpsc::Sender<()>,
}

impl Checkpoints {
    pub(super) fn start(path: PathBuf) -> std::io::Result<Self> {
        let written = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel::<()>();
        let there_is_more = Arc::clone(&written);
        std::thread::Builder::new().name("store-moves".to_owned()).spawn(move || {
            while ended.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                if !there_is_more.swap(false, Relaxed) {
                    continue;
                }
                move_log(&path);
            }
        })?;
        Ok(Self { written, _end: end })
    }

    /// There is something to move.
    pub(super) fn written(&self) {
        self.written.store(true, Relaxed);
    }
}

/// Moves what is in the write-ahead log to the file, as far as nobody needs it
/// there. Takes as long as that takes, and holds up nobody else.
pub(super) fn move_log(path: &Path) {
    // Opened each time: a file that stands in nobody's way when it is closed, moved
    // or replaced.
    let moved =
        connect(path).and_then(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    if let Err(error) = moved {
        // The writer will notice, and says so.
        tracing::debug!(%error, "the store's log was not moved");
    }
}

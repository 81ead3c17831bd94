//! The watch on the plugin folder.
//!
//! A notification is only a hint to scan the folder. It may name temporary files and links,
//! network file systems send none, and a watch follows a folder that was moved away. Therefore
//! the watch is armed again when another folder has the path, and the parent folder is watched
//! too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A watch on the plugin folder.
pub(super) struct FolderWatch {
    folder: PathBuf,
    hints: Arc<Notify>,
    /// The watcher; dropping it ends the notifications.
    watcher: Option<RecommendedWatcher>,
    /// The watched folder: device and inode.
    watched_folder: Option<(u64, u64)>,
    failure_logged: bool,
}

impl FolderWatch {
    /// Creates a watch that is not armed yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        let (hints, watcher, armed) = (Arc::new(Notify::new()), None, None);
        Self { folder, hints, watcher, watched_folder: armed, failure_logged: false }
    }

    /// Returns the notification of changes; one is kept while no task waits.
    pub(super) fn hints(&self) -> Arc<Notify> {
        Arc::clone(&self.hints)
    }

    /// Watches the folder that has the path now, if it is not watched yet. Blocks the thread.
    pub(super) fn arm(&mut self) {
        let current = fs::metadata(&self.folder).ok().map(|folder| (folder.dev(), folder.ino()));
        if current == self.watched_folder && self.watcher.is_some() {
            return;
        }
        match new_watcher(&self.folder, Arc::clone(&self.hints)) {
            Ok(watcher) => {
                if self.watcher.is_some() && current.is_some() {
                    tracing::info!(folder = %self.folder.display(), "watching the new folder");
                }
                (self.watcher, self.watched_folder, self.failure_logged) =
                    (Some(watcher), current, false);
            }
            Err(error) => {
                if !self.failure_logged {
                    tracing::warn!(
                        folder = %self.folder.display(),
                        %error,
                        "cannot watch the plugin folder; polling it every reload.poll_interval"
                    );
                }
                (self.watcher, self.watched_folder, self.failure_logged) = (None, None, true);
            }
        }
    }
}

/// Creates a watcher of the folder, and of its name in the parent folder.
fn new_watcher(folder: &Path, hints: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let absolute = std::path::absolute(folder)?;
    let parent_folder = absolute.parent().map(Path::to_path_buf);
    let (name, parent) = (absolute.file_name().map(ToOwned::to_owned), parent_folder.clone());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may stand for notifications that were lost, so it is a hint as well.
        let is_relevant = event.map_or(true, |event| {
            // Access events are ignored, because the reconciler itself reads files.
            let is_access = matches!(event.kind, EventKind::Access(_));
            let is_sibling = |path: &PathBuf| {
                path.parent() == parent.as_deref() && path.file_name() != name.as_deref()
            };
            let is_only_siblings = !event.paths.is_empty() && event.paths.iter().all(is_sibling);
            event.need_rescan() || (!is_access && !is_only_siblings)
        });
        if is_relevant {
            hints.notify_one();
        }
    })?;
    // A replaced or new folder is reported by its parent. If the parent cannot be watched, the
    // poll finds the folder.
    let is_parent_watched = parent_folder.is_some_and(|parent_folder| {
        let result = watcher.watch(&parent_folder, RecursiveMode::NonRecursive);
        result
            .inspect_err(|error| tracing::debug!(%error, "cannot watch the parent folder"))
            .is_ok()
    });
    match watcher.watch(&absolute, RecursiveMode::NonRecursive) {
        Err(_) if is_parent_watched && !absolute.exists() => {}
        result => result?,
    }
    Ok(watcher)
}

//! The database file: opened by one process at a time, readable only for its owner.
//!
//! The lock is held as long as the writer has the file open, because two processes would assign
//! the same sequence numbers.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::file_error::{FileErrorCause, unavailable};
use super::schema;
use crate::StoreError;
use plugboard_config::Durability;

/// The maximum wait for another process that has locked the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// The number of pages in the write-ahead log at which the writer moves them to the
/// file: 16 MiB.
pub(super) const WAL_AUTOCHECKPOINT_PAGES: i64 = 4_096;

/// An open file with its lock.
pub(super) struct OpenDatabase {
    pub(super) db: Connection,
    _lock: File,
}

/// Opens the file, or creates it, and locks it against other processes.
///
/// # Errors
///
/// Fails if another process has locked the file, or if it cannot be opened or migrated.
pub(super) fn open_database(path: &Path, sync: Durability) -> Result<OpenDatabase, StoreError> {
    if let Some(folder) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unavailable(path, FileErrorCause::CreateFolder(error)))?;
    }
    // The file has personal data, so only its owner may read it.
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let lock = options.clone().create(true).truncate(false).open(path.with_extension("lock"));
    let lock = lock.map_err(|error| unavailable(path, FileErrorCause::OpenLock(error)))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| unavailable(path, FileErrorCause::Locked(error.into())))?;
    // This opens a new file only: closing a file that SQLite has open releases its locks.
    match options.create_new(true).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(unavailable(path, FileErrorCause::Open(error))),
    }
    let mut db = connect(path).map_err(|error| unavailable(path, error))?;
    let configured = (|| {
        db.pragma_update(None, "journal_mode", "wal")?;
        let level = match sync {
            Durability::Full => "full",
            Durability::Normal => "normal",
        };
        db.pragma_update(None, "synchronous", level)?;
        // Overwrites removed data in the file, because it is personal data. This writes some
        // more bytes, and takes no measurable time.
        db.pragma_update(None, "secure_delete", true)?;
        db.pragma_update(None, "wal_autocheckpoint", WAL_AUTOCHECKPOINT_PAGES)
    })();
    configured.map_err(|error: rusqlite::Error| unavailable(path, error))?;
    schema::migrate(&mut db).map_err(|error| unavailable(path, error))?;
    Ok(OpenDatabase { db, _lock: lock })
}

/// Opens a connection for the writer or a reader.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Returns the path of the file in a data folder.
pub(super) fn database_path(data: &Path) -> PathBuf {
    data.join("plugboard.db")
}

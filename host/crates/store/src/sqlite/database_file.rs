//! The file: opened by one process alone, readable to nobody else, and how it is to be
//! written.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::schema;
use crate::StoreError;
use plugboard_config::Durability;

/// How long to wait for another process that has the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// Pages of the write-ahead log before they are moved to the file: 16 MiB.
pub(super) const WAL_AUTOCHECKPOINT_PAGES: i64 = 4_096;

/// An open file, ours alone.
pub(super) struct OpenDatabase {
    pub(super) db: Connection,
    _lock: File,
}

/// Opens the file, makes it if it is missing, and sees to it that no other
/// process does.
pub(super) fn open_database(path: &Path, sync: Durability) -> Result<OpenDatabase, StoreError> {
    let to_unavailable = |what: &str, error: &dyn std::fmt::Display| -> StoreError {
        StoreError::Unavailable(format!("{}: {what}: {error}", path.display()).into())
    };
    if let Some(folder) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| to_unavailable("cannot make its folder", &error))?;
    }
    // What is kept concerns callers: nobody else may look.
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let lock = options.clone().create(true).truncate(false).open(path.with_extension("lock"));
    let lock = lock.map_err(|error| to_unavailable("cannot lock", &error))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |error| {
            to_unavailable(
                "another process has it (is Plugboard running twice with this data folder?)",
                &error,
            )
        },
    )?;
    // Only if it is not there: to open and close a file that SQLite has open would
    // end its locks.
    match options.create_new(true).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(to_unavailable("cannot open", &error)),
    }
    let mut db = connect(path).map_err(|error| unavailable(path, &error))?;
    let configured = (|| {
        db.pragma_update(None, "journal_mode", "wal")?;
        let level = match sync {
            Durability::Full => "full",
            Durability::Normal => "normal",
        };
        db.pragma_update(None, "synchronous", level)?;
        // What is removed or replaced is overwritten in the file: what was said in a call
        // is not left lying about. It costs some more bytes to write and no time that
        // could be measured.
        db.pragma_update(None, "secure_delete", true)?;
        db.pragma_update(None, "wal_autocheckpoint", WAL_AUTOCHECKPOINT_PAGES)
    })();
    configured.map_err(|error| unavailable(path, &error))?;
    schema::migrate(&mut db).map_err(|error| to_unavailable("cannot be used", &error))?;
    Ok(OpenDatabase { db, _lock: lock })
}

/// A connection, for the writer or a reader.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// SQLite's error for an operator.
pub(super) fn unavailable(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()).into())
}

/// The file in a data folder.
pub(super) fn database_path(data: &Path) -> PathBuf {
    data.join("plugboard.db")
}

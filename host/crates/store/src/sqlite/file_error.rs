//! Errors of the database file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::schema::SchemaError;
use crate::StoreError;

/// An error of the database file, with its path.
#[derive(Debug, Error)]
#[error("{path}: {cause}", path = .path.display())]
struct FileError {
    path: PathBuf,
    #[source]
    cause: FileErrorCause,
}

/// The reason why the database file cannot be used.
#[derive(Debug, Error)]
pub(super) enum FileErrorCause {
    /// The data folder is missing and cannot be created.
    #[error("cannot create its folder: {0}")]
    CreateFolder(#[source] io::Error),
    /// The lock file cannot be opened.
    #[error("cannot lock: {0}")]
    OpenLock(#[source] io::Error),
    /// Another process holds the lock.
    #[error(
        "another process has locked it (is Plugboard running twice with this data folder?): {0}"
    )]
    Locked(#[source] io::Error),
    /// The file cannot be created.
    #[error("cannot open: {0}")]
    Open(#[source] io::Error),
    /// The tables cannot be brought to this version's schema.
    #[error("cannot be used: {0}")]
    Schema(#[from] SchemaError),
    /// The file was not opened yet, or was closed after an error.
    #[error("the database file is not open")]
    NotOpen,
    /// A reader keeps the write-ahead log from being emptied.
    #[error(
        "its write-ahead log, which may still contain removed data, cannot be emptied while another \
         process reads it (a backup or another tool?)"
    )]
    WalInUse,
    /// An error of SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Returns the error that callers of the store receive.
pub(super) fn unavailable(path: &Path, cause: impl Into<FileErrorCause>) -> StoreError {
    StoreError::Unavailable(Arc::new(FileError { path: path.to_owned(), cause: cause.into() }))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn store_error_keeps_its_cause() {
        let error = unavailable(Path::new("f"), rusqlite::Error::InvalidQuery);
        assert_eq!(error.to_string(), "the store is unavailable: f: Query is not read-only");
        let StoreError::Unavailable(file_error) = error else { panic!("{error}") };
        let causes = std::iter::successors(file_error.source(), |&cause| cause.source());
        assert!(causes.last().is_some_and(|cause| cause.is::<rusqlite::Error>()));
    }
}

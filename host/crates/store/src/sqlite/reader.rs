//! A reader thread with its own connection, so that reads do not wait for the writer's disk.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::database_file::connect;
use super::file_error::unavailable;
use crate::{StoreError, StoreFuture};

type ReadJob = Box<dyn FnOnce(&mut ReaderState) + Send>;

/// The handle of the thread, which ends when all its clones are dropped.
#[derive(Clone)]
pub(super) struct StoreReader(SyncSender<ReadJob>);

/// The maximum number of queued reads.
const MAX_QUEUED_READS: usize = 4_096;

struct ReaderState {
    path: PathBuf,
    db: Option<Connection>,
}

impl StoreReader {
    pub(super) fn start(name: &str, path: PathBuf) -> std::io::Result<Self> {
        let (jobs, receiver) = sync_channel::<ReadJob>(MAX_QUEUED_READS);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut state = ReaderState { path, db: None };
            while let Ok(job) = receiver.recv() {
                job(&mut state);
            }
        })?;
        Ok(Self(jobs))
    }

    /// Queues a read, and returns its result.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |state| {
            // Skips it if the caller has dropped the future.
            if !reply.is_closed() {
                _ = reply.send(state.read(read));
            }
        });
        let sent = self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Disconnected(_) => StoreError::Closed,
        });
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    /// Closes the connection after the queued reads.
    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        let job: ReadJob = Box::new(move |state| {
            state.db = None;
            _ = reply.send(());
        });
        if self.0.try_send(job).is_ok() {
            _ = done.await;
        }
    }
}

impl ReaderState {
    fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => connect(&self.path).map_err(|error| unavailable(&self.path, error))?,
        };
        let result = read(&db);
        match &result {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {}
            _ => self.db = Some(db),
        }
        result.map_err(|error| unavailable(&self.path, error))
    }
}

//! A thread that reads, on a connection of its own, so that nobody who reads
//! waits for the disk as those do who write.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::database_file::{connect, unavailable};
use crate::{StoreError, StoreFuture};

type ReadJob = Box<dyn FnOnce(&mut ReaderState) + Send>;

/// The way to the thread, which ends with it.
#[derive(Clone)]
pub(super) struct StoreReader(SyncSender<ReadJob>);

/// Questions that may wait.
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

    /// Asks for something to be read.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |state| {
            // Not for those who have gone.
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

    /// Lets go of the file.
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
            None => connect(&self.path).map_err(|error| unavailable(&self.path, &error))?,
        };
        let result = read(&db);
        match &result {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {}
            _ => self.db = Some(db),
        }
        result.map_err(|error| unavailable(&self.path, &error))
    }
}

//! A thread that reads, on a connection of its own, so that nobody who reads
//! waits for the disk as those do who write.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::file::{connect, unavailable};
use crate::store::{Pending, StoreError};

type Job = Box<dyn FnOnce(&mut Reading) + Send>;

/// The way to the thread, which ends with it.
#[derive(Clone)]
pub(super) struct Reader(SyncSender<Job>);

/// Questions that may wait.
const MOST_WAITING: usize = 4_096;

struct Reading {
    path: PathBuf,
    db: Option<Connection>,
}

impl Reader {
    pub(super) fn start(name: &str, path: PathBuf) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(MOST_WAITING);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut reading = Reading { path, db: None };
            while let Ok(job) = waiting.recv() {
                job(&mut reading);
            }
        })?;
        Ok(Self(jobs))
    }

    /// Asks for something to be read.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |reading| {
            // Not for those who have gone.
            if !reply.is_closed() {
                _ = reply.send(reading.read(read));
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
        let job: Job = Box::new(move |reading| {
            reading.db = None;
            _ = reply.send(());
        });
        if self.0.try_send(job).is_ok() {
            _ = done.await;
        }
    }
}

impl Reading {
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

//! The embedded store: one SQLite file in the data folder, in write-ahead mode, with
//! one writer thread and two reader threads.
//!
//! `journal.sync = "full"` waits for the disk with every transaction. `"normal"` leaves
//! that to the system: a power failure, but not a crash of the process, can lose the
//! last transactions.
//!
//! Each reader has its own connection. One reads pages of the journal for consumers. The other
//! reads values and call contexts, for which requests wait. The end of the journal is in memory
//! as well (`tail`), so consumers that keep up do not read the file.

mod calls;
mod database_file;
mod erase;
mod file_error;
mod journal;
mod kv;
mod reader;
mod schema;
mod shared;
mod tail;
#[cfg(test)]
mod tests;
mod wal_checkpoint;
mod write_job;
mod writer;
mod writer_state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::erase::Eraser;
use self::journal::AppendJob;
use self::reader::StoreReader;
use self::shared::StoreShared;
use self::tail::JournalTail;
use self::writer::StoreWriter;
use self::writer_state::WriterState;
use super::erase::ErasureResult;
use super::{
    AppendBatch, AppendMode, Checkpoint, Consumers, DeadLetter, DeadLetterFilter, DeadLetters,
    JournalEvent, JournalPage, KvAnswer, KvCommand, KvError, RetentionPolicy, Seq, Store,
    StoreError, StoreFuture, StoreStats, UnixMs, unix_now,
};
use plugboard_config::JournalConfig;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;

/// The embedded store, see the [module](self).
pub struct SqliteStore {
    writer: StoreWriter,
    /// Reads pages for consumers; these reads are large.
    page_reader: StoreReader,
    /// Reads values for guests, and call contexts; these reads are urgent.
    value_reader: StoreReader,
    shared: Arc<StoreShared>,
    /// The tasks that run beside the threads.
    tasks: TaskTracker,
    /// Cancelled when the store closes, to end erasures.
    stop: CancellationToken,
    /// The quota of one plugin's values, in bytes.
    max_kv_bytes: usize,
}

impl SqliteStore {
    /// Starts the threads. Must be called within a Tokio runtime. A file that cannot be opened
    /// is not an error, because every write tries to open it again. `max_kv_bytes` is the quota
    /// of one plugin's values, in bytes.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot start threads.
    pub fn start(data: &Path, config: JournalConfig, max_kv_bytes: usize) -> anyhow::Result<Self> {
        let path = database_file::database_path(data);
        let state = WriterState::new(config.retention);
        let health = ArcSwapOption::empty();
        let shared =
            Arc::new(StoreShared { path: path.clone(), config, tail: JournalTail::new(), health });
        let tasks = TaskTracker::new();
        let start = || {
            let writer = StoreWriter::start(Arc::clone(&shared), state, &tasks)?;
            let page_reader = StoreReader::start("store-pages", path.clone())?;
            Ok::<_, std::io::Error>((
                writer,
                page_reader,
                StoreReader::start("store-values", path)?,
            ))
        };
        let (writer, page_reader, value_reader) =
            start().context("cannot start threads for the store")?;
        let stop = CancellationToken::new();
        Ok(Self { writer, page_reader, value_reader, shared, tasks, stop, max_kv_bytes })
    }

    /// Spawns a task that continues when the future is dropped, and is cancelled when the store
    /// closes.
    fn spawn_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> StoreFuture<T> {
        let task = self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(work));
        Box::pin(async { task.await.ok().flatten().unwrap_or(Err(StoreError::Closed)) })
    }

    /// Returns the handles of the threads that an erasure uses.
    fn eraser(&self) -> Eraser {
        Eraser { writer: self.writer.clone(), reader: self.page_reader.clone() }
    }

    /// Returns the path of the database file in a data folder.
    pub fn database_path(data: &Path) -> PathBuf {
        database_file::database_path(data)
    }
}

impl Store for SqliteStore {
    fn append(&self, batch: AppendBatch, mode: AppendMode) -> StoreFuture<usize> {
        let (reply, answer) = oneshot::channel();
        let append = AppendJob { batch, mode, inserted: Ok(0), reply };
        self.writer.submit_job(Box::new(append), answer)
    }

    fn read(&self, after: Seq, limit: usize) -> StoreFuture<JournalPage> {
        match self.shared.tail.read(after, limit) {
            Some(page) => Box::pin(async { Ok(page) }),
            None => {
                let last = *self.shared.tail.last_seq().borrow();
                self.page_reader.submit(move |db| journal::read_page(db, after, limit, last))
            }
        }
    }

    fn find_events(&self, seqs: Vec<Seq>) -> StoreFuture<Vec<Arc<JournalEvent>>> {
        self.page_reader.submit(move |db| journal::find_events(db, &seqs))
    }

    fn last_seq(&self) -> watch::Receiver<Seq> {
        self.shared.tail.last_seq()
    }

    fn consumers(&self) -> StoreFuture<Consumers> {
        // The writer creates the file if it is missing.
        self.writer.submit(|work| {
            let checkpoints = journal::consumers(work.db)?;
            Ok(Consumers { checkpoints, last_seq_before_start: work.state.last_seq_before_start() })
        })
    }

    fn save_checkpoint(&self, consumer: Arc<str>, checkpoint: Checkpoint) -> StoreFuture<()> {
        self.writer.submit(move |work| journal::save_checkpoint(work.db, &consumer, &checkpoint))
    }

    fn remove_consumer(&self, consumer: String) -> StoreFuture<()> {
        self.writer.submit(move |work| journal::remove_consumer(work.db, &consumer))
    }

    fn add_dead_letter(&self, letter: DeadLetter, event: Arc<JournalEvent>) -> StoreFuture<()> {
        self.writer.submit(move |work| journal::add_dead_letter(work, &letter, &event.event))
    }

    fn dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<DeadLetters> {
        self.page_reader.submit(move |db| journal::dead_letters(db, &filter))
    }

    fn redrive_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64> {
        self.writer.submit(move |work| journal::redrive_dead_letters(work, &filter, unix_now()))
    }

    fn purge_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64> {
        self.writer.submit(move |work| journal::purge_dead_letters(work, &filter))
    }

    fn set_call_expiry(&self, call: CallId, expires_at: UnixMs) -> StoreFuture<()> {
        self.writer.submit(move |work| calls::set_expiry(work.db, &call, expires_at))
    }

    fn load_call(&self, call: CallId) -> StoreFuture<Option<String>> {
        self.value_reader.submit(move |db| calls::load(db, &call, unix_now()))
    }

    fn kv(
        &self,
        namespace: Arc<str>,
        key: String,
        command: KvCommand,
    ) -> StoreFuture<KvAnswer, KvError> {
        if matches!(command, KvCommand::Get) {
            let value =
                self.value_reader.submit(move |db| kv::get(db, &namespace, &key, unix_now()));
            return Box::pin(async { Ok(KvAnswer::Value(value.await?)) });
        }
        let (max_bytes, size) = (self.max_kv_bytes, key.len() + command.size());
        let answer = self.writer.submit_sized(size, move |work| {
            kv::execute(work, &namespace, &key, command, max_bytes, unix_now())
        });
        Box::pin(async { answer.await? })
    }

    fn erase(&self, call: CallSelector) -> StoreFuture<ErasureResult> {
        self.spawn_detached(erase::erase_call(self.eraser(), Arc::clone(&self.shared), call))
    }

    fn erase_values(&self, call: Arc<str>) -> StoreFuture<u64> {
        self.spawn_detached(erase::erase_values(self.eraser(), call))
    }

    fn truncate_wal(&self) -> StoreFuture<()> {
        self.spawn_detached(erase::truncate_wal(self.writer.clone(), self.shared.path.clone()))
    }

    fn enforce_retention(&self, policy: RetentionPolicy) -> StoreFuture<StoreStats> {
        self.writer
            .submit_space_freeing(move |work| journal::enforce_retention(work, &policy, unix_now()))
    }

    fn health(&self) -> Result<(), StoreError> {
        self.shared.health.load().as_deref().cloned().map_or(Ok(()), Err)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.stop.cancel();
            // The readers close before the writer, because the last connection to close empties
            // the log.
            self.page_reader.close().await;
            self.value_reader.close().await;
            self.writer.close().await;
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}

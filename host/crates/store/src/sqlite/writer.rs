//! The writer thread: group commit.
//!
//! The thread drains its queue into one transaction, so that one wait for the disk serves all
//! jobs in it. It completes the jobs when the transaction is durable.
//!
//! If a transaction fails, its jobs fail, and the next transaction retries. It uses a new
//! connection unless the disk was full or the file locked. The store therefore recovers without
//! a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::database_file::{BUSY_TIMEOUT, OpenDatabase, open_database};
use super::file_error::{FileErrorCause, unavailable};
use super::journal::DeferredAppend;
use super::shared::StoreShared;
use super::wal_checkpoint::WalCheckpointer;
use super::write_job::{WriteContext, WriteJob};
use super::writer_state::WriterState;
use crate::{StoreError, StoreFuture};

/// The maximum number of queued jobs, and their memory in bytes. Further jobs are rejected.
const MAX_QUEUED_JOBS: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// The maximum number of deferred appends in one transaction.
const MAX_DEFERRED_PER_TRANSACTION: usize = 256;

/// The maximum number of jobs in one transaction. They should not take longer than a wait for
/// the disk.
const MAX_JOBS_PER_TRANSACTION: usize = 1_024;

/// The maximum wait for readers of the write-ahead log when it is emptied. Writes wait as well.
const TRUNCATE_BUSY_TIMEOUT: Duration = Duration::from_millis(10);

/// The interval of emptying the write-ahead log, which may contain removed data for that time.
const TRUNCATE_INTERVAL: Duration = Duration::from_secs(60);

/// The interval of attempts to write deferred appends when there are no other jobs.
const DEFERRED_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The minimum interval of log messages that the store is not writable.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(30);

struct ClosureJob<F, T> {
    closure: Option<F>,
    result: Option<T>,
    frees_space: bool,
    size: usize,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut WriteContext<'_>) -> rusqlite::Result<T> + Send> WriteJob
    for ClosureJob<F, T>
{
    fn run(&mut self, work: &mut WriteContext<'_>) -> rusqlite::Result<()> {
        if let Some(closure) = self.closure.take() {
            self.result = Some(closure(work)?);
        }
        Ok(())
    }

    fn frees_space(&self) -> bool {
        self.frees_space
    }

    fn size(&self) -> usize {
        self.size
    }

    fn complete(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        let answer = outcome.and_then(|()| result.ok_or(StoreError::Closed));
        // Fails if the caller has dropped the future.
        _ = reply.send(answer);
    }
}

enum WriterMessage {
    Job(Box<dyn WriteJob>),
    /// Empties the write-ahead log after the earlier jobs. The reply states whether the log is
    /// empty.
    TruncateWal(oneshot::Sender<Result<bool, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The handle of the thread.
#[derive(Clone)]
pub(super) struct StoreWriter {
    /// The queue of the thread, bounded by `queue_usage`.
    jobs: Sender<WriterMessage>,
    queue_usage: Arc<QueueUsage>,
}

/// The number and the memory of the jobs that are queued or running.
#[derive(Default)]
struct QueueUsage {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl QueueUsage {
    /// Reserves room for a job. Returns whether there is room.
    fn try_reserve(&self, job: &dyn WriteJob) -> bool {
        // A quarter is reserved for deferred appends.
        let share = if job.is_deferred() { 4 } else { 3 };
        let jobs = self.jobs.fetch_add(1, Relaxed) + 1;
        let bytes = self.bytes.fetch_add(job.size(), Relaxed) + job.size();
        // A job larger than the limit is accepted only when the queue is empty. Otherwise it
        // would never be accepted.
        let is_alone = bytes == job.size();
        let fits = jobs <= MAX_QUEUED_JOBS / 4 * share
            && (is_alone || bytes <= MAX_QUEUED_BYTES / 4 * share);
        if !fits {
            self.release(1, job.size());
        }
        fits
    }

    fn release(&self, jobs: usize, bytes: usize) {
        self.jobs.fetch_sub(jobs, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl StoreWriter {
    /// Starts the thread, and a task in `tasks` that completes jobs.
    pub(super) fn start(
        shared: Arc<StoreShared>,
        state: WriterState,
        tasks: &TaskTracker,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let checkpoints = WalCheckpointer::start(shared.path.clone())?;
        let queue_usage = Arc::new(QueueUsage::default());
        let thread_queue_usage = Arc::clone(&queue_usage);
        let (completed_sender, mut completed) = mpsc::unbounded_channel::<CompletedJobs>();
        // A task sends the replies. On the thread, each reply would wake a worker of the
        // runtime.
        tasks.spawn(async move {
            while let Some((jobs, outcome)) = completed.recv().await {
                for job in jobs {
                    job.complete(outcome.clone());
                }
            }
        });
        let wal_truncated_at = Instant::now();
        let (db, failure_logged_at) = (None, None);
        let thread = WriterThread {
            shared,
            state,
            db,
            failure_logged_at,
            wal_truncated_at,
            checkpoints,
            queue_usage: thread_queue_usage,
            completed: completed_sender,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(&receiver))?;
        Ok(Self { jobs: sender, queue_usage })
    }

    /// Queues a closure for the next transaction.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WriteContext<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        self.submit_closure(0, false, work)
    }

    /// Queues a closure that takes `size` bytes of memory while it is queued.
    pub(super) fn submit_sized<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce(&mut WriteContext<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        self.submit_closure(size, false, work)
    }

    /// Queues a closure that frees space. It runs before other jobs.
    pub(super) fn submit_space_freeing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WriteContext<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        self.submit_closure(0, true, work)
    }

    fn submit_closure<T: Send + 'static>(
        &self,
        size: usize,
        frees_space: bool,
        work: impl FnOnce(&mut WriteContext<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let (reply, answer) = oneshot::channel();
        self.submit_job(
            Box::new(ClosureJob { closure: Some(work), result: None, frees_space, size, reply }),
            answer,
        )
    }

    /// Queues a job, and returns its reply.
    pub(super) fn submit_job<T: Send + 'static>(
        &self,
        job: Box<dyn WriteJob>,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> StoreFuture<T> {
        let rejection = if !self.queue_usage.try_reserve(&*job) {
            Some(StoreError::Overloaded)
        } else {
            // Fails when the thread has ended.
            self.jobs.send(WriterMessage::Job(job)).is_err().then_some(StoreError::Closed)
        };
        Box::pin(async move {
            match rejection {
                Some(error) => Err(error),
                None => answer.await.unwrap_or(Err(StoreError::Closed)),
            }
        })
    }

    /// Empties the write-ahead log. Returns `false` if a reader uses it.
    pub(super) fn truncate_wal(&self) -> StoreFuture<bool> {
        let (reply, answer) = oneshot::channel();
        // When the thread has ended, the reply's sender is dropped.
        _ = self.jobs.send(WriterMessage::TruncateWal(reply));
        Box::pin(async { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    /// Ends the thread after it has processed the queued jobs.
    pub(super) async fn close(&self) {
        let (reply, ended) = oneshot::channel();
        if self.jobs.send(WriterMessage::Close(reply)).is_ok() {
            _ = ended.await;
        }
    }
}

/// The state of the thread.
struct WriterThread {
    shared: Arc<StoreShared>,
    state: WriterState,
    db: Option<OpenDatabase>,
    /// Time of the last log message that the store is not writable.
    failure_logged_at: Option<Instant>,
    /// Time at which the write-ahead log was last emptied by the interval.
    wal_truncated_at: Instant,
    checkpoints: WalCheckpointer,
    queue_usage: Arc<QueueUsage>,
    completed: UnboundedSender<CompletedJobs>,
}

/// Finished jobs with the result of their transaction.
type CompletedJobs = (Vec<Box<dyn WriteJob>>, Result<(), StoreError>);

impl WriterThread {
    fn run(mut self, receiver: &Receiver<WriterMessage>) {
        let mut jobs = Vec::new();
        let (mut close_reply, mut truncate_reply) = (None, None);
        while close_reply.is_none() {
            let first_message = if self.state.has_deferred() {
                receiver.recv_timeout(DEFERRED_RETRY_INTERVAL)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match first_message {
                Ok(WriterMessage::Job(job)) => jobs.push(job),
                Ok(WriterMessage::TruncateWal(reply)) => truncate_reply = Some(reply),
                Ok(WriterMessage::Close(reply)) => close_reply = Some(reply),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Yields, so that the thread that submitted the first job can submit more.
            std::thread::yield_now();
            let has_capacity = |jobs: &Vec<_>| jobs.len() < MAX_JOBS_PER_TRANSACTION;
            while close_reply.is_none() && truncate_reply.is_none() && has_capacity(&jobs) {
                match receiver.try_recv() {
                    Ok(WriterMessage::Job(job)) => jobs.push(job),
                    Ok(WriterMessage::TruncateWal(reply)) => truncate_reply = Some(reply),
                    Ok(WriterMessage::Close(reply)) => close_reply = Some(reply),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !jobs.is_empty() || self.state.has_deferred() {
                let (count, bytes) = (jobs.len(), jobs.iter().map(|job| job.size()).sum());
                self.process_jobs(&mut jobs);
                jobs.clear();
                self.queue_usage.release(count, bytes);
            }
            if let Some(reply) = truncate_reply.take() {
                _ = reply.send(self.truncate_wal());
            } else if self.wal_truncated_at.elapsed() > TRUNCATE_INTERVAL {
                // The next interval retries a failure. Retention wakes the thread.
                self.wal_truncated_at = Instant::now();
                _ = self.truncate_wal();
            }
        }
        if let Some(lost) = self.state.deferred_count() {
            tracing::error!(events = lost, "stopping with events that could not be stored");
        }
        // The last connection to close moves the pages of the log to the file.
        drop(self.db.take());
        if let Some(reply) = close_reply {
            _ = reply.send(());
        }
    }

    /// Runs and completes jobs in up to three transactions: jobs that free space,
    /// deferred appends, and the others. If a deferred append fails, the others fail
    /// too, because later events may belong to the same call.
    fn process_jobs(&mut self, jobs: &mut Vec<Box<dyn WriteJob>>) {
        let mut rest: Vec<_> = jobs.extract_if(.., |job| !job.frees_space()).collect();
        if !jobs.is_empty() {
            _ = self.run_transaction(jobs);
        }
        while self.state.has_deferred() {
            let batches = self.state.deferred_batches(MAX_DEFERRED_PER_TRANSACTION);
            let count = batches.len();
            let mut deferred_jobs: Vec<Box<dyn WriteJob>> =
                batches.into_iter().map(|writes| Box::new(DeferredAppend(writes)) as _).collect();
            match self.run_transaction(&mut deferred_jobs) {
                Ok(()) => self.state.remove_deferred(count),
                Err(error) => return self.reject_jobs(rest, &error),
            }
        }
        if !rest.is_empty() {
            _ = self.run_transaction(&mut rest);
        }
    }

    /// Empties the write-ahead log. Returns `false` if a reader uses it. Runs on the
    /// writer thread, for some milliseconds, because it locks the file against writes.
    fn truncate_wal(&self) -> Result<bool, StoreError> {
        let path = &self.shared.path;
        let Some(OpenDatabase { db, .. }) = &self.db else {
            return Err(unavailable(path, FileErrorCause::NotOpen));
        };
        let is_empty = db.busy_timeout(TRUNCATE_BUSY_TIMEOUT).and_then(|()| {
            let busy = |row: &rusqlite::Row<'_>| row.get(0);
            let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], busy)?;
            Ok(!busy)
        });
        let timeout_restored = db.busy_timeout(BUSY_TIMEOUT);
        is_empty
            .and_then(|empty| timeout_restored.map(|()| empty))
            .map_err(|error| unavailable(path, error))
    }

    /// Completes jobs with an error without running them.
    fn reject_jobs(&mut self, jobs: Vec<Box<dyn WriteJob>>, error: &StoreError) {
        for mut job in jobs {
            job.roll_back(&mut self.state);
            _ = self.completed.send((vec![job], Err(error.clone())));
        }
    }

    /// Runs jobs in one transaction, and completes them.
    fn run_transaction(&mut self, jobs: &mut Vec<Box<dyn WriteJob>>) -> Result<(), StoreError> {
        let outcome = self.try_transaction(jobs);
        match &outcome {
            Ok(()) => {
                self.shared.tail.push(self.state.commit());
                self.checkpoints.mark_written();
                self.record_recovery();
            }
            Err(error) => {
                self.state.roll_back();
                for job in jobs.iter_mut() {
                    job.roll_back(&mut self.state);
                }
                self.record_failure(error);
            }
        }
        _ = self.completed.send((std::mem::take(jobs), outcome.clone()));
        outcome
    }

    fn try_transaction(&mut self, jobs: &mut [Box<dyn WriteJob>]) -> Result<(), StoreError> {
        let (path, sync) = (&self.shared.path, self.shared.config.sync);
        let open = match self.db.take() {
            Some(open) => open,
            None => {
                let open = open_database(path, sync)?;
                let loaded = self.state.load(&open.db);
                loaded.map_err(|error| unavailable(path, error))?;
                self.shared.tail.reset_to(self.state.last_seq());
                open
            }
        };
        let result = execute_in_transaction(&open.db, &mut self.state, jobs);
        match result {
            Ok(()) => self.db = Some(open),
            Err(error) => {
                _ = open.db.execute_batch("ROLLBACK");
                // Any other error may be a fault of the connection, for example because it was
                // opened while the folder was read-only.
                let code = error.sqlite_error_code();
                if matches!(code, Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)) {
                    self.db = Some(open);
                }
                return Err(unavailable(path, error));
            }
        }
        Ok(())
    }

    fn record_failure(&mut self, error: &StoreError) {
        self.shared.set_health(Some(error.clone()));
        if self.failure_logged_at.is_none_or(|since| since.elapsed() > FAILURE_LOG_INTERVAL) {
            self.failure_logged_at = Some(Instant::now());
            tracing::error!(
                "store is not writable; rejecting events with 503, call decisions continue: {error}"
            );
        }
    }

    fn record_recovery(&mut self) {
        if self.failure_logged_at.take().is_some() {
            tracing::info!("store is writable again");
        }
        self.shared.set_health(None);
    }
}

fn execute_in_transaction(
    db: &Connection,
    state: &mut WriterState,
    jobs: &mut [Box<dyn WriteJob>],
) -> rusqlite::Result<()> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut work = WriteContext { db, state };
    for job in jobs {
        job.run(&mut work)?;
    }
    if work.state.bytes_delta != 0 {
        db.prepare_cached("UPDATE sums SET events_and_dead = max(0, events_and_dead + ?)")?
            .execute([work.state.bytes_delta])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

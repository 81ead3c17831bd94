//! The thread that writes. What was asked for while it wrote is done in one
//! transaction, so that a single wait for the disk serves all of it; the answers
//! are given when it is durable.
//!
//! If a transaction fails, all that is in it is refused, and the next one tries
//! again, on a connection of its own if need be: a disk that has room again, a
//! folder that can be written again, a file that is not locked any more is found
//! by the next event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use super::Shared;
use super::checkpoint::Checkpoints;
use super::file::{Open, PATIENCE, open, unavailable};
use super::journal::Debtor;
use super::state::State;
use crate::store::{Pending, StoreError};

/// Jobs that may wait, and the memory of what they write, in bytes; whoever comes
/// then is told to come again.
const MOST_WAITING: usize = 16_384;
const MOST_WAITING_BYTES: usize = 64 << 20;

/// Debts that are paid in one transaction.
const MOST_PAID: usize = 256;

/// Jobs in one transaction: it should not take longer than a wait for the disk.
const MOST_AT_ONCE: usize = 1_024;

/// How long to wait for those who read the write-ahead log, when it is to be
/// emptied: those who want to write wait as well.
const BRIEFLY: Duration = Duration::from_millis(10);

/// How often to empty the write-ahead log: so long, it may still have what was removed
/// or replaced.
const EMPTYING: Duration = Duration::from_secs(60);

/// How often to try writing what is owed, when nothing else is asked for.
const AGAIN: Duration = Duration::from_secs(1);

/// How often to say that it cannot be written.
const REMINDER: Duration = Duration::from_secs(30);

/// Where a job works.
pub(super) struct Work<'a> {
    pub(super) db: &'a Connection,
    pub(super) state: &'a mut State,
}

/// A piece of work, and whoever waits for it.
pub(super) trait Job: Send {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;
    /// The transaction has not happened, whether the job was run in it or not.
    fn undone(&mut self, _: &mut State) {}
    /// Whether it makes room, so that it must not wait for others to find some.
    fn makes_room(&self) -> bool {
        false
    }
    /// Memory in bytes while it waits, if that can be much.
    fn size(&self) -> usize {
        0
    }
    /// Whether nobody asks again: it finds room when others do not any more.
    fn is_owed(&self) -> bool {
        false
    }
    fn done(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Asked<F, T> {
    work: Option<F>,
    made: Option<T>,
    makes_room: bool,
    size: usize,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send> Job for Asked<F, T> {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        if let Some(asked) = self.work.take() {
            self.made = Some(asked(work)?);
        }
        Ok(())
    }

    fn makes_room(&self) -> bool {
        self.makes_room
    }

    fn size(&self) -> usize {
        self.size
    }

    fn done(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { made, reply, .. } = *self;
        let answer = outcome.and_then(|()| made.ok_or(StoreError::Closed));
        // Whoever asked may have gone.
        _ = reply.send(answer);
    }
}

enum Message {
    Job(Box<dyn Job>),
    /// Empty the write-ahead log, after what was asked before. Whether it is empty.
    EmptyLog(oneshot::Sender<Result<bool, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Writer {
    /// Bounded by what is counted in `waiting`.
    jobs: Sender<Message>,
    waiting: Arc<Waiting>,
}

/// How much is waiting or being done.
#[derive(Default)]
struct Waiting {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Takes a job's place, if there is one.
    fn enter(&self, job: &dyn Job) -> bool {
        // A quarter is for what nobody sends again.
        let share = if job.is_owed() { 4 } else { 3 };
        let jobs = self.jobs.fetch_add(1, Relaxed) + 1;
        let bytes = self.bytes.fetch_add(job.size(), Relaxed) + job.size();
        // One that is larger than all may be has to fit when it is alone, or it never
        // would, however often it is sent again.
        let is_alone = bytes == job.size();
        let fits = jobs <= MOST_WAITING / 4 * share
            && (is_alone || bytes <= MOST_WAITING_BYTES / 4 * share);
        if !fits {
            self.leave(1, job.size());
        }
        fits
    }

    fn leave(&self, jobs: usize, bytes: usize) {
        self.jobs.fetch_sub(jobs, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Writer {
    /// Starts the thread. Within a runtime only.
    pub(super) fn start(shared: Arc<Shared>, state: State) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let checkpoints = Checkpoints::start(shared.path.clone())?;
        let waiting_now = Arc::new(Waiting::default());
        let waits = Arc::clone(&waiting_now);
        let (answers, mut answered) = mpsc::unbounded_channel::<Answered>();
        tokio::spawn(async move {
            while let Some((jobs, outcome)) = answered.recv().await {
                for job in jobs {
                    job.done(outcome.clone());
                }
            }
        });
        let emptied = Instant::now();
        let (db, failing) = (None, None);
        let thread = Thread { shared, state, db, failing, emptied, checkpoints, waits, answers };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(&waiting))?;
        Ok(Self { jobs, waiting: waiting_now })
    }

    /// Asks for work in the next transaction.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.asked(0, false, work)
    }

    /// Asks for work that takes so many bytes of memory while it waits.
    pub(super) fn ask_with<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.asked(size, false, work)
    }

    /// Asks for work that makes room, ahead of everything else.
    pub(super) fn ask_for_room<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.asked(0, true, work)
    }

    fn asked<T: Send + 'static>(
        &self,
        size: usize,
        makes_room: bool,
        work: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(Asked { work: Some(work), made: None, makes_room, size, reply }), answer)
    }

    /// Has a job done in the next transaction, and waits for what it replies.
    pub(super) fn send<T: Send + 'static>(
        &self,
        job: Box<dyn Job>,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Pending<T> {
        let refused = if !self.waiting.enter(&*job) {
            Some(StoreError::Overloaded)
        } else {
            // Once the thread has ended, nothing waits any more.
            self.jobs.send(Message::Job(job)).is_err().then_some(StoreError::Closed)
        };
        Box::pin(async move {
            match refused {
                Some(error) => Err(error),
                None => answer.await.unwrap_or(Err(StoreError::Closed)),
            }
        })
    }

    /// Leaves nothing in the write-ahead log of what was written before. Not, if
    /// somebody is reading it.
    pub(super) fn empty_log(&self) -> Pending<bool> {
        let (reply, answer) = oneshot::channel();
        // Once the thread has ended, nobody replies.
        _ = self.jobs.send(Message::EmptyLog(reply));
        Box::pin(async { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    /// Ends the thread, when everything that was asked for is done.
    pub(super) async fn close(&self) {
        let (reply, ended) = oneshot::channel();
        if self.jobs.send(Message::Close(reply)).is_ok() {
            _ = ended.await;
        }
    }
}

/// The thread's own.
struct Thread {
    shared: Arc<Shared>,
    state: State,
    db: Option<Open>,
    /// When it was last said that it cannot be written.
    failing: Option<Instant>,
    /// When the write-ahead log was last emptied now and then.
    emptied: Instant,
    checkpoints: Checkpoints,
    waits: Arc<Waiting>,
    answers: UnboundedSender<Answered>,
}

/// Jobs, and what became of their transaction.
type Answered = (Vec<Box<dyn Job>>, Result<(), StoreError>);

impl Thread {
    fn run(mut self, waiting: &Receiver<Message>) {
        let mut jobs = Vec::new();
        let (mut closing, mut emptying) = (None, None);
        while closing.is_none() {
            let first = if self.state.owes() {
                waiting.recv_timeout(AGAIN)
            } else {
                waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match first {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(Message::EmptyLog(reply)) => emptying = Some(reply),
                Ok(Message::Close(reply)) => closing = Some(reply),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // A moment for others to join: on a busy machine whoever woke us has more.
            std::thread::yield_now();
            let more = |jobs: &Vec<_>| jobs.len() < MOST_AT_ONCE;
            while closing.is_none() && emptying.is_none() && more(&jobs) {
                match waiting.try_recv() {
                    Ok(Message::Job(job)) => jobs.push(job),
                    Ok(Message::EmptyLog(reply)) => emptying = Some(reply),
                    Ok(Message::Close(reply)) => closing = Some(reply),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !jobs.is_empty() || self.state.owes() {
                let (count, bytes) = (jobs.len(), jobs.iter().map(|job| job.size()).sum());
                self.work(&mut jobs);
                jobs.clear();
                self.waits.leave(count, bytes);
            }
            if let Some(reply) = emptying.take() {
                _ = reply.send(self.empty_log());
            } else if self.emptied.elapsed() > EMPTYING {
                // Upkeep wakes us, if nobody else does. Otherwise, the next time.
                self.emptied = Instant::now();
                _ = self.empty_log();
            }
        }
        if let Some(lost) = self.state.owed() {
            tracing::error!(events = lost, "stopping with events that could not be written");
        }
        // The last one to leave moves the log to the file.
        drop(self.db.take());
        if let Some(reply) = closing {
            _ = reply.send(());
        }
    }

    /// Does the jobs and answers them: those that make room, what is owed, and the
    /// rest, each all or none. Nothing is written before what is owed, which it may
    /// belong to.
    fn work(&mut self, jobs: &mut Vec<Box<dyn Job>>) {
        let mut rest: Vec<_> = jobs.extract_if(.., |job| !job.makes_room()).collect();
        if !jobs.is_empty() {
            _ = self.transaction(jobs);
        }
        while self.state.owes() {
            let debts = self.state.debts(MOST_PAID);
            let count = debts.len();
            let mut pay: Vec<Box<dyn Job>> =
                debts.into_iter().map(|writes| Box::new(Debtor(writes)) as _).collect();
            match self.transaction(&mut pay) {
                Ok(()) => self.state.paid(count),
                Err(error) => return self.refuse(rest, &error),
            }
        }
        if !rest.is_empty() {
            _ = self.transaction(&mut rest);
        }
    }

    /// By the thread that writes, for which this takes some milliseconds, as whoever
    /// else did it would have the file locked for it. Whether the log is empty.
    fn empty_log(&self) -> Result<bool, StoreError> {
        let path = &self.shared.path;
        let Some(Open { db, .. }) = &self.db else {
            return Err(StoreError::Unavailable(
                format!("{}: it is not open", path.display()).into(),
            ));
        };
        let empty = db.busy_timeout(BRIEFLY).and_then(|()| {
            let busy = |row: &rusqlite::Row<'_>| row.get(0);
            let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], busy)?;
            Ok(!busy)
        });
        let patient = db.busy_timeout(PATIENCE);
        empty.and_then(|empty| patient.map(|()| empty)).map_err(|error| unavailable(path, &error))
    }

    /// Answers jobs that are not even tried.
    fn refuse(&mut self, jobs: Vec<Box<dyn Job>>, error: &StoreError) {
        for mut job in jobs {
            job.undone(&mut self.state);
            _ = self.answers.send((vec![job], Err(error.clone())));
        }
    }

    /// Does jobs, all or none, and answers them.
    fn transaction(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), StoreError> {
        let outcome = self.attempt(jobs);
        match &outcome {
            Ok(()) => {
                self.shared.tail.push(self.state.committed());
                self.checkpoints.written();
                self.recovered();
            }
            Err(error) => {
                self.state.rolled_back();
                for job in jobs.iter_mut() {
                    job.undone(&mut self.state);
                }
                self.failed(error);
            }
        }
        // Not from here, where each answer would wake a thread of the runtime for
        // itself.
        _ = self.answers.send((std::mem::take(jobs), outcome.clone()));
        outcome
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let (path, sync) = (&self.shared.path, self.shared.config.sync);
        let open = match self.db.take() {
            Some(open) => open,
            None => {
                let open = open(path, sync)?;
                let loaded = self.state.load(&open.db);
                loaded.map_err(|error| unavailable(path, &error))?;
                self.shared.tail.starts_at(self.state.last());
                open
            }
        };
        let result = within_transaction(&open.db, &mut self.state, jobs);
        match result {
            Ok(()) => self.db = Some(open),
            Err(error) => {
                _ = open.db.execute_batch("ROLLBACK");
                // After anything but these, the connection itself may be at fault: it
                // may have been opened when the folder could only be read.
                let code = error.sqlite_error_code();
                if matches!(code, Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)) {
                    self.db = Some(open);
                }
                return Err(unavailable(path, &error));
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &StoreError) {
        self.shared.set_trouble(Some(error.clone()));
        if self.failing.is_none_or(|since| since.elapsed() > REMINDER) {
            self.failing = Some(Instant::now());
            tracing::error!(
                "{error}; events are refused (503) until that is mended, calls are decided"
            );
        }
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("the store can be written again");
        }
        self.shared.set_trouble(None);
    }
}

fn within_transaction(
    db: &Connection,
    state: &mut State,
    jobs: &mut [Box<dyn Job>],
) -> rusqlite::Result<()> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut work = Work { db, state };
    for job in jobs {
        job.run(&mut work)?;
    }
    if work.state.change != 0 {
        db.prepare_cached("UPDATE sums SET events_and_dead = max(0, events_and_dead + ?)")?
            .execute([work.state.change])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

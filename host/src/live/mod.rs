//! What happened lately and what is in progress, for operators who look: in memory,
//! bounded, and gone with the process.
//!
//! Whoever answers a call leaves a [`Note`] in a bounded channel and goes on: no lock,
//! no text made, usually nothing allocated. A task of its own has everything else. It
//! takes what came and then rests for a moment, so that notes wake nobody, and a burst is
//! one piece of work. What finds the channel full is counted and not told.
//!
//! At the most there are, in memory: 4,096 notes on their way with 4 KiB of call each;
//! `past` and `calls` with some MiB of texts that are cut; and a queue for each of 16
//! readers, whose messages are shared.

mod calls;
mod message;
mod note;
mod past;
mod readers;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::calls::CallsNow;
pub use self::message::{Message, Numbers};
pub use self::note::{Decision, Happening, Note, REPEATED, UNKNOWN, Use, What};
pub use self::readers::Reader;
use self::task::{Request, Task};
use crate::event::{Call, Event};
use crate::reload::{Change, Report};
use crate::store::erase::CallName;

/// Notes on their way: a rest of the task's, at two hundred thousand a second.
const NOTES: usize = 4_096;

/// Events of one delivery that are told: a transcript comes at once, and may be long.
const DELIVERY: usize = 256;

/// Who may read at the same time.
const READERS: usize = 16;

/// Changes of one reload that are told.
const CHANGES: usize = 100;

/// Of an error of a plugin that was not loaded, what is told, in bytes.
const ERROR: usize = 512;

/// The way in, and the way to ask. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    notes: mpsc::Sender<Note>,
    /// As many as there are requests of operators.
    requests: mpsc::UnboundedSender<Request>,
    dropped: Arc<AtomicU64>,
    places: Arc<Semaphore>,
}

/// What changed in the plugin folder.
#[derive(Debug, serde::Serialize)]
pub struct Reload {
    /// When.
    pub at: Timestamp,
    /// The generation that serves since.
    pub generation: u64,
    /// What became of which plugin.
    pub changes: Vec<Change>,
    /// How many more changes there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There are as many readers as there may be.
    TooMany,
    /// The service is stopping.
    Stopping,
}

/// Notes of one delivery. They are told when this is dropped, also where its sender hung
/// up: what it sent is taken all the same.
pub struct Notes<'a> {
    live: &'a Live,
    notes: Vec<Note>,
}

impl Notes<'_> {
    /// What they tell of was not taken.
    pub fn withdraw(&mut self) {
        self.notes.clear();
    }
}

impl Drop for Notes<'_> {
    fn drop(&mut self) {
        for note in self.notes.drain(..) {
            if self.live.notes.try_send(note).is_err() {
                self.live.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Live {
    /// Starts the task. What is known of calls is known for so long at the most. Within a
    /// runtime only.
    pub fn start(max_age: Duration) -> Self {
        let (notes, of_notes) = mpsc::channel(NOTES);
        let (requests, of_requests) = mpsc::unbounded_channel();
        let dropped = Arc::<AtomicU64>::default();
        let task = Task::new(of_notes, of_requests, max_age, Arc::clone(&dropped));
        tokio::spawn(async move {
            if tokio::spawn(task.run()).await.is_err_and(|error| error.is_panic()) {
                // Calls are answered all the same.
                tracing::error!(
                    "operators are not shown any more what happens; please report it, and restart"
                );
            }
        });
        Self { notes, requests, dropped, places: Arc::new(Semaphore::new(READERS)) }
    }

    /// Something happened in a call, just now.
    pub fn tell(&self, call: &Arc<Call>, what: What) {
        match self.notes.try_reserve() {
            Ok(place) => place.send(Note::new(call, what)),
            Err(_) => _ = self.dropped.fetch_add(1, Relaxed),
        }
    }

    /// The last of these events as notes, to be told when they are taken.
    pub fn notes(&self, events: &[Event]) -> Notes<'_> {
        let skipped = events.len().saturating_sub(DELIVERY);
        if skipped > 0 {
            self.dropped.fetch_add(skipped as u64, Relaxed);
        }
        let events = events.iter().skip(skipped);
        let notes =
            events.map(|event| Note::new(&event.call, Happening::of(event).into())).collect();
        Notes { live: self, notes }
    }

    /// The plugin folder was looked at.
    pub fn reloaded(&self, report: &Report) {
        if report.changes.is_empty() {
            return;
        }
        let changes: Vec<_> =
            report.changes.iter().take(CHANGES).map(|change| change.cut(ERROR)).collect();
        let reload = Reload {
            at: Timestamp::now(),
            generation: report.generation,
            left_out: report.changes.len() - changes.len(),
            changes,
        };
        // Gone only with the process.
        _ = self.requests.send(Request::Reloaded(Arc::new(reload)));
    }

    /// Erases a call, also what is on its way, and has those who read told.
    pub async fn erase(&self, call: &CallName) {
        self.ask(|done| Request::Erase(call.clone(), done)).await;
    }

    /// What happened lately, then what happens.
    ///
    /// # Errors
    ///
    /// When there are too many readers, or the service is stopping.
    pub async fn read(&self) -> Result<Reader, Unreadable> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Unreadable::TooMany)?;
        let queue = self.ask(Request::Read).await.flatten().ok_or(Unreadable::Stopping)?;
        Ok(Reader::new(queue, place))
    }

    /// The calls in progress, and those that ended just now.
    pub async fn calls(&self) -> CallsNow {
        self.ask(Request::Calls).await.unwrap_or_default()
    }

    /// What was reloaded lately, newest first.
    pub async fn reloads(&self) -> Vec<Arc<Reload>> {
        self.ask(Request::Reloads).await.unwrap_or_default()
    }

    /// Ends what is read, and lets nobody read any more.
    pub fn close(&self) {
        // Without the task nothing is read.
        _ = self.requests.send(Request::Close);
    }

    /// None: the task is gone.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).ok()?;
        answered.await.ok()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;

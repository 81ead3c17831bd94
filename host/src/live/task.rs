//! The task that owns what is known, and does everything that is not to be done where
//! calls are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::calls::{Calls, CallsNow};
use super::message::{Erased, Item};
use super::note::Note;
use super::past::Past;
use super::readers::{Queue, Readers};
use super::{NOTES, Reload};
use crate::store::erase::CallName;

/// How long notes are gathered: not seen by people, and long enough that notes wake this
/// task but seldom.
const REST: Duration = Duration::from_millis(20);

/// What operators ask, and what must not be lost.
pub(super) enum Request {
    /// Another reader. None: nobody may read any more.
    Read(oneshot::Sender<Option<Arc<Queue>>>),
    Calls(oneshot::Sender<CallsNow>),
    Reloads(oneshot::Sender<Vec<Arc<Reload>>>),
    Reloaded(Arc<Reload>),
    Erase(CallName, oneshot::Sender<()>),
    Close,
}

pub(super) struct Task {
    notes: mpsc::Receiver<Note>,
    requests: mpsc::UnboundedReceiver<Request>,
    dropped: Arc<AtomicU64>,
    past: Past,
    calls: Calls,
    readers: Readers,
}

impl Task {
    pub(super) fn new(
        notes: mpsc::Receiver<Note>,
        requests: mpsc::UnboundedReceiver<Request>,
        max_age: Duration,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let (past, calls) = (Past::new(max_age), Calls::new(max_age));
        Self { notes, requests, dropped, past, calls, readers: Readers::default() }
    }

    /// Until nobody tells or asks any more.
    pub(super) async fn run(mut self) {
        // While it rests, it does not wait for notes.
        let mut rests_until = None;
        loop {
            let resting = rests_until.is_some();
            let next_end = self.past.next_end().into_iter().chain(self.calls.next_end()).min();
            let now = Instant::now();
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => {
                        // What was told before is known to the answer, or erased by it.
                        self.gather();
                        self.answer(request);
                    }
                    None => return,
                },
                note = self.notes.recv(), if !resting => {
                    let Some(note) = note else { return };
                    self.take(note);
                    self.gather();
                    rests_until = Some(Instant::now() + REST);
                }
                () = sleep_until(rests_until.unwrap_or(now)), if resting => rests_until = None,
                () = sleep_until(next_end.unwrap_or(now)), if next_end.is_some() => {}
            }
            let now = Instant::now();
            self.past.forget(now);
            self.calls.forget(now);
        }
    }

    /// Takes what is on its way.
    fn gather(&mut self) {
        for _ in 0..NOTES {
            let Ok(note) = self.notes.try_recv() else { return };
            self.take(note);
        }
    }

    fn take(&mut self, note: Note) {
        let now = Instant::now();
        let note = self.calls.note(note, now);
        self.past.note(Arc::clone(&note), now);
        self.readers.tell(&Item::Note(note));
    }

    fn answer(&mut self, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Read(answer) => _ = answer.send(self.readers.add(self.past.all())),
            Request::Calls(answer) => {
                _ = answer.send(self.calls.now(self.dropped.load(Relaxed)));
            }
            Request::Reloads(answer) => _ = answer.send(self.past.reloads()),
            Request::Reloaded(reload) => {
                self.past.reload(Arc::clone(&reload), Instant::now());
                self.readers.tell(&Item::Reload(reload));
            }
            Request::Erase(call, done) => {
                let erased = Arc::new(Erased::new(&call));
                self.past.erase(&call, Arc::clone(&erased), Instant::now());
                self.calls.erase(&call);
                self.readers.erase(&call);
                self.readers.tell(&Item::Erased(erased));
                _ = done.send(());
            }
            Request::Close => self.readers.close(),
        }
    }
}

//! Those who read what happens. Each has a queue, and what does not fit into it is
//! missed by that reader and nobody else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::message::Item;
use crate::store::erase::CallName;

/// Messages that wait for one reader, beside what was before it came.
const WAITING: usize = 1_024;

/// What waits for a reader.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

struct Waiting {
    items: VecDeque<Item>,
    most: usize,
    /// Lost since the last one that is in the queue.
    missed: u64,
    closed: bool,
}

impl Queue {
    fn new(past: VecDeque<Item>) -> Self {
        let most = past.len() + WAITING;
        let waiting = Waiting { items: past, most, missed: 0, closed: false };
        Self { waiting: Mutex::new(waiting), more: Notify::new() }
    }

    fn push(&self, item: Item) {
        let mut waiting = self.waiting();
        // What comes after something that is lost is lost as well, until the reader has
        // caught up: it is told of one gap, where it is. But that a call was erased, every
        // reader has to know, and an operator does that one call at a time.
        let is_full = waiting.missed > 0 || waiting.items.len() >= waiting.most;
        if is_full && !matches!(item, Item::Erased(_)) {
            waiting.missed += 1;
            return;
        }
        waiting.items.push_back(item);
        drop(waiting);
        self.more.notify_one();
    }

    fn erase(&self, call: &CallName) {
        self.waiting().items.retain(|item| match item {
            Item::Note(note) => !call.means(&note.call),
            _ => true,
        });
    }

    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.items.clear();
        drop(waiting);
        self.more.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who reads. Gone, it holds nothing.
pub struct Reader {
    queue: Arc<Queue>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) fn new(queue: Arc<Queue>, place: OwnedSemaphorePermit) -> Self {
        Self { queue, _place: place }
    }

    /// What is told next. None: there will be nothing more.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            {
                let mut waiting = self.queue.waiting();
                if waiting.closed {
                    return None;
                }
                if let Some(item) = waiting.items.pop_front() {
                    return Some(item);
                }
                // The past is not kept for those who have read it.
                waiting.most = WAITING;
                let missed = std::mem::take(&mut waiting.missed);
                if missed > 0 {
                    return Some(Item::Missed(missed));
                }
            }
            self.queue.more.notified().await;
        }
    }
}

/// All who read.
#[derive(Default)]
pub(super) struct Readers {
    queues: Vec<Weak<Queue>>,
    closed: bool,
}

impl Readers {
    /// One more, who is told first what was before. None: nobody may read any more.
    pub(super) fn add(&mut self, mut past: VecDeque<Item>) -> Option<Arc<Queue>> {
        if self.closed {
            return None;
        }
        past.push_back(Item::CaughtUp);
        let queue = Arc::new(Queue::new(past));
        self.queues.retain(|queue| queue.strong_count() > 0);
        self.queues.push(Arc::downgrade(&queue));
        Some(queue)
    }

    /// Tells everybody.
    pub(super) fn tell(&mut self, item: &Item) {
        self.each(|queue| queue.push(item.clone()));
    }

    /// Takes back what waits of a call.
    pub(super) fn erase(&mut self, call: &CallName) {
        self.each(|queue| queue.erase(call));
    }

    /// Ends what is read.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.each(Queue::close);
    }

    fn each(&mut self, mut tell: impl FnMut(&Queue)) {
        self.queues.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                tell(&queue);
                true
            }
            None => false,
        });
    }
}

//! Those who read what happens. Each has a queue, and what does not fit into it is
//! missed by that reader and nobody else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::message::FeedItem;
use plugboard_core::call_selector::CallSelector;

/// Messages that wait for one reader, beside what was before it came.
const QUEUE_CAPACITY: usize = 1_024;

/// What waits for a reader.
pub(super) struct SubscriberQueue {
    state: Mutex<SubscriberQueueState>,
    notify: Notify,
}

struct SubscriberQueueState {
    items: VecDeque<FeedItem>,
    capacity: usize,
    /// Lost since the last one that is in the queue.
    missed: u64,
    closed: bool,
}

impl SubscriberQueue {
    fn new(history: VecDeque<FeedItem>) -> Self {
        let capacity = history.len() + QUEUE_CAPACITY;
        let state = SubscriberQueueState { items: history, capacity, missed: 0, closed: false };
        Self { state: Mutex::new(state), notify: Notify::new() }
    }

    fn push(&self, item: FeedItem) {
        let mut state = self.lock_state();
        // What comes after something that is lost is lost as well, until the reader has
        // caught up: it is told of one gap, where it is. But that a call was erased, every
        // reader has to know, and an operator does that one call at a time.
        let is_full = state.missed > 0 || state.items.len() >= state.capacity;
        if is_full && !matches!(item, FeedItem::Erased(_)) {
            state.missed += 1;
            return;
        }
        state.items.push_back(item);
        drop(state);
        self.notify.notify_one();
    }

    fn erase(&self, call: &CallSelector) {
        self.lock_state().items.retain(|item| match item {
            FeedItem::Activity(note) => !call.matches(&note.call),
            _ => true,
        });
    }

    fn close(&self) {
        let mut state = self.lock_state();
        state.closed = true;
        state.items.clear();
        drop(state);
        self.notify.notify_one();
    }

    fn lock_state(&self) -> MutexGuard<'_, SubscriberQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who reads. Gone, it holds nothing.
pub struct LiveSubscriber {
    queue: Arc<SubscriberQueue>,
    _slot: OwnedSemaphorePermit,
}

impl LiveSubscriber {
    pub(super) fn new(queue: Arc<SubscriberQueue>, slot: OwnedSemaphorePermit) -> Self {
        Self { queue, _slot: slot }
    }

    /// What is told next. None: there will be nothing more.
    pub async fn next(&mut self) -> Option<FeedItem> {
        loop {
            {
                let mut state = self.queue.lock_state();
                if state.closed {
                    return None;
                }
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
                // The past is not kept for those who have read it.
                state.capacity = QUEUE_CAPACITY;
                let missed = std::mem::take(&mut state.missed);
                if missed > 0 {
                    return Some(FeedItem::Missed(missed));
                }
            }
            self.queue.notify.notified().await;
        }
    }
}

/// All who read.
#[derive(Default)]
pub(super) struct LiveSubscribers {
    queues: Vec<Weak<SubscriberQueue>>,
}

impl LiveSubscribers {
    /// Adds a subscriber, which receives `history` first.
    pub(super) fn add(&mut self, mut history: VecDeque<FeedItem>) -> Arc<SubscriberQueue> {
        history.push_back(FeedItem::CaughtUp);
        let queue = Arc::new(SubscriberQueue::new(history));
        self.queues.retain(|queue| queue.strong_count() > 0);
        self.queues.push(Arc::downgrade(&queue));
        queue
    }

    /// Tells everybody.
    pub(super) fn publish(&mut self, item: &FeedItem) {
        self.for_each_queue(|queue| queue.push(item.clone()));
    }

    /// Takes back what waits of a call.
    pub(super) fn erase(&mut self, call: &CallSelector) {
        self.for_each_queue(|queue| queue.erase(call));
    }

    /// Ends what is read.
    pub(super) fn close(&mut self) {
        self.for_each_queue(SubscriberQueue::close);
    }

    fn for_each_queue(&mut self, mut action: impl FnMut(&SubscriberQueue)) {
        self.queues.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                action(&queue);
                true
            }
            None => false,
        });
    }
}

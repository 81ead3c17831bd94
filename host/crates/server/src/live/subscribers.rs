//! The feed's channel and its subscribers.
//!
//! A message is sent once, to all subscribers. A subscriber that falls more than
//! [`FEED_CAPACITY`] messages behind loses the oldest ones, and receives their number
//! instead. Erasures are not lost in such a gap: the subscriber fetches them from the
//! history.
//!
//! An erased call must leave memory at once, but a channel cannot take messages back.
//! Activities are therefore shared as [`SharedActivity`]: erasing empties it wherever it
//! is queued, and subscribers skip empty ones.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Live;
use super::activity::Activity;
use super::message::FeedItem;
use plugboard_core::call_selector::CallSelector;

/// Messages that the channel holds for subscribers, beside the history that each of them
/// receives first.
const FEED_CAPACITY: usize = 1_024;

/// An activity until it is erased.
pub(super) struct SharedActivity(Mutex<Option<Arc<Activity>>>);

impl SharedActivity {
    /// The activity. `None`: it is erased.
    fn get(&self) -> Option<Arc<Activity>> {
        self.0.lock().clone()
    }

    /// Whether the activity is erased.
    pub(super) fn is_erased(&self) -> bool {
        self.0.lock().is_none()
    }

    fn erase(&self, call: &CallSelector) {
        self.0.lock().take_if(|activity| call.matches(&activity.call));
    }
}

/// A queued message.
#[derive(Clone)]
pub(super) enum FeedEntry {
    /// An activity, which may be erased while it is queued.
    Activity(Arc<SharedActivity>),
    /// Any other message.
    Other(FeedItem),
}

impl FeedEntry {
    /// The message. `None`: it is erased.
    fn into_item(self) -> Option<FeedItem> {
        match self {
            Self::Activity(activity) => activity.get().map(FeedItem::Activity),
            Self::Other(item) => Some(item),
        }
    }
}

/// The sending side.
pub(super) struct Feed {
    channel: broadcast::Sender<FeedEntry>,
    /// The activities that the history, the channel or a subscriber still holds, and
    /// as many at most that none holds any more.
    activities: Vec<Weak<SharedActivity>>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { channel: broadcast::Sender::new(FEED_CAPACITY), activities: Vec::new() }
    }

    /// Prepares an activity for the history and the channel, so that it can be erased.
    pub(super) fn share(&mut self, activity: Arc<Activity>) -> Arc<SharedActivity> {
        if self.activities.len() == self.activities.capacity() {
            self.activities.retain(|activity| activity.strong_count() > 0);
            // As much room as is in use: the cost per activity stays constant.
            self.activities.reserve(self.activities.len());
        }
        let shared = Arc::new(SharedActivity(Mutex::new(Some(activity))));
        self.activities.push(Arc::downgrade(&shared));
        shared
    }

    /// Sends a message to all subscribers.
    pub(super) fn publish(&self, entry: FeedEntry) {
        // Fails when there is no subscriber.
        _ = self.channel.send(entry);
    }

    /// Erases the activities of a call, also where they are queued.
    pub(super) fn erase(&self, call: &CallSelector) {
        self.activities.iter().filter_map(Weak::upgrade).for_each(|activity| activity.erase(call));
    }

    /// Begins a subscription after message `last_seq`, with the messages before it.
    pub(super) fn subscribe(
        &self,
        mut history: VecDeque<FeedEntry>,
        last_seq: u64,
    ) -> Subscription {
        history.push_back(FeedEntry::Other(FeedItem::CaughtUp));
        Subscription { backlog: history, channel: self.channel.subscribe(), last_seq }
    }
}

/// A subscriber's place in the feed.
pub(super) struct Subscription {
    /// Received before the messages of the channel.
    backlog: VecDeque<FeedEntry>,
    channel: broadcast::Receiver<FeedEntry>,
    /// Sequence number of the last message that was taken from the channel or missed.
    last_seq: u64,
}

/// A subscriber to the feed.
pub struct LiveSubscriber {
    subscription: Subscription,
    live: Live,
    _slot: OwnedSemaphorePermit,
}

impl LiveSubscriber {
    pub(super) fn new(subscription: Subscription, live: Live, slot: OwnedSemaphorePermit) -> Self {
        Self { subscription, live, _slot: slot }
    }

    /// Waits for the next message. `None`: the feed has stopped.
    pub async fn next(&mut self) -> Option<FeedItem> {
        let Subscription { backlog, channel, last_seq } = &mut self.subscription;
        loop {
            // A stopped feed does not deliver the messages that are left.
            if channel.is_closed() {
                return None;
            }
            let entry = match backlog.pop_front() {
                Some(entry) => entry,
                None => match channel.recv().await {
                    Ok(entry) => {
                        *last_seq += 1;
                        entry
                    }
                    Err(RecvError::Lagged(missed)) => {
                        let gap = *last_seq + 1..=*last_seq + missed;
                        *last_seq += missed;
                        backlog.push_back(FeedEntry::Other(FeedItem::Missed(missed)));
                        let erased = self.live.erased_calls(gap).await;
                        let erased = erased.into_iter().map(FeedItem::Erased);
                        backlog.extend(erased.map(FeedEntry::Other));
                        continue;
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            if let Some(item) = entry.into_item() {
                return Some(item);
            }
        }
    }
}

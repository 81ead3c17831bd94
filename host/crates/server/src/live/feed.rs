//! The feed's channel.
//!
//! A message is sent once, to all subscribers. The channel holds the latest
//! [`FEED_CAPACITY`] messages; a subscriber that falls further behind loses the oldest
//! ones.
//!
//! An erased call must leave memory at once, but a channel cannot withdraw messages. Activities
//! are therefore shared as [`SharedActivity`]: erasing empties it in every queue, and
//! subscribers skip empty ones.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::activity::Activity;
use super::message::FeedItem;
use plugboard_core::call_selector::CallSelector;

/// Maximum number of messages in the channel, beside the history that each subscriber receives
/// first.
const FEED_CAPACITY: usize = 1_024;

/// An activity that is shared until it is erased.
pub(super) struct SharedActivity(Mutex<Option<Arc<Activity>>>);

impl SharedActivity {
    /// Returns the activity, or `None` if it is erased.
    fn get(&self) -> Option<Arc<Activity>> {
        self.0.lock().clone()
    }

    /// Returns whether the activity is erased.
    pub(super) fn is_erased(&self) -> bool {
        self.0.lock().is_none()
    }

    fn erase(&self, call: &CallSelector) {
        self.0.lock().take_if(|activity| call.matches(&activity.call));
    }
}

/// A message in the queue of a subscriber.
#[derive(Clone)]
pub(super) enum FeedEntry {
    /// An activity, which may be erased while it is queued.
    Activity(Arc<SharedActivity>),
    /// A message that is never erased.
    Other(FeedItem),
}

impl FeedEntry {
    /// Returns the message, or `None` if it is erased.
    pub(super) fn into_item(self) -> Option<FeedItem> {
        match self {
            Self::Activity(activity) => activity.get().map(FeedItem::Activity),
            Self::Other(item) => Some(item),
        }
    }
}

/// The sending side of the channel.
pub(super) struct Feed {
    channel: broadcast::Sender<FeedEntry>,
    /// The activities that the history, the channel or a subscriber still holds, and at most as
    /// many that were dropped.
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
            // The capacity doubles, so that the cost per activity stays constant.
            self.activities.reserve(self.activities.len());
        }
        let shared = Arc::new(SharedActivity(Mutex::new(Some(activity))));
        self.activities.push(Arc::downgrade(&shared));
        shared
    }

    /// Sends a message to all subscribers.
    pub(super) fn publish(&self, entry: FeedEntry) {
        // This fails if there is no subscriber.
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
    /// Messages that the subscriber receives before those of the channel.
    pub(super) backlog: VecDeque<FeedEntry>,
    pub(super) channel: broadcast::Receiver<FeedEntry>,
    /// Sequence number of the last message that was received from the channel or missed.
    pub(super) last_seq: u64,
}

//! Subscribers to the feed.
//!
//! A subscriber that falls further behind than the capacity of the channel loses the
//! oldest messages, and receives their number instead. Erasures are not lost in such a
//! gap: the subscriber fetches them from the history.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;

use super::Live;
use super::feed::{FeedEntry, Subscription};
use super::message::{ErasedCall, FeedItem};
use super::task::LiveRequest;

/// The reason why a subscription is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The limit of concurrent subscribers is reached.
    TooMany,
    /// The server is stopping.
    Stopping,
}

impl Live {
    /// Subscribes to the feed. The subscriber receives the history first.
    ///
    /// # Errors
    ///
    /// Fails if the limit of subscribers is reached, or the server is stopping.
    pub async fn subscribe(&self) -> Result<LiveSubscriber, SubscribeError> {
        let slot = Arc::clone(&self.subscriber_slots).try_acquire_owned();
        let slot = slot.map_err(|_| SubscribeError::TooMany)?;
        let subscription = self.send_request(LiveRequest::Subscribe).await;
        let subscription = subscription.ok_or(SubscribeError::Stopping)?;
        Ok(LiveSubscriber { subscription, live: self.clone(), _slot: slot })
    }

    /// Returns the calls that the messages with these sequence numbers erased, oldest
    /// first.
    async fn erased_calls(&self, seqs: RangeInclusive<u64>) -> Vec<Arc<ErasedCall>> {
        self.send_request(|reply| LiveRequest::ErasedCalls(seqs, reply)).await.unwrap_or_default()
    }
}

/// A subscriber to the feed.
pub struct LiveSubscriber {
    subscription: Subscription,
    live: Live,
    _slot: OwnedSemaphorePermit,
}

impl LiveSubscriber {
    /// Waits for the next message. `None`: the feed has stopped.
    pub async fn next(&mut self) -> Option<FeedItem> {
        let Subscription { backlog, channel, last_seq } = &mut self.subscription;
        loop {
            // A stopped feed does not deliver the remaining messages.
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

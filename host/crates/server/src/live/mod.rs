//! The live feed: recent activities and calls in progress, for operators. It is in memory,
//! bounded, and lost at a restart.
//!
//! A request handler sends an [`Activity`] to a bounded channel: it takes no lock, formats no
//! text, and usually allocates nothing. [`LiveTask`] owns all other state. It drains the
//! channel, then sleeps for a moment, so that activities rarely wake it and a burst costs one
//! pass. Activities that find the channel full are dropped and counted.
//!
//! Bounds of memory: 4,096 queued activities, each with at most 4 KiB of call data; a few
//! MiB for the history and the calls, whose texts are truncated; and one channel of 1,024
//! messages, which up to 16 subscribers share.

mod activity;
mod calls;
mod feed;
mod history;
mod message;
mod reload_summary;
mod subscribers;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::activity::{
    Activity, ActivityKind, DecisionSummary, EventSummary, MidCallRequest, REPLAYED, UNKNOWN_TOOL,
};
pub use self::calls::LiveCallsSnapshot;
pub use self::message::{LiveMessage, Masking};
pub use self::reload_summary::ReloadSummary;
pub use self::subscribers::{LiveSubscriber, SubscribeError};
pub use self::task::LiveTask;
use self::task::{ACTIVITY_QUEUE_CAPACITY, LiveRequest};
use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::Event;
use plugboard_registry::reload::ReloadReport;

/// Maximum number of recorded events of one delivery. A transcript arrives at once, and may be
/// long.
const MAX_EVENTS_PER_DELIVERY: usize = 256;

/// Maximum number of concurrent subscribers.
const MAX_SUBSCRIBERS: usize = 16;

/// Maximum number of reported changes of one reload.
const MAX_RELOAD_CHANGES: usize = 100;

/// Maximum length of a plugin's reported load error, in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// The handle of the live feed. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    activities: mpsc::Sender<Activity>,
    /// The requests of operators. The channel is unbounded, because operators send few.
    requests: mpsc::UnboundedSender<LiveRequest>,
    dropped: Arc<AtomicU64>,
    subscriber_slots: Arc<Semaphore>,
}

/// The activities of one delivery. They are recorded when this is dropped, also if the sender
/// hangs up, because its events are accepted nevertheless.
pub struct PendingActivities<'a> {
    live: &'a Live,
    activities: Vec<Activity>,
}

impl PendingActivities<'_> {
    /// Discards the activities, because the events were not accepted.
    pub fn discard(&mut self) {
        self.activities.clear();
    }
}

impl Drop for PendingActivities<'_> {
    fn drop(&mut self) {
        for activity in self.activities.drain(..) {
            if self.live.activities.try_send(activity).is_err() {
                self.live.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Live {
    /// Creates the feed and the task that owns its state. Activities of calls are kept for
    /// `max_age` at most.
    pub fn new(max_age: Duration) -> (Self, LiveTask) {
        let (activities, activity_receiver) = mpsc::channel(ACTIVITY_QUEUE_CAPACITY);
        let (requests, request_receiver) = mpsc::unbounded_channel();
        let dropped = Arc::<AtomicU64>::default();
        let task =
            LiveTask::new(activity_receiver, request_receiver, max_age, Arc::clone(&dropped));
        let subscriber_slots = Arc::new(Semaphore::new(MAX_SUBSCRIBERS));
        (Self { activities, requests, dropped, subscriber_slots }, task)
    }

    /// Records an activity of a call, with the current time.
    pub fn record(&self, call: &Arc<Call>, kind: ActivityKind) {
        match self.activities.try_reserve() {
            Ok(slot) => slot.send(Activity::new(call, kind)),
            Err(_) => _ = self.dropped.fetch_add(1, Relaxed),
        }
    }

    /// Prepares activities of the last events, to be recorded when the events are accepted.
    pub fn pending_activities(&self, events: &[Event]) -> PendingActivities<'_> {
        let skipped = events.len().saturating_sub(MAX_EVENTS_PER_DELIVERY);
        if skipped > 0 {
            self.dropped.fetch_add(skipped as u64, Relaxed);
        }
        let events = events.iter().skip(skipped);
        let activities = events
            .map(|event| Activity::new(&event.call, EventSummary::new(event).into()))
            .collect();
        PendingActivities { live: self, activities }
    }

    /// Records the changes of a reload, if there are any.
    pub fn record_reload(&self, report: &ReloadReport) {
        if report.changes.is_empty() {
            return;
        }
        let changes: Vec<_> = report
            .changes
            .iter()
            .take(MAX_RELOAD_CHANGES)
            .map(|change| change.truncated(MAX_ERROR_BYTES))
            .collect();
        let reload = ReloadSummary {
            at: Timestamp::now(),
            generation: report.generation,
            left_out: report.changes.len() - changes.len(),
            changes,
        };
        // This fails only while the process stops.
        _ = self.requests.send(LiveRequest::RecordReload(Arc::new(reload)));
    }

    /// Erases a call, including its queued activities, and notifies the subscribers.
    pub async fn erase(&self, call: &CallSelector) {
        self.send_request(|done| LiveRequest::Erase(call.clone(), done)).await;
    }

    /// Returns the calls in progress and those that ended recently.
    pub async fn calls(&self) -> LiveCallsSnapshot {
        self.send_request(LiveRequest::Calls).await.unwrap_or_default()
    }

    /// Returns the recent reloads, newest first.
    pub async fn reloads(&self) -> Vec<Arc<ReloadSummary>> {
        self.send_request(LiveRequest::Reloads).await.unwrap_or_default()
    }

    /// Sends a request to the task, and returns the answer. `None`: the task has stopped.
    async fn send_request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> LiveRequest,
    ) -> Option<T> {
        let (reply_sender, reply_receiver) = oneshot::channel();
        self.requests.send(request(reply_sender)).ok()?;
        reply_receiver.await.ok()
    }
}

#[cfg(test)]
mod tests;

//! What happened lately and what is in progress, for operators who look: in memory,
//! bounded, and gone with the process.
//!
//! Whoever answers a call leaves a [`Activity`] in a bounded channel and goes on: no lock,
//! no text made, usually nothing allocated. A task of its own has everything else. It
//! takes what came and then rests for a moment, so that notes wake nobody, and a burst is
//! one piece of work. What finds the channel full is counted and not told.
//!
//! At the most there are, in memory: 4,096 notes on their way with 4 KiB of call each;
//! `past` and `calls` with some MiB of texts that are cut; and a queue for each of 16
//! readers, whose messages are shared.

mod activity;
mod calls;
mod history;
mod message;
mod subscribers;
mod task;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::activity::{
    Activity, ActivityKind, DecisionSummary, EventSummary, MidCallRequest, REPLAYED, UNKNOWN_TOOL,
};
pub use self::calls::LiveCallsSnapshot;
use self::message::ErasedCall;
pub use self::message::{LiveMessage, Masking};
pub use self::subscribers::LiveSubscriber;
use self::task::LiveRequest;
pub use self::task::LiveTask;
use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::Event;
use plugboard_registry::reload::{PluginChange, ReloadReport};

/// Notes on their way: a rest of the task's, at two hundred thousand a second.
const ACTIVITY_QUEUE_CAPACITY: usize = 4_096;

/// Events of one delivery that are told: a transcript comes at once, and may be long.
const MAX_EVENTS_PER_DELIVERY: usize = 256;

/// Who may read at the same time.
const MAX_SUBSCRIBERS: usize = 16;

/// Changes of one reload that are told.
const MAX_RELOAD_CHANGES: usize = 100;

/// Of an error of a plugin that was not loaded, what is told, in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// The way in, and the way to ask. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    activities: mpsc::Sender<Activity>,
    /// As many as there are requests of operators.
    requests: mpsc::UnboundedSender<LiveRequest>,
    dropped: Arc<AtomicU64>,
    subscriber_slots: Arc<Semaphore>,
}

/// What changed in the plugin folder.
#[derive(Debug, serde::Serialize)]
pub struct ReloadSummary {
    /// When.
    pub at: Timestamp,
    /// The generation that serves since.
    pub generation: u64,
    /// What became of which plugin.
    pub changes: Vec<PluginChange>,
    /// How many more changes there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// There are as many readers as there may be.
    TooMany,
    /// The service is stopping.
    Stopping,
}

/// Notes of one delivery. They are told when this is dropped, also where its sender hung
/// up: what it sent is taken all the same.
pub struct PendingActivities<'a> {
    live: &'a Live,
    activities: Vec<Activity>,
}

impl PendingActivities<'_> {
    /// What they tell of was not taken.
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

    /// Something happened in a call, just now.
    pub fn record(&self, call: &Arc<Call>, kind: ActivityKind) {
        match self.activities.try_reserve() {
            Ok(slot) => slot.send(Activity::new(call, kind)),
            Err(_) => _ = self.dropped.fetch_add(1, Relaxed),
        }
    }

    /// The last of these events as notes, to be told when they are taken.
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

    /// The plugin folder was looked at.
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
        // Gone only with the process.
        _ = self.requests.send(LiveRequest::RecordReload(Arc::new(reload)));
    }

    /// Erases a call, also what is on its way, and has those who read told.
    pub async fn erase(&self, call: &CallSelector) {
        self.send_request(|done| LiveRequest::Erase(call.clone(), done)).await;
    }

    /// What happened lately, then what happens.
    ///
    /// # Errors
    ///
    /// When there are too many readers, or the service is stopping.
    pub async fn subscribe(&self) -> Result<LiveSubscriber, SubscribeError> {
        let slot = Arc::clone(&self.subscriber_slots).try_acquire_owned();
        let slot = slot.map_err(|_| SubscribeError::TooMany)?;
        let subscription = self.send_request(LiveRequest::Subscribe).await;
        let subscription = subscription.ok_or(SubscribeError::Stopping)?;
        Ok(LiveSubscriber::new(subscription, self.clone(), slot))
    }

    /// The calls in progress, and those that ended just now.
    pub async fn calls(&self) -> LiveCallsSnapshot {
        self.send_request(LiveRequest::Calls).await.unwrap_or_default()
    }

    /// What was reloaded lately, newest first.
    pub async fn reloads(&self) -> Vec<Arc<ReloadSummary>> {
        self.send_request(LiveRequest::Reloads).await.unwrap_or_default()
    }

    /// The calls that the messages with these sequence numbers erased, oldest first.
    async fn erased_calls(&self, seqs: RangeInclusive<u64>) -> Vec<Arc<ErasedCall>> {
        self.send_request(|reply| LiveRequest::ErasedCalls(seqs, reply)).await.unwrap_or_default()
    }

    /// None: the task is gone.
    async fn send_request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> LiveRequest,
    ) -> Option<T> {
        let (reply_sender, reply_receiver) = oneshot::channel();
        self.requests.send(request(reply_sender)).ok()?;
        reply_receiver.await.ok()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;

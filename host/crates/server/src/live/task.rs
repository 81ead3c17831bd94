//! The task that owns the state of the live feed.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::calls::{LiveCalls, LiveCallsSnapshot};
use super::feed::{Feed, FeedEntry, Subscription};
use super::history::History;
use super::message::{ErasedCall, FeedItem};
use super::reload_summary::ReloadSummary;
use plugboard_core::call_selector::CallSelector;

/// Maximum number of queued activities: those of one [`GATHER_INTERVAL`] at 200,000 a second.
pub(super) const ACTIVITY_QUEUE_CAPACITY: usize = 4_096;

/// Time for which the task gathers activities before it handles them. It is too short for
/// people to notice, and long enough that activities seldom wake the task.
const GATHER_INTERVAL: Duration = Duration::from_millis(20);

/// Requests of operators, and messages that must not be dropped.
pub(super) enum LiveRequest {
    Subscribe(oneshot::Sender<Subscription>),
    /// The calls that the messages with these sequence numbers erased.
    ErasedCalls(RangeInclusive<u64>, oneshot::Sender<Vec<Arc<ErasedCall>>>),
    Calls(oneshot::Sender<LiveCallsSnapshot>),
    Reloads(oneshot::Sender<Vec<Arc<ReloadSummary>>>),
    RecordReload(Arc<ReloadSummary>),
    Erase(CallSelector, oneshot::Sender<()>),
}

/// Owns the history, the calls and the subscribers of the live feed.
pub struct LiveTask {
    activities: mpsc::Receiver<Activity>,
    requests: mpsc::UnboundedReceiver<LiveRequest>,
    dropped: Arc<AtomicU64>,
    history: History,
    calls: LiveCalls,
    feed: Feed,
}

impl LiveTask {
    pub(super) fn new(
        activities: mpsc::Receiver<Activity>,
        requests: mpsc::UnboundedReceiver<LiveRequest>,
        max_age: Duration,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let (history, calls) = (History::new(max_age), LiveCalls::new(max_age));
        Self { activities, requests, dropped, history, calls, feed: Feed::new() }
    }

    /// Serves the feed until `stop` is cancelled. Subscriptions end then.
    pub async fn run(mut self, stop: CancellationToken) {
        // Until this time, the task does not wait for activities.
        let mut resume_at = None;
        loop {
            let is_resting = resume_at.is_some();
            let next_expiry =
                self.history.next_expiry().into_iter().chain(self.calls.next_expiry()).min();
            let now = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                request = self.requests.recv() => match request {
                    Some(request) => {
                        // The request comes after all earlier activities.
                        self.drain_queue();
                        self.handle_request(request);
                    }
                    None => break,
                },
                activity = self.activities.recv(), if !is_resting => {
                    let Some(activity) = activity else { break };
                    self.record(activity);
                    self.drain_queue();
                    resume_at = Some(Instant::now() + GATHER_INTERVAL);
                }
                () = sleep_until(resume_at.unwrap_or(now)), if is_resting => resume_at = None,
                () = sleep_until(next_expiry.unwrap_or(now)), if next_expiry.is_some() => {}
            }
            let now = Instant::now();
            self.history.remove_expired(now);
            self.calls.remove_expired(now);
        }
    }

    /// Handles the queued activities.
    fn drain_queue(&mut self) {
        for _ in 0..ACTIVITY_QUEUE_CAPACITY {
            let Ok(activity) = self.activities.try_recv() else { return };
            self.record(activity);
        }
    }

    fn record(&mut self, activity: Activity) {
        let now = Instant::now();
        let activity = self.calls.record(activity, now);
        let shared = self.feed.share(Arc::clone(&activity));
        self.history.record(&activity.kind, Arc::clone(&shared), now);
        self.feed.publish(FeedEntry::Activity(shared));
    }

    fn handle_request(&mut self, request: LiveRequest) {
        // The replies fail if the requester has gone.
        match request {
            LiveRequest::Subscribe(reply) => {
                let (history, last_seq) = (self.history.all(), self.history.last_seq());
                _ = reply.send(self.feed.subscribe(history, last_seq));
            }
            LiveRequest::ErasedCalls(seqs, reply) => {
                _ = reply.send(self.history.erased_calls(&seqs));
            }
            LiveRequest::Calls(reply) => {
                _ = reply.send(self.calls.snapshot(self.dropped.load(Relaxed)));
            }
            LiveRequest::Reloads(reply) => _ = reply.send(self.history.reloads()),
            LiveRequest::RecordReload(reload) => {
                self.history.record_reload(Arc::clone(&reload), Instant::now());
                self.feed.publish(FeedEntry::Other(FeedItem::Reload(reload)));
            }
            LiveRequest::Erase(call, done) => {
                let erased = Arc::new(ErasedCall::new(&call));
                self.feed.erase(&call);
                self.history.remove_erased(Arc::clone(&erased), Instant::now());
                self.calls.erase(&call);
                self.feed.publish(FeedEntry::Other(FeedItem::Erased(erased)));
                _ = done.send(());
            }
        }
    }
}

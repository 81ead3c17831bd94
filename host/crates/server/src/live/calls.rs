//! Calls in progress and recently ended calls, each with its activities.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::activity::{Activity, ActivityKind};
use super::message::{ActivityFields, Masking, mask_parties};
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;

/// Maximum number of calls in the table.
const MAX_CALLS: usize = 200;

/// Maximum number of activities of one call: the first one and the latest ones.
const MAX_ACTIVITIES_PER_CALL: usize = 64;

/// Time for which an ended call stays in the table.
const ENDED_CALL_TTL: Duration = Duration::from_secs(5 * 60);

/// A call with its activities.
#[derive(Clone)]
struct LiveCall {
    call: Arc<Call>,
    /// The position in the order of arrival.
    seq: u64,
    first_activity_at: Timestamp,
    last_activity_at: Timestamp,
    /// Arrival time of the last activity.
    last_activity: Instant,
    ended: Option<(Timestamp, Instant)>,
    /// True if the voice agent got a prompt. `None`: the decision was not seen.
    prompt: Option<bool>,
    activities: VecDeque<Arc<Activity>>,
    /// Number of activities that were removed to keep the limit.
    left_out: u64,
}

/// The table of calls.
pub(super) struct LiveCalls {
    max_age: Duration,
    next_seq: u64,
    calls: HashMap<CallId, LiveCall>,
}

/// A snapshot of the table: first the calls in progress, newest first, then the ended calls,
/// latest first.
#[derive(Default)]
pub struct LiveCallsSnapshot {
    calls: Vec<LiveCall>,
    /// Number of activities that were dropped since the start of the server.
    dropped: u64,
}

impl LiveCalls {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, next_seq: 0, calls: HashMap::new() }
    }

    /// Adds an activity, and returns it with the shared data of its call.
    pub(super) fn record(&mut self, mut activity: Activity, now: Instant) -> Arc<Activity> {
        let key = activity.call.call_id();
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.calls.len() == MAX_CALLS && !self.calls.contains_key(&key) {
            self.evict_one();
        }
        let live_call = self.calls.entry(key).or_insert_with(|| LiveCall::new(&activity, seq, now));
        if live_call.ended.is_some()
            && matches!(&activity.kind, ActivityKind::Decision(decision) if !decision.is_replayed())
        {
            // The id is reused for another call.
            *live_call = LiveCall::new(&activity, seq, now);
        }
        if live_call.call.has_no_details() && !activity.call.has_no_details() {
            live_call.call = Arc::clone(&activity.call);
        } else {
            // All activities share one copy of the call.
            activity.call = Arc::clone(&live_call.call);
        }
        let activity = Arc::new(activity);
        live_call.record(Arc::clone(&activity), now);
        activity
    }

    /// Evicts the call that ended first, or else the call that has been silent for the longest
    /// time.
    fn evict_one(&mut self) {
        let evicted = self.calls.iter().min_by_key(|(_, held)| match held.ended {
            Some((_, at)) => (false, at),
            None => (true, held.last_activity),
        });
        if let Some(id) = evicted.map(|(id, _)| id.clone()) {
            self.calls.remove(&id);
        }
    }

    pub(super) fn snapshot(&self, dropped: u64) -> LiveCallsSnapshot {
        let mut calls: Vec<LiveCall> = self.calls.values().cloned().collect();
        calls.sort_unstable_by_key(|held| match held.ended {
            None => (true, None, held.seq),
            Some((_, at)) => (false, Some(at), held.seq),
        });
        calls.reverse();
        LiveCallsSnapshot { calls, dropped }
    }

    pub(super) fn erase(&mut self, call: &CallSelector) {
        self.calls.retain(|id, _| !call.matches_id(id));
    }

    /// Removes calls that ended [`ENDED_CALL_TTL`] ago or are older than the limit.
    pub(super) fn remove_expired(&mut self, now: Instant) {
        let max_age = self.max_age;
        self.calls.retain(|_, held| now < held.expires_at(max_age));
    }

    /// Returns the time of the next expiry.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.calls.values().map(|held| held.expires_at(self.max_age)).min()
    }
}

impl LiveCall {
    fn new(activity: &Activity, seq: u64, now: Instant) -> Self {
        Self {
            call: Arc::clone(&activity.call),
            seq,
            first_activity_at: activity.at,
            last_activity_at: activity.at,
            last_activity: now,
            ended: None,
            prompt: None,
            activities: VecDeque::new(),
            left_out: 0,
        }
    }

    fn record(&mut self, activity: Arc<Activity>, now: Instant) {
        (self.last_activity_at, self.last_activity) = (activity.at, now);
        if let ActivityKind::Decision(decision) = &activity.kind {
            self.prompt = Some(decision.has_prompt);
        }
        if activity.kind.ends_call() && self.ended.is_none() {
            self.ended = Some((activity.at, now));
        }
        if self.activities.len() == MAX_ACTIVITIES_PER_CALL {
            // Index 0, the decision, is kept.
            self.activities.remove(1);
            self.left_out += 1;
        }
        self.activities.push_back(activity);
    }

    /// Returns the time at which the call expires.
    fn expires_at(&self, max_age: Duration) -> Instant {
        self.ended.map_or(self.last_activity + max_age, |(_, at)| at + ENDED_CALL_TTL)
    }
}

impl LiveCallsSnapshot {
    /// Renders the response of `GET /calls`.
    pub fn document(&self, masking: Masking) -> impl Serialize {
        #[derive(Serialize)]
        struct Document<'a> {
            calls: Vec<LiveCallDocument<'a>>,
            dropped: u64,
        }
        let calls = self.calls.iter().map(|held| LiveCallDocument::new(held, masking)).collect();
        Document { calls, dropped: self.dropped }
    }
}

#[derive(Serialize)]
struct LiveCallDocument<'a> {
    call: &'a str,
    platform: &'static str,
    agent: Option<&'a str>,
    from: Option<Cow<'a, str>>,
    to: Option<Cow<'a, str>>,
    since: Timestamp,
    last: Timestamp,
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<bool>,
    timeline: Timeline<'a>,
    left_out: u64,
}

impl<'a> LiveCallDocument<'a> {
    fn new(live_call: &'a LiveCall, masking: Masking) -> Self {
        let LiveCall {
            call,
            first_activity_at: since,
            last_activity_at: last,
            ended,
            prompt,
            activities: notes,
            left_out,
            ..
        } = live_call;
        let [from, to] = mask_parties(call, masking);
        Self {
            call: &call.id,
            platform: call.platform.name,
            agent: call.agent.as_deref(),
            from,
            to,
            since: *since,
            last: *last,
            ended: ended.map(|(at, _)| at),
            prompt: *prompt,
            timeline: Timeline { activities: notes, masking },
            left_out: *left_out,
        }
    }
}

/// The activities of a call, oldest first.
struct Timeline<'a> {
    activities: &'a VecDeque<Arc<Activity>>,
    masking: Masking,
}

impl Serialize for Timeline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct TimelineEntry<'a> {
            r#type: &'static str,
            at: Timestamp,
            #[serde(flatten)]
            activity: ActivityFields<'a>,
        }
        serializer.collect_seq(self.activities.iter().map(|activity| TimelineEntry {
            r#type: activity.kind.message_type(),
            at: activity.at,
            activity: activity.kind.fields(&activity.call, self.masking),
        }))
    }
}

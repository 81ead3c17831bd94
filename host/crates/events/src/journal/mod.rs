//! The journal: accepts events, completes them with the context of their call, and
//! acknowledges them when they are durable.
//!
//! An event that no observer subscribes to is not stored. It needs no write, and leaves no
//! personal data.

mod append_barrier;
mod call_context;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use self::call_context::{CallContext, CallContexts, ContextSnapshot};
use plugboard_config::CallsConfig;
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::decision::Verdict;
use plugboard_core::event::{Event, EventBody, EventKind, EventKinds, Routing};
use plugboard_core::event_id::EventId;
use plugboard_core::outcome::{Answer, RoutingOutcome};
use plugboard_core::span::{in_span, record_error};
use plugboard_store::erase::ErasureResult;
use plugboard_store::{
    AppendBatch, AppendMode, NewEvent, Store, StoreError, StoreFuture, unix_now,
};

/// The maximum wait of an acknowledgement for the store. AVR gives up after 3 s.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum wait of a decision until its events are durable, because the caller waits too.
/// After that, the events are written in the background.
const DECISION_WRITE_TIMEOUT: Duration = Duration::from_millis(200);

/// The subscriptions of the plugins of the current generation.
#[derive(Debug, Default)]
pub struct Subscriptions {
    kinds: AtomicU32,
    call_context: AtomicBool,
}

impl Subscriptions {
    /// Replaces the kinds of events, and whether mid-call hooks need call contexts.
    pub fn set(&self, kinds: EventKinds, call_context: bool) {
        self.kinds.store(kinds.bits(), Relaxed);
        self.call_context.store(call_context, Relaxed);
    }

    /// Returns the kinds of events.
    pub fn kinds(&self) -> EventKinds {
        EventKinds::from_bits(self.kinds.load(Relaxed))
    }

    /// Returns whether the context of a new call must be stored.
    fn requires_context(&self, call: &Call) -> bool {
        !self.kinds().is_empty()
            || (call.platform.supports_mid_call && self.call_context.load(Relaxed))
    }
}

/// Counts of events, by result.
#[derive(Debug, Default)]
pub struct EventCounters {
    /// Events that became durable. The events of a decision count as one.
    pub accepted: AtomicU64,
    /// Events that were not stored, because no observer subscribes to their kind.
    pub unsubscribed: AtomicU64,
    /// Events that were delivered again after they had been stored.
    pub duplicate: AtomicU64,
    /// Events that did not become durable in time.
    pub rejected: AtomicU64,
    /// Decisions that did not wait until their events were durable. The events are written as
    /// soon as the store is writable.
    pub deferred: AtomicU64,
    /// Decisions whose events could neither be written nor be held in memory.
    pub dropped: AtomicU64,
}

/// The journal of events, see the [module](self).
pub struct Journal {
    store: Arc<dyn Store>,
    contexts: CallContexts,
    subscriptions: Arc<Subscriptions>,
    /// Counts of events, by result.
    pub counters: EventCounters,
}

/// A decision in progress. If it is dropped unfinished, because the caller hung up, it still
/// records the start of the call.
pub struct DecisionGuard<'a> {
    journal: &'a Journal,
    event: &'a Event,
    deadline: Instant,
    is_decided: bool,
}

impl Journal {
    /// Creates a journal in front of a store.
    pub fn new(
        store: Arc<dyn Store>,
        subscriptions: Arc<Subscriptions>,
        calls: CallsConfig,
    ) -> Self {
        let contexts = CallContexts::new(Arc::clone(&store), calls);
        Self { store, contexts, subscriptions, counters: EventCounters::default() }
    }

    /// Stores the events of one request, all of the same call. When it returns, the events with
    /// a subscription are durable, all or none.
    ///
    /// # Errors
    ///
    /// Fails if the events cannot be stored within 2 s: the platform should deliver them again.
    pub async fn accept(self: &Arc<Self>, mut events: Vec<Event>) -> Result<(), StoreError> {
        let kinds = self.subscriptions.kinds();
        let ends_call = events.iter().any(|event| matches!(event.body, EventBody::Ended(_)));
        let Some(call) = events.first().map(|event| Arc::clone(&event.call)) else {
            return Ok(());
        };
        let total = events.len();
        events.retain(|event| kinds.contains(event.body.kind()));
        self.counters.unsubscribed.fetch_add((total - events.len()) as u64, Relaxed);
        if events.is_empty() && !ends_call {
            return Ok(());
        }
        // An append continues if the sender hangs up: it is sent to the store before the first
        // await, or runs in its own task. The end of a call needs a task, because the call's
        // expiry is set after it.
        let snapshot = self.contexts.cached(&call);
        let span = spans::append_span();
        if snapshot.is_some() && !ends_call {
            let task = self.append_and_count(&call, events, snapshot, ends_call);
            return in_span(span, StoreError::label, task).await;
        }
        let journal = Arc::clone(self);
        let task =
            async move { journal.append_and_count(&call, events, snapshot, ends_call).await };
        let task = tokio::spawn(in_span(span, StoreError::label, task));
        task.await.unwrap_or_else(|_| {
            tracing::error!("Plugboard panicked while it stored an event; please report it");
            Err(StoreError::Closed)
        })
    }

    /// Stores events with a subscription, and sets the expiry of the call's context if an event
    /// ends the call.
    async fn append_and_count(
        &self,
        call: &Arc<Call>,
        events: Vec<Event>,
        snapshot: Option<ContextSnapshot>,
        ends_call: bool,
    ) -> Result<(), StoreError> {
        let (total, has_snapshot) = (events.len(), snapshot.is_some());
        let result = match total {
            0 => Ok(0),
            _ => timeout(ACCEPT_TIMEOUT, self.append_acknowledged(call, events, snapshot))
                .await
                .unwrap_or(Err(StoreError::Overloaded)),
        };
        // The expiry is not set if the end is not durable, because the end may be delivered
        // again.
        if ends_call && result.is_ok() {
            // If this fails, the context expires later.
            _ = timeout(ACCEPT_TIMEOUT, self.contexts.expire_after_end(call, has_snapshot)).await;
        }
        let (counters, total) = (&self.counters, total as u64);
        match &result {
            Ok(new_count) => {
                counters.accepted.fetch_add(*new_count as u64, Relaxed);
                counters.duplicate.fetch_add(total - *new_count as u64, Relaxed);
            }
            Err(_) => {
                counters.rejected.fetch_add(total, Relaxed);
            }
        }
        result.map(drop)
    }

    async fn append_acknowledged(
        &self,
        event_call: &Arc<Call>,
        events: Vec<Event>,
        snapshot: Option<ContextSnapshot>,
    ) -> Result<usize, StoreError> {
        self.append_with_context(event_call, events, snapshot, AppendMode::Acknowledged)
            .await?
            .await
    }

    /// Sends events to the store, with the context of their call.
    async fn append_with_context(
        &self,
        event_call: &Arc<Call>,
        events: Vec<Event>,
        mut snapshot: Option<ContextSnapshot>,
        mode: AppendMode,
    ) -> Result<StoreFuture<usize>, StoreError> {
        loop {
            let ContextSnapshot { context, epoch } = match snapshot.take() {
                Some(known) => known,
                None => self.contexts.load(event_call).await?,
            };
            // If an erasure has begun since, the context is read again.
            let Some(_append_guard) = self.contexts.append_barrier.guard_append_at(epoch) else {
                continue;
            };
            return Ok(self.store.append(append_batch(event_call, &context, events), mode));
        }
    }

    /// Returns a call with the details of its context, or the call unchanged if the store does
    /// not answer within 200 ms.
    pub async fn complete_call(&self, event_call: &Arc<Call>) -> Arc<Call> {
        let snapshot = match self.contexts.cached(event_call) {
            Some(snapshot) => Ok(Ok(snapshot)),
            None => timeout(DECISION_WRITE_TIMEOUT, self.contexts.load(event_call)).await,
        };
        match snapshot {
            Ok(Ok(snapshot)) => snapshot.context.complete(event_call),
            _ => Arc::clone(event_call),
        }
    }

    /// Stores an event that this program created, if it has a subscription. No platform
    /// redelivers it, so it is written even if this returns early. It waits at most 200 ms, and
    /// not after `deadline_limit`.
    pub async fn record_internal_event(&self, event: Event, deadline_limit: Instant) {
        if !self.subscriptions.kinds().contains(event.body.kind()) {
            self.counters.unsubscribed.fetch_add(1, Relaxed);
            return;
        }
        let event_call = Arc::clone(&event.call);
        let deadline = deadline_limit.min(Instant::now() + DECISION_WRITE_TIMEOUT);
        let snapshot = match self.contexts.cached(&event_call) {
            Some(snapshot) => snapshot,
            None => match timeout_at(deadline, self.contexts.load(&event_call)).await {
                Ok(Ok(snapshot)) => snapshot,
                _ => self.contexts.uncached(&event_call),
            },
        };
        match self
            .append_with_context(&event_call, vec![event], Some(snapshot), AppendMode::Deferred)
            .await
        {
            Ok(pending_write) => {
                self.wait_for_deferred_append(&event_call, pending_write, deadline).await
            }
            // An erasure began meanwhile, and the store failed to answer the second read.
            Err(error) => {
                let call = &*event_call.id;
                tracing::error!(
                    call,
                    %error,
                    "cannot store the event of an answer; observers do not receive it"
                );
                self.counters.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    /// Waits for a deferred append, until the deadline at most.
    async fn wait_for_deferred_append(
        &self,
        call: &Call,
        pending_write: StoreFuture<usize>,
        deadline: Instant,
    ) {
        // A failing store would not finish in time, so there is no wait.
        let deadline = if self.store.health().is_ok() { deadline } else { Instant::now() };
        let counters = &self.counters;
        let span = spans::append_span();
        let write_result = timeout_at(deadline, pending_write).instrument(span.clone()).await;
        match &write_result {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => record_error(&span, error.label()),
            // The append continues in the background.
            Err(_) => record_error(&span, "timeout"),
        }
        let counter = match write_result {
            // The event was a duplicate, or a context was written without events.
            Ok(Ok(0)) => return,
            Ok(Ok(_)) => &counters.accepted,
            Ok(Err(StoreError::Overloaded | StoreError::Closed)) => {
                tracing::error!(
                    call = &*call.id,
                    "cannot store the event of an answer; observers do not receive it: the write \
                     queue is full"
                );
                &counters.dropped
            }
            Ok(Err(_)) | Err(_) => &counters.deferred,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Erases everything that was stored about the selected calls by earlier requests, except
    /// plugins' values. The future must be awaited to its end.
    pub fn erase(&self, call: &CallSelector) -> StoreFuture<ErasureResult> {
        self.contexts.erase(call)
    }

    /// Begins the decision of a call.
    pub fn begin_decision<'a>(&'a self, event: &'a Event, deadline: Instant) -> DecisionGuard<'a> {
        DecisionGuard { journal: self, event, deadline, is_decided: false }
    }

    /// Returns the prompt of a call, for its voice agent.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read within 2 s.
    pub async fn prompt(&self, call: CallId) -> Result<Option<Arc<str>>, StoreError> {
        let prompt = timeout(ACCEPT_TIMEOUT, self.contexts.prompt(call)).await;
        prompt.unwrap_or(Err(StoreError::Overloaded))
    }

    /// Stores the context of a call and those of its events that have a subscription. Returns
    /// `None` if there is nothing to store.
    fn append_decision_events(
        &self,
        event: &Event,
        prompt: Option<Arc<str>>,
        bodies: impl IntoIterator<Item = EventBody>,
    ) -> Option<StoreFuture<usize>> {
        if !self.subscriptions.requires_context(&event.call) && prompt.is_none() {
            return None;
        }
        let kinds = self.subscriptions.kinds();
        let _append_guard = self.contexts.append_barrier.guard_append();
        let (context, call) = self.contexts.remember(&event.call, prompt);
        let subscribed = bodies.into_iter().filter(|body| kinds.contains(body.kind()));
        let full_call = context.complete(&event.call);
        let json = context.json(&full_call);
        let to_new_event = |body| {
            let event = Event { call: Arc::clone(&full_call), body, ..event.clone() };
            new_event(event, &full_call, &json)
        };
        let new_events = subscribed.map(to_new_event).collect();
        Some(self.store.append(AppendBatch { events: new_events, call }, AppendMode::Deferred))
    }
}

impl DecisionGuard<'_> {
    /// Stores the decision with the context that later events and the voice agent need,
    /// and waits at most 200 ms until it is durable.
    pub async fn finish(mut self, outcome: &RoutingOutcome) {
        self.is_decided = true;
        let Self { journal, event, deadline: until, .. } = self;
        let prompt = match &outcome.answer {
            Answer::Route { prompt, .. } if event.call.platform.fetches_prompt => prompt.clone(),
            _ => None,
        };
        let bodies = [EventBody::Initiated, EventBody::Routed(routing_from_outcome(outcome))];
        let Some(pending_write) = journal.append_decision_events(event, prompt, bodies) else {
            return;
        };
        let wait_deadline = until.min(Instant::now() + DECISION_WRITE_TIMEOUT);
        journal.wait_for_deferred_append(&event.call, pending_write, wait_deadline).await;
    }
}

impl Drop for DecisionGuard<'_> {
    fn drop(&mut self) {
        if !self.is_decided {
            // The append continues in the background.
            if let Some(pending_write) =
                self.journal.append_decision_events(self.event, None, [EventBody::Initiated])
            {
                self.journal.counters.deferred.fetch_add(1, Relaxed);
                drop(pending_write);
            }
        }
    }
}

/// Returns the append of the events of one request.
fn append_batch(event_call: &Arc<Call>, context: &CallContext, events: Vec<Event>) -> AppendBatch {
    let call = context.complete(event_call);
    // The JSON is written once for all events.
    let json = context.json(&call);
    let to_new_event =
        |event| new_event(Event { call: Arc::clone(&call), ..event }, event_call, &json);
    AppendBatch { events: events.into_iter().map(to_new_event).collect(), call: None }
}

/// Returns an event for the store. Its id depends only on the data of the platform, not on the
/// context of the call.
fn new_event(event: Event, sent_call: &Call, call: &Arc<str>) -> NewEvent {
    let body: Arc<str> = serde_json::to_string(&event.body).unwrap_or_default().into();
    NewEvent {
        event_id: compute_event_id(&event, sent_call, &body),
        accepted_at: unix_now(),
        call: Arc::clone(call),
        event: Arc::new(event),
        body,
    }
}

/// Returns the id of an event as the platform sent it: equal for redeliveries.
pub fn event_id_of(event: &Event) -> EventId {
    compute_event_id(event, &event.call, &serde_json::to_string(&event.body).unwrap_or_default())
}

fn compute_event_id(event: &Event, sent_call: &Call, body: &str) -> EventId {
    let mut hash = Sha256::new();
    // A decision has one event, whatever its content. A redelivery of any other event has the
    // same content, which distinguishes two events of one millisecond, unless the platform has
    // a delivery id.
    let (name, timestamp) = event.dedup_key();
    let content = match &event.body {
        EventBody::Routed(_) => EventKind::Routed.name(),
        kind if name.is_some() => kind.kind().name(),
        _ => body,
    };
    for part in [sent_call.platform.family, &sent_call.id, content, name.unwrap_or_default()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let timestamp = timestamp.map_or(0, jiff::Timestamp::as_nanosecond);
    hash.update(timestamp.to_le_bytes());
    let hash = hash.finalize();
    let mut identity = [0; 16];
    identity.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    EventId(identity)
}

fn routing_from_outcome(outcome: &RoutingOutcome) -> Routing {
    let (sts_url, prompt, reason) = match &outcome.answer {
        Answer::Route { sts_url, prompt } => (sts_url.clone(), prompt.clone(), None),
        Answer::Reject { sts_url, reason } => (sts_url.clone(), None, Some(Arc::clone(reason))),
        Answer::Fallback { sts_url, .. } => (sts_url.clone(), None, None),
    };
    let has_verdict = outcome.result.verdict.is_ok();
    Routing {
        verdict: outcome
            .result
            .verdict
            .as_ref()
            .map_or(plugboard_core::verdict::VerdictKind::Pass, Verdict::kind),
        by: outcome.result.plugin.clone().filter(|_| has_verdict),
        sts_url,
        prompt,
        reason,
    }
}

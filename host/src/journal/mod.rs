//! Events on their way in: what is known of the call is added, whoever wants to
//! be told decides whether the event is kept at all, and it is acknowledged when
//! the store has it.
//!
//! An event that no observer wants is not written anywhere: it costs nothing, and
//! what callers say is not lying about.

mod erase;
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use self::memory::{AtHand, CallMemory, Remembered};
use crate::config::CallsConfig;
use crate::decision::Verdict;
use crate::event::{Call, Event, EventBody, EventKind, Kinds, Routing};
use crate::router::{Answer, Outcome};
use crate::store::erase::{CallName, Erased};
use crate::store::{Debt, Identity, Pending, Record, Store, StoreError, Writes, now};
use crate::traces::spans;

/// How long an acknowledgement may wait for the store. AVR gives up after 3 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a decision waits until it is written down that it was asked for: a
/// caller hears ringing, and a disk that takes longer is not well. It is then
/// written without being waited for.
const DECISION_PATIENCE: Duration = Duration::from_millis(200);

/// What somebody wants to be told or to know.
#[derive(Debug, Default)]
pub struct Interest {
    kinds: AtomicU32,
    calls: AtomicBool,
}

impl Interest {
    /// From now on, these kinds of events; and whether somebody asks, in the middle of
    /// a call, for what was told of it.
    pub fn set(&self, kinds: Kinds, calls: bool) {
        self.kinds.store(kinds.bits(), Relaxed);
        self.calls.store(calls, Relaxed);
    }

    /// These kinds, now.
    pub fn kinds(&self) -> Kinds {
        Kinds::from_bits(self.kinds.load(Relaxed))
    }

    /// Whether a call that just began has to be remembered.
    fn in_call(&self, call: &Call) -> bool {
        !self.kinds().is_empty() || (call.platform.comes_back && self.calls.load(Relaxed))
    }
}

/// What became of events, counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written; the events of a decision count as one.
    pub accepted: AtomicU64,
    /// Not written, as nobody wants them.
    pub unwanted: AtomicU64,
    /// Written before.
    pub repeated: AtomicU64,
    /// Refused: not written, or not in time.
    pub refused: AtomicU64,
    /// Decisions whose writing nobody waited for, or not to its end: written as soon
    /// as that is possible.
    pub owed: AtomicU64,
    /// Decisions that could not be written nor held.
    pub lost: AtomicU64,
}

/// The way in. Cheap to share.
pub struct Journal {
    store: Arc<dyn Store>,
    memory: CallMemory,
    interest: Arc<Interest>,
    /// What became of events.
    pub counts: Counts,
}

/// A call that is being decided. Whether it comes to that or not (its caller may
/// hang up), it leaves behind that it was there.
pub struct Asked<'a> {
    journal: &'a Journal,
    event: &'a Event,
    until: Instant,
    decided: bool,
}

impl Journal {
    /// A journal in front of a store, for those that are interested.
    pub fn new(store: Arc<dyn Store>, interest: Arc<Interest>, calls: CallsConfig) -> Self {
        let memory = CallMemory::new(Arc::clone(&store), calls);
        Self { store, memory, interest, counts: Counts::default() }
    }

    /// Takes the events of one delivery, all of the same call. Durable when it resolves,
    /// all or none, but for those that nobody wants.
    ///
    /// # Errors
    ///
    /// When they cannot be written now: the delivery should come again.
    pub async fn accept(self: &Arc<Self>, mut events: Vec<Event>) -> Result<(), StoreError> {
        let kinds = self.interest.kinds();
        let ends = events.iter().any(|event| matches!(event.body, EventBody::Ended(_)));
        let Some(call) = events.first().map(|event| Arc::clone(&event.call)) else {
            return Ok(());
        };
        let all = events.len();
        events.retain(|event| kinds.contains(event.body.kind()));
        self.counts.unwanted.fetch_add((all - events.len()) as u64, Relaxed);
        if events.is_empty() && !ends {
            return Ok(());
        }
        // A sender that hangs up has sent it all the same: it is on its way to the
        // store before we wait, or goes on in a task of its own. The end of a call does,
        // as the call is to be forgotten after it.
        let known = self.memory.recent(&call);
        let span = spans::append();
        if known.is_some() && !ends {
            let taken = self.take(&call, events, known, ends);
            return spans::within(span, StoreError::label, taken).await;
        }
        let journal = Arc::clone(self);
        let taken = async move { journal.take(&call, events, known, ends).await };
        let taken = tokio::spawn(spans::within(span, StoreError::label, taken));
        taken.await.unwrap_or_else(|_| {
            tracing::error!("the host panicked over an event; please report it");
            Err(StoreError::Closed)
        })
    }

    /// Takes events that are wanted, and forgets their call if that `ends`, with what is
    /// at hand of it.
    async fn take(
        &self,
        call: &Arc<Call>,
        events: Vec<Event>,
        known: Option<AtHand>,
        ends: bool,
    ) -> Result<(), StoreError> {
        let (all, is_known) = (events.len(), known.is_some());
        let written = match all {
            0 => Ok(0),
            _ => timeout(PATIENCE, self.keep(call, events, known))
                .await
                .unwrap_or(Err(StoreError::Overloaded)),
        };
        // Not before what ends it is written: it may have to come again.
        if ends && written.is_ok() {
            // Without the store, it is forgotten later.
            _ = timeout(PATIENCE, self.memory.ended(call, is_known)).await;
        }
        let (counts, all) = (&self.counts, all as u64);
        match &written {
            Ok(new) => {
                counts.accepted.fetch_add(*new as u64, Relaxed);
                counts.repeated.fetch_add(all - *new as u64, Relaxed);
            }
            Err(_) => {
                counts.refused.fetch_add(all, Relaxed);
            }
        }
        written.map(drop)
    }

    async fn keep(
        &self,
        told: &Arc<Call>,
        events: Vec<Event>,
        known: Option<AtHand>,
    ) -> Result<usize, StoreError> {
        self.put(told, events, known, Debt::None).await?.await
    }

    /// Puts events on their way to the store, with what is known of their call.
    async fn put(
        &self,
        told: &Arc<Call>,
        events: Vec<Event>,
        mut known: Option<AtHand>,
        debt: Debt,
    ) -> Result<Pending<usize>, StoreError> {
        loop {
            let AtHand { call, since } = match known.take() {
                Some(known) => known,
                None => self.memory.recall(told).await?,
            };
            // A call that was erased meanwhile is looked up once more.
            let Some(_in_order) = self.memory.erasures.in_order_since(since) else { continue };
            return Ok(self.store.append(records(told, &call, events), debt));
        }
    }

    /// What is known of a call, with what it says of itself; no more than that, if the
    /// store cannot be asked soon.
    pub async fn known(&self, told: &Arc<Call>) -> Arc<Call> {
        let known = match self.memory.recent(told) {
            Some(known) => Ok(Ok(known)),
            None => timeout(DECISION_PATIENCE, self.memory.recall(told)).await,
        };
        match known {
            Ok(Ok(known)) => known.call.of(told),
            _ => Arc::clone(told),
        }
    }

    /// Keeps an event of our own making, which nobody sends again, if it is wanted. It
    /// is written in any case; whether it was is waited for, though not for long.
    pub async fn tell(&self, event: Event, until: Instant) {
        if !self.interest.kinds().contains(event.body.kind()) {
            self.counts.unwanted.fetch_add(1, Relaxed);
            return;
        }
        let told = Arc::clone(&event.call);
        let deadline = until.min(Instant::now() + DECISION_PATIENCE);
        let known = match self.memory.recent(&told) {
            Some(known) => known,
            None => match timeout_at(deadline, self.memory.recall(&told)).await {
                Ok(Ok(known)) => known,
                _ => self.memory.nothing(&told),
            },
        };
        match self.put(&told, vec![event], Some(known), Debt::Owed).await {
            Ok(written) => self.owed(&told, written, deadline).await,
            // Somebody erased a call meanwhile, and the store cannot be asked any more.
            Err(error) => {
                let call = told.id.as_str();
                tracing::error!(call, "what was answered is not told to observers: {error}");
                self.counts.lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Waits for what is written in any case.
    async fn owed(&self, call: &Call, written: Pending<usize>, deadline: Instant) {
        // What is in trouble is written when that is over, and so is what takes long.
        let deadline = self.store.trouble().map_or(deadline, |_| Instant::now());
        let counts = &self.counts;
        let span = spans::append();
        let written = timeout_at(deadline, written).instrument(span.clone()).await;
        match &written {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => spans::failed(&span, error.label()),
            // It goes on.
            Err(_) => spans::failed(&span, "late"),
        }
        let count = match written {
            // A repeat, or only something to remember.
            Ok(Ok(0)) => return,
            Ok(Ok(_)) => &counts.accepted,
            Ok(Err(StoreError::Overloaded | StoreError::Closed)) => {
                tracing::error!(
                    call = call.id.as_str(),
                    "what was answered is not told to observers: too much is waiting to be written"
                );
                &counts.lost
            }
            Ok(Err(_)) | Err(_) => &counts.owed,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Erases a call but for plugins' values, as far as it came before. To be awaited
    /// to its end.
    pub fn erase(&self, call: &CallName) -> Pending<Erased> {
        self.memory.erase(call)
    }

    /// A call is about to be decided.
    pub fn asked<'a>(&'a self, event: &'a Event, until: Instant) -> Asked<'a> {
        Asked { journal: self, event, until, decided: false }
    }

    /// What the voice agent shall be told in a call, by the platform's name for it.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn prompt(&self, family: &str, call: &str) -> Result<Option<Arc<str>>, StoreError> {
        let prompt = timeout(PATIENCE, self.memory.prompt(family, call)).await;
        prompt.unwrap_or(Err(StoreError::Overloaded))
    }

    /// Remembers a call, and writes what happened to it as far as somebody wants it.
    /// None: there is nothing to write.
    fn write(
        &self,
        event: &Event,
        prompt: Option<Arc<str>>,
        bodies: impl IntoIterator<Item = EventBody>,
    ) -> Option<Pending<usize>> {
        if !self.interest.in_call(&event.call) && prompt.is_none() {
            return None;
        }
        let kinds = self.interest.kinds();
        let _in_order = self.memory.erasures.in_order();
        let (known, call) = self.memory.remember(&event.call, prompt);
        let wanted = bodies.into_iter().filter(|body| kinds.contains(body.kind()));
        let told = known.of(&event.call);
        let json = known.json(&told);
        let record = |body| {
            let event = Event { call: Arc::clone(&told), body, ..event.clone() };
            record(event, &told, &json)
        };
        let events = wanted.map(record).collect();
        Some(self.store.append(Writes { events, call }, Debt::Owed))
    }
}

impl Asked<'_> {
    /// It was decided: remembers what later events and the voice agent will ask
    /// for, and waits until what happened is written, though not for long.
    pub async fn decided(mut self, outcome: &Outcome) {
        self.decided = true;
        let Self { journal, event, until, .. } = self;
        let prompt = match &outcome.answer {
            Answer::Route { prompt, .. } if event.call.platform.asks_for_prompt => prompt.clone(),
            _ => None,
        };
        let bodies = [EventBody::Initiated, EventBody::Routed(routing(outcome))];
        let Some(written) = journal.write(event, prompt, bodies) else { return };
        let deadline = until.min(Instant::now() + DECISION_PATIENCE);
        journal.owed(&event.call, written, deadline).await;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.decided {
            // It goes on without being waited for.
            if let Some(written) = self.journal.write(self.event, None, [EventBody::Initiated]) {
                self.journal.counts.owed.fetch_add(1, Relaxed);
                drop(written);
            }
        }
    }
}

/// Events of one delivery as they are kept.
fn records(told: &Arc<Call>, known: &Remembered, events: Vec<Event>) -> Writes {
    let call = known.of(told);
    // Once, however many events there are.
    let json = known.json(&call);
    let record = |event| record(Event { call: Arc::clone(&call), ..event }, told, &json);
    Writes { events: events.into_iter().map(record).collect(), call: None }
}

/// An event as it is kept. What identifies it is what the platform sent, which
/// what is remembered of the call must not change.
fn record(event: Event, sent: &Call, call: &Arc<str>) -> Record {
    let body: Arc<str> = serde_json::to_string(&event.body).unwrap_or_default().into();
    Record {
        identity: identity(&event, sent, &body),
        accepted: now(),
        call: Arc::clone(call),
        event: Arc::new(event),
        body,
    }
}

/// What tells an event from others, as the platform sent it.
pub fn identity_of(event: &Event) -> Identity {
    identity(event, &event.call, &serde_json::to_string(&event.body).unwrap_or_default())
}

fn identity(event: &Event, sent: &Call, body: &str) -> Identity {
    let mut hash = Sha256::new();
    // Of what was decided there is one event, whatever it was. A repeat of any
    // other has the same content, and two events of one millisecond may not have,
    // unless the platform has a name for what it delivers.
    let (name, timestamp) = event.named();
    let content = match &event.body {
        EventBody::Routed(_) => EventKind::Routed.name(),
        kind if name.is_some() => kind.kind().name(),
        _ => body,
    };
    for part in [sent.platform.family, &sent.id, content, name.unwrap_or_default()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let timestamp = timestamp.map_or(0, jiff::Timestamp::as_nanosecond);
    hash.update(timestamp.to_le_bytes());
    let hash = hash.finalize();
    let mut identity = [0; 16];
    identity.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Identity(identity)
}

fn routing(outcome: &Outcome) -> Routing {
    let (sts_url, prompt, reason) = match &outcome.answer {
        Answer::Route { sts_url, prompt } => (sts_url.clone(), prompt.clone(), None),
        Answer::Reject { sts_url, reason } => (sts_url.clone(), None, Some(Arc::clone(reason))),
        Answer::Fallback { sts_url, .. } => (sts_url.clone(), None, None),
    };
    let decided = outcome.ruling.verdict.is_ok();
    Routing {
        verdict: outcome.ruling.verdict.as_ref().map_or(crate::decision::Kind::Pass, Verdict::kind),
        by: outcome.ruling.by.clone().filter(|_| decided),
        sts_url,
        prompt,
        reason,
    }
}

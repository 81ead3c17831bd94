//! What is kept across calls and restarts: the journal of events, how far each
//! observer is in it, dead letters, the memory of calls, and plugins' values.
//!
//! [`Store`] is the seam: everything is asked for without waiting, and answered
//! later. What is asked is done in the order in which it was asked, and is done
//! also if nobody waits for the answer any more. Appending is at least once, with
//! repeats recognised; progress and values are small documents by key, with
//! compare-and-swap and times to live: what a stream and a key-value bucket of a
//! distributed store have as well. [`sqlite`] is the embedded one.

#![forbid(unsafe_code)]

pub mod erase;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::watch;

use self::erase::ErasureResult;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::{Event, EventKind, EventKinds};
use plugboard_core::event_id::EventId;

/// An answer that comes later; the work is under way whether it is awaited or
/// not.
pub type StoreFuture<T, E = StoreError> = BoxFuture<'static, Result<T, E>>;

/// The place of an event in the journal: later ones have greater numbers. The
/// first is 1.
pub type Seq = i64;

/// Milliseconds since 1970.
pub type UnixMs = i64;

/// Now, by the clock on the wall: it has to be the same after a restart.
pub fn unix_now() -> UnixMs {
    jiff::Timestamp::now().as_millisecond()
}

/// So long before now.
pub fn unix_ago(time: Duration) -> UnixMs {
    unix_now().saturating_sub(milliseconds(time))
}

/// So long after now.
pub fn unix_from_now(time: Duration) -> UnixMs {
    unix_now().saturating_add(milliseconds(time))
}

fn milliseconds(time: Duration) -> UnixMs {
    UnixMs::try_from(time.as_millis()).unwrap_or(UnixMs::MAX)
}

/// Why something is not kept or not found out.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The disk is full, the folder cannot be written, another process has the
    /// file: it may pass.
    #[error("the store cannot be used: {0}")]
    Unavailable(Arc<str>),
    /// The operator's bound is reached.
    #[error(
        "the journal has reached journal.max_size with events that wait for an observer, and dead \
         letters"
    )]
    Full,
    /// More is asked than can be done.
    #[error("too much is waiting to be written")]
    Overloaded,
    /// The service is on its way out.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The word for traces.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full => "full",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
        }
    }
}

/// An event to be kept.
#[derive(Clone)]
pub struct NewEvent {
    /// What tells it from others.
    pub event_id: EventId,
    /// When it was taken.
    pub accepted_at: UnixMs,
    /// The event, with what is remembered of its call.
    pub event: Arc<Event>,
    /// Its call as JSON.
    pub call: Arc<str>,
    /// Its body as JSON.
    pub body: Arc<str>,
}

/// What one delivery leaves behind: kept together, or not at all.
#[derive(Clone, Default)]
pub struct AppendBatch {
    /// Events.
    pub events: Vec<NewEvent>,
    /// What is remembered of their call from now on.
    pub call: Option<CallDocument>,
}

impl AppendBatch {
    /// Memory in bytes, roughly, while it is waiting.
    pub fn size(&self) -> usize {
        let call = self.call.as_ref().map_or(0, |call| call.id.id().len() + call.document.len());
        call + self.events.iter().map(NewEvent::size).sum::<usize>()
    }
}

impl NewEvent {
    /// Memory in bytes, roughly.
    pub fn size(&self) -> usize {
        /// Of an event and of a metadata value beside their texts.
        const EVENT: usize = 400;
        const VALUE: usize = 100;
        // The texts are there twice: as they are kept, and as they are told.
        let metadata = self.event.call.metadata.len();
        EVENT + VALUE * metadata + 2 * (self.call.len() + self.body.len())
    }
}

/// What is remembered of a call.
#[derive(Clone)]
pub struct CallDocument {
    /// The call.
    pub id: CallId,
    /// What, in JSON.
    pub document: Arc<str>,
    /// Until when.
    pub expires_at: UnixMs,
}

/// Whether an event may be lost when it cannot be kept now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// Its sender is told, and may send it again.
    Acknowledged,
    /// Nobody will send it again: it is held in memory, within bounds, and
    /// written as soon as that is possible.
    Deferred,
}

/// An event of the journal.
pub struct JournalEvent {
    /// Its place.
    pub seq: Seq,
    /// What tells it from others.
    pub event_id: EventId,
    /// When it was taken.
    pub accepted_at: UnixMs,
    /// The one observer that it is for; None: all.
    pub target: Option<Arc<str>>,
    /// The event.
    pub event: Arc<Event>,
    /// Its memory in bytes, roughly.
    pub size: usize,
}

impl Checkpoint {
    /// Up to here everything is done.
    pub fn acked_up_to(&self) -> Seq {
        self.unacked.first().map_or(self.seq, |(first, _)| first - 1)
    }
}

impl JournalEvent {
    /// Which kind of event it is.
    pub fn kind(&self) -> EventKind {
        self.event.body.kind()
    }
}

/// A part of the journal.
#[derive(Default)]
pub struct JournalPage {
    /// The events, in order.
    pub events: Vec<Arc<JournalEvent>>,
    /// How far the page reaches: there is nothing else up to here.
    pub up_to: Seq,
}

/// How far an observer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here is done, except...
    pub seq: Seq,
    /// ...these, with how often each was tried.
    pub unacked: Vec<(Seq, u32)>,
    /// The kinds of events that it wants.
    pub kinds: EventKinds,
    /// When its plugin was there last.
    pub last_seen: UnixMs,
}

/// Who is told of the journal.
pub struct Consumers {
    /// Every observer of an earlier run, with how far it was.
    pub checkpoints: Vec<(String, Checkpoint)>,
    /// The last event of the earlier runs: what comes after it was accepted by this
    /// one, for the observers that it had.
    pub last_seq_before_start: Seq,
}

/// A delivery that was given up.
#[derive(Clone)]
pub struct DeadLetter {
    /// Its number; 0 for a new one.
    pub id: i64,
    /// Who could not take it.
    pub consumer: Arc<str>,
    /// The event's.
    pub event_id: EventId,
    /// The event's.
    pub kind: EventKind,
    /// The platform's name for the call.
    pub call: String,
    /// When the event was taken.
    pub accepted_at: UnixMs,
    /// When it was given up.
    pub dead_lettered_at: UnixMs,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub error: String,
}

/// Some dead letters, and all of them in numbers.
#[derive(Default)]
pub struct DeadLetters {
    /// Those that were asked for.
    pub letters: Vec<DeadLetter>,
    /// How many there are of each observer.
    pub totals: Vec<(String, u64)>,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// This one.
    pub id: Option<i64>,
    /// Those of one observer.
    pub consumer: Option<String>,
    /// Those with greater numbers.
    pub after_id: i64,
    /// Not more than so many.
    pub limit: u32,
}

/// What a plugin does with its values.
pub enum KvCommand {
    /// Reads.
    Get,
    /// Writes.
    Set {
        /// What.
        value: Vec<u8>,
        /// For how long; None: for ever.
        ttl: Option<Duration>,
    },
    /// Takes away.
    Delete,
    /// Adds to a number.
    Increment {
        /// How much.
        by: i64,
        /// For how long, if it is made.
        ttl: Option<Duration>,
    },
    /// Writes if the value is the expected one.
    Swap {
        /// None: there must be none.
        expected: Option<Vec<u8>>,
        /// What.
        value: Vec<u8>,
        /// For how long; None: for ever.
        ttl: Option<Duration>,
    },
}

impl KvCommand {
    /// Memory in bytes, roughly, while it is waiting.
    pub fn size(&self) -> usize {
        match self {
            Self::Get | Self::Delete | Self::Increment { .. } => 0,
            Self::Set { value, .. } => value.len(),
            Self::Swap { expected, value, .. } => {
                expected.as_ref().map_or(0, Vec::len) + value.len()
            }
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvAnswer {
    /// The value read.
    Value(Option<Vec<u8>>),
    /// It is written.
    Done,
    /// Whether it was there, or was written.
    Flag(bool),
    /// The sum.
    Number(i64),
}

/// Why a plugin's value is not kept.
#[derive(Debug, Error)]
pub enum KvError {
    /// The namespace would be larger than it may be.
    #[error("the values of this plugin would have more than {0} bytes (kv.max_total)")]
    Quota(usize),
    /// Not decimal text, or beyond 64 bits.
    #[error("the value is no number, or the sum has more than 64 bits")]
    NotANumber,
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What upkeep is to remove.
#[derive(Clone, Debug)]
pub struct RetentionPolicy {
    /// Events up to here are done for every observer.
    pub acked_up_to: Seq,
    /// Of those, the ones that were taken before.
    pub retain_since: UnixMs,
    /// Events that were taken before are given up, whoever has not had them. So
    /// are dead letters.
    pub expire_before: UnixMs,
    /// Bytes of events and dead letters, beyond which no event is taken.
    pub max_size: u64,
}

/// What upkeep did and found.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStats {
    /// Events in the journal.
    pub events: u64,
    /// Bytes of events and dead letters.
    pub bytes: u64,
    /// Bytes of everything in the store.
    pub total_bytes: u64,
    /// Events that were given up, as they were too old.
    pub expired: u64,
    /// Whether there is more to remove at once.
    pub has_more: bool,
}

/// The seam. See the [module](self).
pub trait Store: Send + Sync {
    /// Appends events, all or none. Durable when it resolves, in the order of the
    /// calls; what was appended before, not longer ago than `journal.keep` and among
    /// the last 500,000, is left out. How many were new.
    fn append(&self, batch: AppendBatch, mode: AppendMode) -> StoreFuture<usize>;

    /// What comes after a place in the journal, some hundred events at once.
    fn read(&self, after: Seq, limit: usize) -> StoreFuture<JournalPage>;

    /// Events by their places, as far as they are there.
    fn find_events(&self, seqs: Vec<Seq>) -> StoreFuture<Vec<Arc<JournalEvent>>>;

    /// The last event's place, and word of every new one.
    fn last_seq(&self) -> watch::Receiver<Seq>;

    /// Every observer that is known.
    fn consumers(&self) -> StoreFuture<Consumers>;

    /// Keeps an observer's progress.
    fn save_checkpoint(&self, consumer: Arc<str>, checkpoint: Checkpoint) -> StoreFuture<()>;

    /// Forgets an observer.
    fn remove_consumer(&self, consumer: String) -> StoreFuture<()>;

    /// Keeps a delivery that was given up, with its event.
    fn add_dead_letter(&self, letter: DeadLetter, event: Arc<JournalEvent>) -> StoreFuture<()>;

    /// Dead letters.
    fn dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<DeadLetters>;

    /// Appends dead letters to the journal once more, each for its observer
    /// alone, if that is known. How many.
    fn redrive_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64>;

    /// Throws dead letters away. How many.
    fn purge_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64>;

    /// Changes until when the document is kept.
    fn set_call_expiry(&self, call: CallId, expires_at: UnixMs) -> StoreFuture<()>;

    /// The document about a call.
    fn load_call(&self, call: CallId) -> StoreFuture<Option<String>>;

    /// A plugin's command on one of its values.
    fn kv(
        &self,
        namespace: Arc<str>,
        key: String,
        command: KvCommand,
    ) -> StoreFuture<KvAnswer, KvError>;

    /// Erases a call but for plugins' values: its events and dead letters, told or
    /// not, and what is remembered of it, as far as they were asked to be kept before.
    /// Others are not held up for long, however much it is.
    fn erase(&self, call: CallSelector) -> StoreFuture<ErasureResult>;

    /// Erases the values of all plugins whose key has this call's id as a part
    /// between slashes. How many.
    fn erase_values(&self, call: Arc<str>) -> StoreFuture<u64>;

    /// Sees to it that nothing that was removed can be read from the files.
    fn truncate_wal(&self) -> StoreFuture<()>;

    /// Removes what need not be kept.
    fn enforce_retention(&self, policy: RetentionPolicy) -> StoreFuture<StoreStats>;

    /// Whether it can be used, as far as is known, else why not.
    fn health(&self) -> Option<StoreError>;

    /// Writes what is waiting, and ends. Whatever is asked then is refused.
    fn close(&self) -> BoxFuture<'_, ()>;
}

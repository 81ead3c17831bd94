//! Durable storage: the journal of events, the checkpoints of its consumers, dead
//! letters, call contexts, and plugins' values.
//!
//! [`Store`] is the interface. A request does not wait, and its future resolves when
//! the work is done. Writes are done in the order of the requests, also when the
//! future is dropped. Appends are at least once and deduplicated; checkpoints and
//! values are small documents by key, with compare-and-swap and expiry. A stream and a
//! key-value bucket of a distributed store offer the same. [`sqlite`] is the embedded
//! implementation.

#![forbid(unsafe_code)]

pub mod erase;
mod journal_event;
pub mod sqlite;
mod time;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::watch;

use self::erase::ErasureResult;
pub use self::journal_event::{JournalEvent, NewEvent, Seq};
pub use self::time::{UnixMs, unix_ago, unix_from_now, unix_now};
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::{EventKind, EventKinds};
use plugboard_core::event_id::EventId;

/// The result of a request. The store does the work whether the future is awaited or not.
pub type StoreFuture<T, E = StoreError> = BoxFuture<'static, Result<T, E>>;

/// The error of a request to the store.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The disk is full, the folder cannot be written, or another process has the
    /// file: a later request may succeed. The text includes the cause's, so the
    /// cause is not a `source`, which would repeat it.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The journal has reached its limit.
    #[error("the journal is full (journal.max_size): unprocessed events and dead letters fill it")]
    Full,
    /// Too many requests are queued.
    #[error("the write queue of the store is full")]
    Overloaded,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Returns the value of `error.type` in traces.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full => "full",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
        }
    }
}

/// The events and the call context that one request stores, in one transaction.
#[derive(Clone, Default)]
pub struct AppendBatch {
    /// The events, all of the same call.
    pub events: Vec<NewEvent>,
    /// The new context of their call.
    pub call: Option<CallDocument>,
}

impl AppendBatch {
    /// Returns the approximate memory while the append is queued, in bytes.
    pub fn size(&self) -> usize {
        let call = self.call.as_ref().map_or(0, |call| call.id.id().len() + call.document.len());
        call + self.events.iter().map(NewEvent::size).sum::<usize>()
    }
}

/// The context of a call, as a document.
#[derive(Clone)]
pub struct CallDocument {
    /// The identity of the call.
    pub id: CallId,
    /// The document, as JSON.
    pub document: Arc<str>,
    /// The time at which the context expires.
    pub expires_at: UnixMs,
}

/// The handling of an append that cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// The append fails, and the platform delivers its events again.
    Acknowledged,
    /// The store holds the append in memory, within limits, and writes it as soon as it can,
    /// because no platform delivers its events again.
    Deferred,
}

impl Checkpoint {
    /// Returns the last sequence number up to which all events are acknowledged.
    pub fn acked_up_to(&self) -> Seq {
        self.unacked.first().map_or(self.seq, |(first, _)| first - 1)
    }
}

/// The result of a read of the journal.
#[derive(Default)]
pub struct JournalPage {
    /// The events, in order.
    pub events: Vec<Arc<JournalEvent>>,
    /// The last sequence number that the page covers. The page has all events up to here.
    pub up_to: Seq,
}

/// The state of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that was read.
    pub seq: Seq,
    /// The events up to `seq` that are not acknowledged, in order, each with its failed
    /// attempts.
    pub unacked: Vec<(Seq, u32)>,
    /// The kinds of events that the plugin subscribes to.
    pub kinds: EventKinds,
    /// The time at which the plugin was last loaded.
    pub last_seen: UnixMs,
}

/// The consumers of the journal.
pub struct Consumers {
    /// The name and the checkpoint of each.
    pub checkpoints: Vec<(String, Checkpoint)>,
    /// The last sequence number of earlier runs. Later events were accepted in this run.
    pub last_seq_before_start: Seq,
}

/// An event that a consumer could not process in any attempt.
#[derive(Clone)]
pub struct DeadLetter {
    /// The number of the dead letter; 0 for a new one.
    pub id: i64,
    /// The name of the consumer.
    pub consumer: Arc<str>,
    /// The id of the event.
    pub event_id: EventId,
    /// The kind of the event.
    pub kind: EventKind,
    /// The platform's id for the call.
    pub call: String,
    /// The time at which the event was accepted.
    pub accepted_at: UnixMs,
    /// The time at which the last attempt failed.
    pub dead_lettered_at: UnixMs,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub error: String,
}

/// A list of dead letters.
#[derive(Default)]
pub struct DeadLetters {
    /// The dead letters that the filter selects.
    pub letters: Vec<DeadLetter>,
    /// The number of all dead letters, by consumer.
    pub totals: Vec<(String, u64)>,
}

/// A filter that selects dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Selects only the dead letter with this number.
    pub id: Option<i64>,
    /// Selects only the dead letters of this consumer.
    pub consumer: Option<String>,
    /// Selects only dead letters with greater numbers.
    pub after_id: i64,
    /// The maximum number of selected dead letters.
    pub limit: u32,
}

/// A command on a value of a plugin.
pub enum KvCommand {
    /// Reads the value of the key.
    Get,
    /// Writes the value of the key.
    Set {
        /// The value to write.
        value: Vec<u8>,
        /// The time until it expires. `None`: never.
        ttl: Option<Duration>,
    },
    /// Removes the value of the key.
    Delete,
    /// Adds to the value, a decimal number.
    Increment {
        /// The number to add.
        by: i64,
        /// The time until a new value expires. `None`: never.
        ttl: Option<Duration>,
    },
    /// Compares and swaps: writes if the value is the expected one.
    Swap {
        /// The expected value. `None`: no value.
        expected: Option<Vec<u8>>,
        /// The value to write.
        value: Vec<u8>,
        /// The time until it expires. `None`: never.
        ttl: Option<Duration>,
    },
}

impl KvCommand {
    /// Returns the approximate memory while the command is queued, in bytes.
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

/// The result of a [`KvCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvAnswer {
    /// The value of `Get`.
    Value(Option<Vec<u8>>),
    /// `Set` has written the value.
    Done,
    /// True if `Delete` found a value, or `Swap` has written one.
    Flag(bool),
    /// The sum of `Increment`.
    Number(i64),
}

/// The error of a [`KvCommand`].
#[derive(Debug, Error)]
pub enum KvError {
    /// The namespace would exceed its quota.
    #[error("the plugin's values would exceed {0} bytes (kv.max_total)")]
    Quota(usize),
    /// The value is not a decimal number, or the sum exceeds 64 bits.
    #[error("the value is not a number, or the sum exceeds 64 bits")]
    NotANumber,
    /// The error of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The events that a retention run removes.
#[derive(Clone, Debug)]
pub struct RetentionPolicy {
    /// The last sequence number up to which every consumer has acknowledged all events.
    pub acked_up_to: Seq,
    /// A retention run removes acknowledged events that were accepted before this time.
    pub retain_since: UnixMs,
    /// A retention run removes events and dead letters from before this time, acknowledged or
    /// not.
    pub expire_before: UnixMs,
    /// The size of events and dead letters, in bytes, above which appends fail.
    pub max_size: u64,
}

/// The size of the store, and the result of a retention run.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStats {
    /// The number of events in the journal.
    pub events: u64,
    /// The size of events and dead letters, in bytes.
    pub bytes: u64,
    /// The size of the store, in bytes.
    pub total_bytes: u64,
    /// The number of events that were removed though they were not acknowledged.
    pub expired: u64,
    /// True if the next run can remove more events now.
    pub has_more: bool,
}

/// The interface of the store. See the [module](self).
pub trait Store: Send + Sync {
    /// Appends events, all or none, in the order of the requests. The events are durable when
    /// the future resolves. Skips duplicates of events that were appended within
    /// `journal.retention` and are among the last 500,000. Returns the number of new events.
    fn append(&self, batch: AppendBatch, mode: AppendMode) -> StoreFuture<usize>;

    /// Reads the events after a sequence number, at most `limit`.
    fn read(&self, after: Seq, limit: usize) -> StoreFuture<JournalPage>;

    /// Reads events by their sequence numbers. Skips those that do not exist.
    fn find_events(&self, seqs: Vec<Seq>) -> StoreFuture<Vec<Arc<JournalEvent>>>;

    /// Returns a receiver of the last sequence number.
    fn last_seq(&self) -> watch::Receiver<Seq>;

    /// Reads the checkpoints of all consumers.
    fn consumers(&self) -> StoreFuture<Consumers>;

    /// Saves the checkpoint of a consumer.
    fn save_checkpoint(&self, consumer: Arc<str>, checkpoint: Checkpoint) -> StoreFuture<()>;

    /// Removes the checkpoint of a consumer.
    fn remove_consumer(&self, consumer: String) -> StoreFuture<()>;

    /// Adds a dead letter together with its event.
    fn add_dead_letter(&self, letter: DeadLetter, event: Arc<JournalEvent>) -> StoreFuture<()>;

    /// Reads the selected dead letters.
    fn dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<DeadLetters>;

    /// Appends dead letters to the journal again, each for its consumer only. Skips those
    /// of unknown consumers. Returns the number of redriven dead letters.
    fn redrive_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64>;

    /// Removes dead letters. Returns their number.
    fn purge_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64>;

    /// Sets the expiry of the context of a call, if there is one.
    fn set_call_expiry(&self, call: CallId, expires_at: UnixMs) -> StoreFuture<()>;

    /// Reads the context of a call.
    fn load_call(&self, call: CallId) -> StoreFuture<Option<String>>;

    /// Executes a command on a value in the namespace of a plugin.
    fn kv(
        &self,
        namespace: Arc<str>,
        key: String,
        command: KvCommand,
    ) -> StoreFuture<KvAnswer, KvError>;

    /// Erases the events, dead letters and contexts of the selected calls that were
    /// stored by earlier requests; not plugins' values. Works in slices, so that other
    /// requests do not wait for long.
    fn erase(&self, call: CallSelector) -> StoreFuture<ErasureResult>;

    /// Erases the values of all plugins whose key has this call id as a segment between
    /// slashes. Returns their number.
    fn erase_values(&self, call: Arc<str>) -> StoreFuture<u64>;

    /// Empties the write-ahead log, so that removed data cannot be read from the files.
    fn truncate_wal(&self) -> StoreFuture<()>;

    /// Removes the events, dead letters, contexts and values that the policy does not retain.
    fn enforce_retention(&self, policy: RetentionPolicy) -> StoreFuture<StoreStats>;

    /// Returns the error of the last write, if it failed.
    ///
    /// # Errors
    ///
    /// Fails if the store could not be written, and no write has succeeded since.
    fn health(&self) -> Result<(), StoreError>;

    /// Finishes the queued requests and closes the store. Later requests fail with
    /// [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

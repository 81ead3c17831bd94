//! The history: the latest activities of each kind, reloads and erasures, within a maximum age.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::activity::ActivityKind;
use super::feed::{FeedEntry, SharedActivity};
use super::message::{ErasedCall, FeedItem};
use super::reload_summary::ReloadSummary;

/// Maximum number of entries of each kind.
const MAX_DECISIONS: usize = 200;
const MAX_MID_CALL_REQUESTS: usize = 200;
const MAX_EVENTS: usize = 500;
const MAX_RELOADS: usize = 50;
/// Maximum number of recent erasures, which subscribers that reconnect need.
const MAX_ERASED_CALLS: usize = 200;

/// The latest entries of a kind, oldest first.
struct RecentEntries<T> {
    capacity: usize,
    entries: VecDeque<RecentEntry<T>>,
}

struct RecentEntry<T> {
    /// Sequence number of the entry in the feed.
    seq: u64,
    recorded_at: Instant,
    item: Arc<T>,
}

impl<T> RecentEntries<T> {
    fn new(capacity: usize) -> Self {
        Self { capacity, entries: VecDeque::new() }
    }

    fn push(&mut self, seq: u64, recorded_at: Instant, item: Arc<T>) {
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(RecentEntry { seq, recorded_at, item });
    }
}

/// The history of the feed.
pub(super) struct History {
    max_age: Duration,
    last_seq: u64,
    decisions: RecentEntries<SharedActivity>,
    mid_call_requests: RecentEntries<SharedActivity>,
    events: RecentEntries<SharedActivity>,
    /// The latest reloads, which concern no call, and do not expire.
    reloads: RecentEntries<ReloadSummary>,
    erased: RecentEntries<ErasedCall>,
}

impl History {
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            last_seq: 0,
            decisions: RecentEntries::new(MAX_DECISIONS),
            mid_call_requests: RecentEntries::new(MAX_MID_CALL_REQUESTS),
            events: RecentEntries::new(MAX_EVENTS),
            reloads: RecentEntries::new(MAX_RELOADS),
            erased: RecentEntries::new(MAX_ERASED_CALLS),
        }
    }

    pub(super) fn record(
        &mut self,
        kind: &ActivityKind,
        activity: Arc<SharedActivity>,
        now: Instant,
    ) {
        let seq = self.next_seq();
        let entries = match kind {
            ActivityKind::Decision(_) => &mut self.decisions,
            ActivityKind::MidCallRequest(_) => &mut self.mid_call_requests,
            ActivityKind::Event(_) => &mut self.events,
        };
        entries.push(seq, now, activity);
    }

    pub(super) fn record_reload(&mut self, reload: Arc<ReloadSummary>, now: Instant) {
        let seq = self.next_seq();
        self.reloads.push(seq, now, reload);
    }

    /// Returns the sequence number of the last message. Every activity, reload and erasure has
    /// one.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    fn activity_entries_mut(&mut self) -> [&mut VecDeque<RecentEntry<SharedActivity>>; 3] {
        [&mut self.decisions, &mut self.mid_call_requests, &mut self.events]
            .map(|kind| &mut kind.entries)
    }

    /// Returns all entries, oldest first.
    pub(super) fn all(&self) -> VecDeque<FeedEntry> {
        let activities = [&self.decisions, &self.mid_call_requests, &self.events].into_iter();
        let activities = activities.flat_map(|kind| &kind.entries);
        let activities =
            activities.map(|entry| (entry.seq, FeedEntry::Activity(Arc::clone(&entry.item))));
        let reloads = self.reloads.entries.iter();
        let reloads = reloads.map(|entry| (entry.seq, FeedItem::Reload(Arc::clone(&entry.item))));
        let erased = self.erased.entries.iter();
        let erased = erased.map(|entry| (entry.seq, FeedItem::Erased(Arc::clone(&entry.item))));
        let others = reloads.chain(erased).map(|(seq, item)| (seq, FeedEntry::Other(item)));
        let mut all: Vec<_> = activities.chain(others).collect();
        all.sort_unstable_by_key(|(seq, _)| *seq);
        all.into_iter().map(|(_, item)| item).collect()
    }

    /// Returns the reloads, newest first.
    pub(super) fn reloads(&self) -> Vec<Arc<ReloadSummary>> {
        self.reloads.entries.iter().rev().map(|entry| Arc::clone(&entry.item)).collect()
    }

    /// Removes the erased activities, and records the erasure of the call.
    pub(super) fn remove_erased(&mut self, call: Arc<ErasedCall>, now: Instant) {
        for activities in self.activity_entries_mut() {
            activities.retain(|entry| !entry.item.is_erased());
        }
        self.erased.entries.retain(|entry| *entry.item != *call);
        let seq = self.next_seq();
        self.erased.push(seq, now, call);
    }

    /// Returns the calls that the messages with these sequence numbers erased, oldest first.
    pub(super) fn erased_calls(&self, seqs: &RangeInclusive<u64>) -> Vec<Arc<ErasedCall>> {
        let erased = self.erased.entries.iter().filter(|entry| seqs.contains(&entry.seq));
        erased.map(|entry| Arc::clone(&entry.item)).collect()
    }

    /// Removes entries older than the maximum age.
    pub(super) fn remove_expired(&mut self, now: Instant) {
        let max_age = self.max_age;
        for activities in self.activity_entries_mut() {
            while activities.front().is_some_and(|entry| now >= entry.recorded_at + max_age) {
                activities.pop_front();
            }
        }
        let erased = &mut self.erased.entries;
        while erased.front().is_some_and(|entry| now >= entry.recorded_at + max_age) {
            erased.pop_front();
        }
    }

    /// Returns the time of the next expiry.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let kinds = [&self.decisions, &self.mid_call_requests, &self.events].into_iter();
        let activities = kinds.filter_map(|kind| Some(kind.entries.front()?.recorded_at));
        let erased = self.erased.entries.front().map(|entry| entry.recorded_at);
        activities.chain(erased).min().map(|oldest| oldest + self.max_age)
    }
}

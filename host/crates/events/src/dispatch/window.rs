//! The delivery window of one consumer: the events that were read from the journal
//! and are not acknowledged yet.
//!
//! Events of one call are delivered one at a time and in order. Calls do not wait for each
//! other. The window is bounded; further events stay in the journal.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use plugboard_core::call_id::CallId;
use plugboard_store::{JournalEvent, Seq};

/// The maximum number of events in a window.
const MAX_EVENTS: usize = 4_096;

/// The maximum memory of the events in a window, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// An event that is not acknowledged.
#[derive(Clone)]
pub(super) struct PendingDelivery {
    pub(super) event: Arc<JournalEvent>,
    /// The number of failed attempts.
    pub(super) attempts: u32,
}

impl PendingDelivery {
    fn call_id(&self) -> CallId {
        self.event.event.call.call_id()
    }
}

/// The unacknowledged events of a consumer, see the [module](self).
#[derive(Default)]
pub(super) struct DeliveryWindow {
    calls: HashMap<CallId, CallQueue>,
    /// The calls whose next event can be delivered now.
    ready: VecDeque<CallId>,
    /// The events that are retried later, by time.
    backing_off: BTreeSet<(Instant, Seq)>,
    /// The call of each event that is retried later.
    backing_off_calls: HashMap<Seq, CallId>,
    /// The failed attempts of every event in the window.
    unacked: BTreeMap<Seq, u32>,
    bytes: usize,
}

/// The events of a call. The first one is in flight, backing off or ready.
#[derive(Default)]
struct CallQueue {
    deliveries: VecDeque<PendingDelivery>,
    attempts: u32,
}

impl DeliveryWindow {
    /// Returns whether more events can be added.
    pub(super) fn has_room(&self) -> bool {
        self.unacked.len() < MAX_EVENTS && self.bytes < MAX_BYTES
    }

    /// Returns the number of events.
    pub(super) fn len(&self) -> usize {
        self.unacked.len()
    }

    /// Adds an event that is later than all others of its call.
    pub(super) fn push(&mut self, delivery: PendingDelivery) {
        let PendingDelivery { event, attempts } = &delivery;
        if self.unacked.insert(event.seq, *attempts).is_some() {
            return;
        }
        self.bytes += event.size;
        let call = delivery.call_id();
        let queue = self.calls.entry(call.clone()).or_default();
        if queue.deliveries.is_empty() {
            queue.attempts = *attempts;
            self.ready.push_back(call);
        }
        queue.deliveries.push_back(delivery);
    }

    /// Returns the next event to deliver. It stays in the window until it is
    /// acknowledged.
    pub(super) fn next(&mut self, now: Instant) -> Option<PendingDelivery> {
        while let Some((_, seq)) =
            self.backing_off.first().filter(|(retry_at, _)| *retry_at <= now).copied()
        {
            self.backing_off.pop_first();
            self.ready.extend(self.backing_off_calls.remove(&seq));
        }
        let call = self.ready.pop_front()?;
        let queue = self.calls.get(&call)?;
        let first = queue.deliveries.front()?;
        Some(PendingDelivery { event: Arc::clone(&first.event), attempts: queue.attempts })
    }

    /// Returns the time of the earliest retry.
    pub(super) fn next_retry_at(&self) -> Option<Instant> {
        self.backing_off.first().map(|(retry_at, _)| *retry_at)
    }

    /// Acknowledges an event: it was delivered, or is a dead letter.
    pub(super) fn ack(&mut self, delivery: &PendingDelivery) {
        let call = delivery.call_id();
        self.unacked.remove(&delivery.event.seq);
        self.bytes = self.bytes.saturating_sub(delivery.event.size);
        let Some(queue) = self.calls.get_mut(&call) else { return };
        queue.deliveries.pop_front();
        match queue.deliveries.front() {
            Some(next) => {
                queue.attempts = next.attempts;
                self.ready.push_back(call);
            }
            None => {
                self.calls.remove(&call);
            }
        }
    }

    /// Schedules the next attempt of an event.
    pub(super) fn retry_at(&mut self, delivery: &PendingDelivery, retry_time: Instant) {
        let (call, seq) = (delivery.call_id(), delivery.event.seq);
        if let Some(queue) = self.calls.get_mut(&call) {
            queue.attempts = delivery.attempts;
        }
        self.unacked.insert(seq, delivery.attempts);
        self.backing_off.insert((retry_time, seq));
        self.backing_off_calls.insert(seq, call);
    }

    /// Makes all events that back off ready, without failed attempts.
    pub(super) fn reset_backoff(&mut self) {
        for (_, seq) in std::mem::take(&mut self.backing_off) {
            let Some(call) = self.backing_off_calls.remove(&seq) else { continue };
            if let Some(queue) = self.calls.get_mut(&call) {
                queue.attempts = 0;
            }
            self.unacked.insert(seq, 0);
            self.ready.push_back(call);
        }
    }

    /// Removes the erased events that are not in flight. Returns whether the window had any.
    pub(super) fn remove_erased(&mut self, is_erased: impl Fn(&JournalEvent) -> bool) -> bool {
        let idle: HashSet<CallId> =
            self.ready.iter().chain(self.backing_off_calls.values()).cloned().collect();
        let count_before = self.unacked.len();
        let Self { calls, ready, backing_off, backing_off_calls, unacked, bytes } = self;
        for (call, queue) in &mut *calls {
            let mut is_in_flight = !idle.contains(call);
            queue.deliveries.retain(|delivery| {
                let event = &delivery.event;
                if std::mem::take(&mut is_in_flight) || !is_erased(event) {
                    return true;
                }
                unacked.remove(&event.seq);
                *bytes = bytes.saturating_sub(event.size);
                // The next event of the call need not back off.
                ready.extend(backing_off_calls.remove(&event.seq));
                false
            });
            if let Some(first) = queue.deliveries.front()
                && idle.contains(call)
                && !backing_off_calls.contains_key(&first.event.seq)
            {
                queue.attempts = unacked.get(&first.event.seq).copied().unwrap_or(0);
            }
        }
        backing_off.retain(|(_, seq)| unacked.contains_key(seq));
        calls.retain(|_, queue| !queue.deliveries.is_empty());
        ready.retain(|call| calls.contains_key(call));
        unacked.len() < count_before
    }

    /// Returns all events with their failed attempts, in order.
    pub(super) fn unacked(&self) -> Vec<(Seq, u32)> {
        self.unacked.iter().map(|(seq, attempts)| (*seq, *attempts)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use plugboard_core::event::{Event, EventBody};
    use plugboard_core::event_id::EventId;
    use plugboard_core::testing::call;

    pub(in crate::dispatch) fn delivery(seq: Seq, id: &str) -> PendingDelivery {
        let mut call = call("1", "2", "{}");
        call.id = id.into();
        let timestamp = jiff::Timestamp::UNIX_EPOCH;
        let event =
            Event { call: Arc::new(call), timestamp, body: EventBody::Started, delivery_id: None };
        let event = JournalEvent {
            seq,
            event_id: EventId([0; 16]),
            accepted_at: 0,
            target: None,
            event: Arc::new(event),
            size: 100,
        };
        PendingDelivery { event: Arc::new(event), attempts: 0 }
    }

    fn seq_of(delivery: Option<&PendingDelivery>) -> Option<Seq> {
        delivery.map(|delivery| delivery.event.seq)
    }

    #[test]
    fn window_delivers_in_order_per_call_and_calls_concurrently() {
        let (mut window, now) = (DeliveryWindow::default(), Instant::now());
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            window.push(delivery(seq, call));
        }
        let a = window.next(now).unwrap();
        let b = window.next(now).unwrap();
        assert_eq!((seq_of(Some(&a)), seq_of(Some(&b))), (Some(1), Some(3)));
        assert!(window.next(now).is_none());
        window.ack(&b);
        assert!(window.next(now).is_none());
        window.ack(&a);
        let a = window.next(now).unwrap();
        assert_eq!(seq_of(Some(&a)), Some(2));
        assert_eq!(window.unacked(), [(2, 0), (4, 0)]);
        window.ack(&a);
        let a = window.next(now).unwrap();
        window.ack(&a);
        assert_eq!((window.len(), window.bytes, window.calls.len()), (0, 0, 0));
    }

    #[test]
    fn failed_delivery_delays_only_its_own_call() {
        let (mut window, now) = (DeliveryWindow::default(), Instant::now());
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b")] {
            window.push(delivery(seq, call));
        }
        let mut failed = window.next(now).unwrap();
        failed.attempts += 1;
        let later = now + Duration::from_secs(1);
        window.retry_at(&failed, later);
        assert_eq!(seq_of(window.next(now).as_ref()), Some(3));
        assert_eq!(
            (seq_of(window.next(now).as_ref()), window.next_retry_at()),
            (None, Some(later))
        );
        let retried = window.next(later).unwrap();
        assert_eq!((retried.event.seq, retried.attempts), (1, 1));
        assert_eq!(window.unacked(), [(1, 1), (2, 0), (3, 0)]);
        window.ack(&retried);
        let next = window.next(later).unwrap();
        assert_eq!((next.event.seq, next.attempts), (2, 0));
    }

    #[test]
    fn erased_events_leave_window_and_unblock_their_call() {
        let (mut window, now) = (DeliveryWindow::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "a"), (7, "d")] {
            window.push(delivery(seq, call));
        }
        // The events of the erased call are backing off, in flight and ready; other events are
        // ready.
        let mut failed = window.next(now).unwrap();
        failed.attempts += 1;
        window.retry_at(&failed, later);
        let in_flight = window.next(now).unwrap();
        assert_eq!((failed.event.seq, in_flight.event.seq), (1, 3));
        assert!(window.remove_erased(|event| event.seq <= 5));
        assert!(!window.remove_erased(|event| event.seq <= 5));
        assert_eq!(window.unacked(), [(3, 0), (6, 0), (7, 0)]);
        assert_eq!((window.bytes, window.next_retry_at()), (300, None));
        let next: Vec<_> = std::iter::from_fn(|| window.next(now)).collect();
        let mut seqs: Vec<Seq> = next.iter().map(|delivery| delivery.event.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [6, 7]);
        assert!(next.iter().all(|delivery| delivery.attempts == 0));
        for delivery in next.iter().chain([&in_flight]) {
            window.ack(delivery);
        }
        assert_eq!((window.len(), window.bytes, window.calls.len()), (0, 0, 0));
    }

    #[test]
    fn window_is_full_at_max_events() {
        let mut window = DeliveryWindow::default();
        for seq in 0..MAX_EVENTS as Seq {
            assert!(window.has_room());
            window.push(delivery(seq, "a"));
        }
        assert!(!window.has_room());
    }
}

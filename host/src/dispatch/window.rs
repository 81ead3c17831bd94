//! The events that one observer has before it: read from the journal, and not
//! done. Of each call one is told at a time, in order; calls do not wait for one
//! another. Bounded; what does not fit stays in the journal.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use crate::store::{Seq, Stored};

/// Events in it.
const MOST: usize = 4_096;

/// Their memory in bytes.
const MOST_BYTES: usize = 16 << 20;

/// An event that is to be told.
#[derive(Clone)]
pub(super) struct Delivery {
    /// The event.
    pub(super) event: Arc<Stored>,
    /// How often it was tried, and failed.
    pub(super) attempts: u32,
}

impl Delivery {
    fn call(&self) -> CallKey {
        let call = &self.event.event.call;
        (call.platform.family, call.id.as_str().into())
    }
}

/// Platforms that are brands of one another are mixed within a call.
type CallKey = (&'static str, Arc<str>);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Window {
    calls: HashMap<CallKey, Queue>,
    /// Calls whose next event can be told now.
    ready: VecDeque<CallKey>,
    /// Calls whose next event is tried again later.
    resting: BTreeSet<(Instant, Seq)>,
    /// The call of each event that rests.
    resting_calls: HashMap<Seq, CallKey>,
    /// Every event here, with its attempts.
    undone: BTreeMap<Seq, u32>,
    bytes: usize,
}

/// The events of a call; the first is being told, rests or is ready.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Delivery>,
    attempts: u32,
}

impl Window {
    /// Whether more can be read.
    pub(super) fn has_room(&self) -> bool {
        self.undone.len() < MOST && self.bytes < MOST_BYTES
    }

    /// How many events are here.
    pub(super) fn len(&self) -> usize {
        self.undone.len()
    }

    /// Adds an event, later than all of its call.
    pub(super) fn push(&mut self, delivery: Delivery) {
        let Delivery { event, attempts } = &delivery;
        if self.undone.insert(event.seq, *attempts).is_some() {
            return;
        }
        self.bytes += event.size;
        let call = delivery.call();
        let queue = self.calls.entry(call.clone()).or_default();
        if queue.waiting.is_empty() {
            queue.attempts = *attempts;
            self.ready.push_back(call);
        }
        queue.waiting.push_back(delivery);
    }

    /// The next event to be told. It stays here until it is done.
    pub(super) fn next(&mut self, now: Instant) -> Option<Delivery> {
        while let Some((_, seq)) = self.resting.first().filter(|(until, _)| *until <= now).copied()
        {
            self.resting.pop_first();
            self.ready.extend(self.resting_calls.remove(&seq));
        }
        let call = self.ready.pop_front()?;
        let queue = self.calls.get(&call)?;
        let first = queue.waiting.front()?;
        Some(Delivery { event: Arc::clone(&first.event), attempts: queue.attempts })
    }

    /// When an event that rests can be told.
    pub(super) fn next_rested(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// An event was told, or given up.
    pub(super) fn done(&mut self, delivery: &Delivery) {
        let call = delivery.call();
        self.undone.remove(&delivery.event.seq);
        self.bytes = self.bytes.saturating_sub(delivery.event.size);
        let Some(queue) = self.calls.get_mut(&call) else { return };
        queue.waiting.pop_front();
        match queue.waiting.front() {
            Some(next) => {
                queue.attempts = next.attempts;
                self.ready.push_back(call);
            }
            None => {
                self.calls.remove(&call);
            }
        }
    }

    /// An event is to be told again, not before then.
    pub(super) fn again(&mut self, delivery: &Delivery, until: Instant) {
        let (call, seq) = (delivery.call(), delivery.event.seq);
        if let Some(queue) = self.calls.get_mut(&call) {
            queue.attempts = delivery.attempts;
        }
        self.undone.insert(seq, delivery.attempts);
        self.resting.insert((until, seq));
        self.resting_calls.insert(seq, call);
    }

    /// What rests can be told now, and counts as not tried yet.
    pub(super) fn afresh(&mut self) {
        for (_, seq) in std::mem::take(&mut self.resting) {
            let Some(call) = self.resting_calls.remove(&seq) else { continue };
            if let Some(queue) = self.calls.get_mut(&call) {
                queue.attempts = 0;
            }
            self.undone.insert(seq, 0);
            self.ready.push_back(call);
        }
    }

    /// Takes out events, but for one that is being told. Whether there were any.
    pub(super) fn erase(&mut self, is_erased: impl Fn(&Stored) -> bool) -> bool {
        let idle: HashSet<CallKey> =
            self.ready.iter().chain(self.resting_calls.values()).cloned().collect();
        let before = self.undone.len();
        let Self { calls, ready, resting, resting_calls, undone, bytes } = self;
        for (call, queue) in &mut *calls {
            let mut is_told = !idle.contains(call);
            queue.waiting.retain(|delivery| {
                let event = &delivery.event;
                if std::mem::take(&mut is_told) || !is_erased(event) {
                    return true;
                }
                undone.remove(&event.seq);
                *bytes = bytes.saturating_sub(event.size);
                // Whatever comes after it need not rest.
                ready.extend(resting_calls.remove(&event.seq));
                false
            });
            if let Some(first) = queue.waiting.front()
                && idle.contains(call)
                && !resting_calls.contains_key(&first.event.seq)
            {
                queue.attempts = undone.get(&first.event.seq).copied().unwrap_or(0);
            }
        }
        resting.retain(|(_, seq)| undone.contains_key(seq));
        calls.retain(|_, queue| !queue.waiting.is_empty());
        ready.retain(|call| calls.contains_key(call));
        undone.len() < before
    }

    /// Every event here with its attempts, in order.
    pub(super) fn undone(&self) -> Vec<(Seq, u32)> {
        self.undone.iter().map(|(seq, attempts)| (*seq, *attempts)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::tests::call;
    use crate::event::{Event, EventBody};
    use crate::store::Identity;

    pub(in crate::dispatch) fn delivery(seq: Seq, id: &str) -> Delivery {
        let mut call = call("1", "2", "{}");
        call.id = id.to_owned();
        let timestamp = jiff::Timestamp::UNIX_EPOCH;
        let event =
            Event { call: Arc::new(call), timestamp, body: EventBody::Started, delivery: None };
        let stored = Stored {
            seq,
            identity: Identity([0; 16]),
            accepted: 0,
            only: None,
            event: Arc::new(event),
            size: 100,
        };
        Delivery { event: Arc::new(stored), attempts: 0 }
    }

    fn seq(delivery: Option<&Delivery>) -> Option<Seq> {
        delivery.map(|delivery| delivery.event.seq)
    }

    #[test]
    fn a_call_is_told_one_by_one_and_calls_beside_one_another() {
        let (mut window, now) = (Window::default(), Instant::now());
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            window.push(delivery(seq, call));
        }
        let a = window.next(now).unwrap();
        let b = window.next(now).unwrap();
        assert_eq!((seq(Some(&a)), seq(Some(&b))), (Some(1), Some(3)));
        assert!(window.next(now).is_none());
        window.done(&b);
        assert!(window.next(now).is_none());
        window.done(&a);
        let a = window.next(now).unwrap();
        assert_eq!(seq(Some(&a)), Some(2));
        assert_eq!(window.undone(), [(2, 0), (4, 0)]);
        window.done(&a);
        let a = window.next(now).unwrap();
        window.done(&a);
        assert_eq!((window.len(), window.bytes, window.calls.len()), (0, 0, 0));
    }

    #[test]
    fn what_failed_holds_up_its_call_alone_and_rests() {
        let (mut window, now) = (Window::default(), Instant::now());
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b")] {
            window.push(delivery(seq, call));
        }
        let mut failed = window.next(now).unwrap();
        failed.attempts += 1;
        let later = now + Duration::from_secs(1);
        window.again(&failed, later);
        assert_eq!(seq(window.next(now).as_ref()), Some(3));
        assert_eq!((seq(window.next(now).as_ref()), window.next_rested()), (None, Some(later)));
        let again = window.next(later).unwrap();
        assert_eq!((again.event.seq, again.attempts), (1, 1));
        assert_eq!(window.undone(), [(1, 1), (2, 0), (3, 0)]);
        window.done(&again);
        let next = window.next(later).unwrap();
        assert_eq!((next.event.seq, next.attempts), (2, 0));
    }

    #[test]
    fn what_is_erased_is_taken_out_and_holds_up_nothing() {
        let (mut window, now) = (Window::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        for (seq, call) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "a"), (7, "d")] {
            window.push(delivery(seq, call));
        }
        // Rests; is being told; is ready, as are those that are not erased.
        let mut failed = window.next(now).unwrap();
        failed.attempts += 1;
        window.again(&failed, later);
        let told = window.next(now).unwrap();
        assert_eq!((failed.event.seq, told.event.seq), (1, 3));
        assert!(window.erase(|event| event.seq <= 5));
        assert!(!window.erase(|event| event.seq <= 5));
        assert_eq!(window.undone(), [(3, 0), (6, 0), (7, 0)]);
        assert_eq!((window.bytes, window.next_rested()), (300, None));
        let next: Vec<_> = std::iter::from_fn(|| window.next(now)).collect();
        let mut seqs: Vec<Seq> = next.iter().map(|delivery| delivery.event.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [6, 7]);
        assert!(next.iter().all(|delivery| delivery.attempts == 0));
        for delivery in next.iter().chain([&told]) {
            window.done(delivery);
        }
        assert_eq!((window.len(), window.bytes, window.calls.len()), (0, 0, 0));
    }

    #[test]
    fn it_is_full_by_number_and_by_size() {
        let mut window = Window::default();
        for seq in 0..MOST as Seq {
            assert!(window.has_room());
            window.push(delivery(seq, "a"));
        }
        assert!(!window.has_room());
    }
}

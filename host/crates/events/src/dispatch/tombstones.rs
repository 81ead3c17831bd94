//! Tombstones of erased calls: an erased event is never delivered.
//!
//! Consumers remove erased events from their windows. A page that was read before the erasure
//! may reach a window after it, so every attempt checks the tombstones too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use plugboard_core::call_selector::CallSelector;
use plugboard_store::JournalEvent;
use plugboard_store::erase::ErasedRange;

/// The maximum number of tombstones. After some seconds, no page or window has an event of an
/// erased call, and fewer calls are erased in that time.
const MAX_TOMBSTONES: usize = 4_096;

/// The admission of an event's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryAdmission {
    /// The event may be delivered.
    Allowed,
    /// The call is being erased and the range is not known yet, so the event is delivered later
    /// or never.
    Held,
    /// The event was erased.
    Erased,
}

/// The tombstones, see the [module](self).
#[derive(Default)]
pub(super) struct Tombstones {
    state: Mutex<TombstoneState>,
    /// The number of erasures, which notifies the consumers.
    changes: watch::Sender<u64>,
    /// Notified when any delivery ends.
    delivery_ended: Notify,
}

#[derive(Default)]
struct TombstoneState {
    by_call_id: HashMap<Arc<str>, Vec<Tombstone>>,
    /// The tombstones, oldest first.
    order: VecDeque<(Arc<str>, u64)>,
    next_number: u64,
    /// The events whose deliveries are in flight.
    in_flight: Vec<Arc<JournalEvent>>,
}

struct Tombstone {
    number: u64,
    selector: CallSelector,
    /// The erased range. `None`: the call is being erased.
    range: Option<ErasedRange>,
}

impl Tombstones {
    /// Holds the deliveries of the selected calls until the erased range is known.
    pub(super) fn hold_deliveries(self: &Arc<Self>, selector: CallSelector) -> DeliveryHold {
        let mut state = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        let id = Arc::clone(selector.id());
        state.order.push_back((Arc::clone(&id), number));
        let tombstone = Tombstone { number, selector: selector.clone(), range: None };
        state.by_call_id.entry(id).or_default().push(tombstone);
        if state.order.len() > MAX_TOMBSTONES
            && let Some((id, number)) = state.order.pop_front()
        {
            state.remove(&id, number);
        }
        drop(state);
        DeliveryHold { tombstones: Arc::clone(self), selector, number, range: None }
    }

    /// Returns a receiver that changes with every erasure.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns whether an event was erased.
    pub(super) fn is_erased(&self, event: &JournalEvent) -> bool {
        self.state.lock().admission(event) == DeliveryAdmission::Erased
    }

    /// Admits the delivery of an event, which is in flight until the guard is dropped.
    ///
    /// # Errors
    ///
    /// Returns the reason why the event must not be delivered now.
    pub(super) fn begin_delivery<'a>(
        &'a self,
        event: &'a Arc<JournalEvent>,
    ) -> Result<DeliveryGuard<'a>, DeliveryAdmission> {
        let mut state = self.state.lock();
        match state.admission(event) {
            DeliveryAdmission::Allowed => {
                state.in_flight.push(Arc::clone(event));
                Ok(DeliveryGuard { tombstones: self, event })
            }
            admission => Err(admission),
        }
    }

    /// Runs `action` unless the event was or is being erased. `action` must be short, because
    /// no erasure can begin while it runs.
    ///
    /// # Errors
    ///
    /// Returns the reason why `action` was not run.
    pub(super) fn run_if_allowed<T>(
        &self,
        event: &JournalEvent,
        action: impl FnOnce() -> T,
    ) -> Result<T, DeliveryAdmission> {
        let state = self.state.lock();
        match state.admission(event) {
            DeliveryAdmission::Allowed => Ok(action()),
            admission => Err(admission),
        }
    }
}

impl TombstoneState {
    fn admission(&self, event: &JournalEvent) -> DeliveryAdmission {
        let call = &event.event.call;
        let Some(tombstones) = self.by_call_id.get(&call.id) else {
            return DeliveryAdmission::Allowed;
        };
        let mut admission = DeliveryAdmission::Allowed;
        for Tombstone { range, .. } in
            tombstones.iter().filter(|tombstone| tombstone.selector.matches(call))
        {
            match range {
                Some(range) if range.contains(event) => return DeliveryAdmission::Erased,
                Some(_) => {}
                None => admission = DeliveryAdmission::Held,
            }
        }
        admission
    }

    fn find_tombstone(&mut self, id: &str, number: u64) -> Option<&mut Tombstone> {
        self.by_call_id.get_mut(id)?.iter_mut().find(|tombstone| tombstone.number == number)
    }

    fn remove(&mut self, id: &Arc<str>, number: u64) {
        if let Some(tombstones) = self.by_call_id.get_mut(id) {
            tombstones.retain(|tombstone| tombstone.number != number);
            if tombstones.is_empty() {
                self.by_call_id.remove(id);
            }
        }
    }
}

/// A delivery that is in flight until this is dropped.
pub(super) struct DeliveryGuard<'a> {
    tombstones: &'a Tombstones,
    event: &'a Arc<JournalEvent>,
}

impl Drop for DeliveryGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.tombstones.state.lock();
        let index = state.in_flight.iter().position(|event| Arc::ptr_eq(event, self.event));
        if let Some(place) = index {
            state.in_flight.swap_remove(place);
        }
        drop(state);
        self.tombstones.delivery_ended.notify_waiters();
    }
}

/// Holds the deliveries of a call that is being erased. If it is dropped without a
/// range, they continue.
pub struct DeliveryHold {
    tombstones: Arc<Tombstones>,
    selector: CallSelector,
    number: u64,
    range: Option<ErasedRange>,
}

impl DeliveryHold {
    /// Ends the hold: events in `range` are erased, later ones are delivered.
    pub fn set_erased_range(&mut self, range: ErasedRange) {
        self.range = Some(range);
        if let Some(tombstone) =
            self.tombstones.state.lock().find_tombstone(self.selector.id(), self.number)
        {
            tombstone.range = self.range;
        }
        self.tombstones.changes.send_modify(|count| *count += 1);
    }

    /// Waits until no delivery of an erased event is in flight. Returns `false` after
    /// `max_wait`.
    pub async fn wait_for_deliveries(&self, max_wait: Duration) -> bool {
        let all_ended = async {
            loop {
                let mut delivery_ended = std::pin::pin!(self.tombstones.delivery_ended.notified());
                // Registers before the check, so that no notification is missed.
                delivery_ended.as_mut().enable();
                if !self.has_deliveries() {
                    return;
                }
                delivery_ended.await;
            }
        };
        timeout(max_wait, all_ended).await.is_ok()
    }

    fn has_deliveries(&self) -> bool {
        let is_erased = |event: &JournalEvent| {
            self.range.is_some_and(|reach| reach.contains(event))
                && self.selector.matches(&event.event.call)
        };
        self.tombstones.state.lock().in_flight.iter().any(|event| is_erased(event))
    }
}

impl Drop for DeliveryHold {
    fn drop(&mut self) {
        if self.range.is_none() {
            let mut state = self.tombstones.state.lock();
            state.remove(self.selector.id(), self.number);
            state.order.retain(|(_, number)| *number != self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::delivery;
    use super::*;

    fn event(seq: i64, call: &str) -> Arc<JournalEvent> {
        delivery(seq, call).event
    }

    fn selector(id: &str) -> CallSelector {
        CallSelector::new(id, None).unwrap()
    }

    const RANGE: ErasedRange = ErasedRange { up_to: 2, redriven_up_to: 3 };

    #[tokio::test]
    async fn held_events_are_erased_and_later_events_are_allowed() {
        let tombstones = Arc::new(Tombstones::default());
        let (before, later, other) = (event(2, "a"), event(3, "a"), event(1, "b"));
        let mut delivery_hold = tombstones.hold_deliveries(selector("a"));
        assert_eq!(tombstones.begin_delivery(&before).err(), Some(DeliveryAdmission::Held));
        assert_eq!(tombstones.run_if_allowed(&later, || ()).err(), Some(DeliveryAdmission::Held));
        assert!(tombstones.begin_delivery(&other).is_ok() && !tombstones.is_erased(&before));
        delivery_hold.set_erased_range(RANGE);
        drop(delivery_hold);
        assert_eq!(tombstones.begin_delivery(&before).err(), Some(DeliveryAdmission::Erased));
        assert_eq!(
            tombstones.run_if_allowed(&before, || ()).err(),
            Some(DeliveryAdmission::Erased)
        );
        assert!(tombstones.is_erased(&before) && tombstones.begin_delivery(&later).is_ok());
        // A hold that is dropped without an erased range.
        drop(tombstones.hold_deliveries(selector("a")));
        assert!(tombstones.begin_delivery(&later).is_ok());
    }

    #[tokio::test]
    async fn delivery_hold_waits_for_deliveries_in_flight() {
        let tombstones = Arc::new(Tombstones::default());
        let event = event(1, "a");
        let delivery_guard = tombstones.begin_delivery(&event).ok().unwrap();
        let mut delivery_hold = tombstones.hold_deliveries(selector("a"));
        delivery_hold.set_erased_range(RANGE);
        assert!(!delivery_hold.wait_for_deliveries(Duration::from_millis(20)).await);
        let (ended, ()) =
            tokio::join!(delivery_hold.wait_for_deliveries(Duration::from_secs(20)), async {
                drop(delivery_guard)
            });
        assert!(ended);
    }

    #[tokio::test]
    async fn tombstones_are_bounded() {
        let tombstones = Arc::new(Tombstones::default());
        for nth in 0..MAX_TOMBSTONES + 10 {
            tombstones.hold_deliveries(selector(&nth.to_string())).set_erased_range(RANGE);
        }
        let state = tombstones.state.lock();
        assert_eq!((state.order.len(), state.by_call_id.len()), (MAX_TOMBSTONES, MAX_TOMBSTONES));
    }
}

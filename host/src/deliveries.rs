//! Deliveries that come again: the platform did not hear our answer, or hears it
//! twice. It gets the same one, and no plugin is asked.
//!
//! Answers are kept in two maps, of which the older one is dropped as a whole
//! when the newer one is full or has grown old; that costs an insertion and two
//! look-ups for each call. (A cache with an order of eviction costs as much as
//! all the rest of a decision that is cached.)

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::event::{Event, Platform};
use crate::router::Outcome;

/// Answers in one of the two maps. Some hundred bytes each.
const MOST: usize = 50_000;

/// What makes two deliveries the same. (Only one type of event is answered.)
#[derive(PartialEq, Eq, Hash)]
struct Delivery {
    platform: Platform,
    call: Box<str>,
    timestamp: jiff::Timestamp,
}

/// The answer to a delivery, once there is one. Whoever comes while it is being
/// looked for waits; if whoever looks for it goes away, the next one does.
pub type Slot = Arc<OnceCell<Arc<Outcome>>>;

/// The answers of the last deliveries.
pub struct Deliveries {
    /// For how long at the least, unless there are very many.
    keep: Duration,
    maps: Mutex<Maps>,
}

struct Maps {
    newer: HashMap<Delivery, Slot>,
    older: HashMap<Delivery, Slot>,
    since: Instant,
}

impl Deliveries {
    /// No answers yet.
    pub fn new(keep: Duration) -> Self {
        let maps = Maps { newer: HashMap::new(), older: HashMap::new(), since: Instant::now() };
        Self { keep, maps: Mutex::new(maps) }
    }

    /// The place of a delivery's answer; and whether it has come before.
    pub fn slot(&self, event: &Event, now: Instant) -> (Slot, bool) {
        let delivery = Delivery {
            platform: event.call.platform,
            call: event.call.id.as_str().into(),
            timestamp: event.timestamp,
        };
        let mut maps = self.lock();
        let gone = maps.turn(now, self.keep);
        let found = maps.newer.get(&delivery).or_else(|| maps.older.get(&delivery));
        if let Some(slot) = found {
            return (Arc::clone(slot), true);
        }
        let slot = Slot::default();
        maps.newer.insert(delivery, Arc::clone(&slot));
        drop(maps);
        // Tens of thousands of entries, and nobody shall wait for that.
        drop(gone);
        (slot, false)
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    /// Begins a new map if it is time to. What is not needed any more.
    fn turn(&mut self, now: Instant, keep: Duration) -> Option<HashMap<Delivery, Slot>> {
        let age = now.saturating_duration_since(self.since);
        if age < keep && self.newer.len() < MOST {
            return None;
        }
        self.since = now;
        let newer = mem::take(&mut self.newer);
        let older = mem::replace(&mut self.older, newer);
        if age >= 2 * keep {
            // Nobody called for so long that both are old.
            self.older = HashMap::new();
        }
        Some(older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventBody;
    use crate::event::tests::call;

    fn event(id: &str, timestamp: i64) -> Event {
        let mut call = call("2000", "5001", "{}");
        call.id = id.to_owned();
        let timestamp = jiff::Timestamp::from_millisecond(timestamp).unwrap();
        Event { call, timestamp, body: EventBody::Initiated }
    }

    #[test]
    fn a_delivery_is_its_call_its_time_and_its_platform() {
        let deliveries = Deliveries::new(Duration::from_secs(60));
        let come = |event: &Event| deliveries.slot(event, Instant::now()).1;
        assert!(!come(&event("a", 1)));
        assert!(come(&event("a", 1)));
        assert!(!come(&event("a", 2)));
        assert!(!come(&event("b", 1)));
        let mut other = event("a", 1);
        other.call.platform = Platform::Dsai;
        assert!(!come(&other));
    }

    #[test]
    fn answers_are_kept_for_a_time_and_not_for_ever() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let deliveries = Deliveries::new(10 * second);
        let come = |id, at: u32| deliveries.slot(&event(id, 1), start + at * second).1;
        assert!(!come("a", 0));
        assert!(!come("b", 9));
        assert!(come("a", 9) && come("b", 18));
        assert!(!come("a", 31));
        assert!(!come("b", 60));
    }

    #[test]
    fn their_number_is_bounded() {
        let deliveries = Deliveries::new(Duration::from_secs(60));
        let now = Instant::now();
        for nth in 0..3 * MOST {
            deliveries.slot(&event(&nth.to_string(), 1), now);
        }
        let maps = deliveries.lock();
        assert!(maps.newer.len() + maps.older.len() <= 2 * MOST);
    }
}

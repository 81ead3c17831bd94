//! Deliveries that come again: the platform did not hear our answer, or hears it
//! twice. It gets the same one, and no plugin is asked.
//!
//! What was ruled is kept in two maps, of which the older one is dropped as a whole
//! when the newer one is full or has grown old. All of it is small and in place,
//! since every call leaves something here: with texts of its own for each, this
//! was the better part of a cached decision.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::decision::Verdict;
use crate::event::Event;
use crate::router::{Ruling, Source};

/// Rulings in one of the two maps, as many as fill a table of 32,768 places: a
/// minute of four hundred calls a second.
const MOST: usize = 28_000;

/// Bytes of the rulings' texts that came while one of the maps was the newer one,
/// but for those that the cache had: it takes a plugin that writes a long prompt
/// for each call to fill it.
const MOST_BYTES: usize = 32 << 20;

/// What makes two deliveries the same: platform, call and time. (Only one type of
/// event is answered.) Two hashes with keys of their own that nobody outside
/// knows: it would take 10^33 calls until one is taken for another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Delivery(u64, u64);

/// One of the two hashes will do for the maps: nobody can choose it.
impl Hash for Delivery {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes a hash for a hash.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Not used: a [`Delivery`] is a number.
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Map = HashMap<Delivery, Slot, BuildHasherDefault<Hashed>>;

/// A ruling, once there is one. Whoever comes while it is being looked for waits;
/// if whoever looks for it goes away, the next one does.
pub type Pending = Arc<OnceCell<Ruling>>;

/// What is known of a delivery.
pub enum Known {
    /// There is no ruling yet.
    Waiting(Ticket),
    /// It was answered.
    Ruled(Ruling),
}

/// A delivery that waits for its ruling.
pub struct Ticket {
    delivery: Delivery,
    /// Where the ruling comes.
    pub pending: Pending,
}

enum Slot {
    Pending(Pending),
    Ruled(Ruling),
}

/// The rulings of the last deliveries.
pub struct Deliveries {
    /// For how long at the least, unless there are very many.
    keep: Duration,
    keys: [RandomState; 2],
    maps: Mutex<Maps>,
}

struct Maps {
    newer: Map,
    older: Map,
    since: Instant,
    /// Of the texts of all rulings that came since then.
    bytes: usize,
}

impl Deliveries {
    /// No rulings yet.
    pub fn new(keep: Duration) -> Self {
        let maps = Maps { newer: empty(), older: Map::default(), since: Instant::now(), bytes: 0 };
        Self { keep, keys: [RandomState::new(), RandomState::new()], maps: Mutex::new(maps) }
    }

    /// What is known of a delivery. A new one is known from now on.
    pub fn look_up(&self, event: &Event, now: Instant) -> Known {
        let identity = (event.call.platform, &event.call.id, event.timestamp);
        let [one, other] = self.keys.each_ref().map(|key| key.hash_one(identity));
        let delivery = Delivery(one, other);
        let mut maps = self.lock();
        let gone = maps.turn(now, self.keep);
        let Maps { newer, older, .. } = &mut *maps;
        let slot = match older.get(&delivery) {
            Some(slot) => slot,
            None => newer.entry(delivery).or_insert_with(|| Slot::Pending(Pending::default())),
        };
        let known = match slot {
            Slot::Ruled(ruling) => Known::Ruled(ruling.clone()),
            Slot::Pending(pending) => {
                Known::Waiting(Ticket { delivery, pending: Arc::clone(pending) })
            }
        };
        drop(maps);
        if let Some(gone) = gone {
            // Tens of thousands of entries; nobody shall wait for that.
            tokio::task::spawn_blocking(move || drop(gone));
        }
        known
    }

    /// Keeps the ruling on a delivery.
    pub fn ruled(&self, ticket: &Ticket, ruling: &Ruling) {
        let Maps { newer, older, bytes, .. } = &mut *self.lock();
        let slot = newer.get_mut(&ticket.delivery).or_else(|| older.get_mut(&ticket.delivery));
        if let Some(slot @ Slot::Pending(_)) = slot {
            // What the cache had is shared with it.
            if ruling.source == Source::Ran {
                *bytes += ruling.verdict.as_ref().map_or(0, Verdict::size);
            }
            *slot = Slot::Ruled(ruling.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    /// Begins a new map if it is time to. What is not needed any more.
    fn turn(&mut self, now: Instant, keep: Duration) -> Option<Vec<Map>> {
        let age = now.saturating_duration_since(self.since);
        if age < keep && self.newer.len() < MOST && self.bytes < MOST_BYTES {
            return None;
        }
        (self.since, self.bytes) = (now, 0);
        let newer = mem::replace(&mut self.newer, empty());
        let mut gone = vec![mem::replace(&mut self.older, newer)];
        if age >= 2 * keep {
            // Nobody called for so long that both are old.
            gone.push(mem::take(&mut self.older));
        }
        Some(gone)
    }
}

/// A map that never has to grow while calls wait for it. Memory that is not used
/// is not taken.
fn empty() -> Map {
    Map::with_capacity_and_hasher(MOST, BuildHasherDefault::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::call;
    use crate::event::{EventBody, Platform};

    fn event(id: &str, timestamp: i64) -> Event {
        let mut call = call("2000", "5001", "{}");
        call.id = id.to_owned();
        let timestamp = jiff::Timestamp::from_millisecond(timestamp).unwrap();
        Event { call: Arc::new(call), timestamp, body: EventBody::Initiated }
    }

    /// Whether a delivery has come before; it has from now on.
    fn has_come(deliveries: &Deliveries, event: &Event, now: Instant) -> bool {
        let ruling =
            Ruling { verdict: Ok(Verdict::Pass), by: None, source: Source::Ran, failures: 0 };
        match deliveries.look_up(event, now) {
            Known::Waiting(ticket) => deliveries.ruled(&ticket, &ruling),
            Known::Ruled(_) => return true,
        }
        false
    }

    #[tokio::test]
    async fn a_delivery_is_its_call_its_time_and_its_platform() {
        let deliveries = Deliveries::new(Duration::from_secs(60));
        let come = |event: &Event| has_come(&deliveries, event, Instant::now());
        assert!(!come(&event("a", 1)));
        assert!(come(&event("a", 1)));
        assert!(!come(&event("a", 2)));
        assert!(!come(&event("b", 1)));
        let mut other = event("a", 1);
        Arc::make_mut(&mut other.call).platform = Platform::Dsai;
        assert!(!come(&other));
    }

    #[tokio::test]
    async fn answers_are_kept_for_a_time_and_not_for_ever() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let deliveries = Deliveries::new(10 * second);
        let come = |id, at: u32| has_come(&deliveries, &event(id, 1), start + at * second);
        assert!(!come("a", 0));
        assert!(!come("b", 9));
        assert!(come("a", 9) && come("b", 18));
        assert!(!come("a", 31));
        assert!(!come("b", 60));
    }

    #[tokio::test]
    async fn their_number_and_size_are_bounded() {
        let deliveries = Deliveries::new(Duration::from_secs(60));
        let now = Instant::now();
        for nth in 0..3 * MOST {
            has_come(&deliveries, &event(&nth.to_string(), 1), now);
        }
        let count = || {
            let maps = deliveries.lock();
            maps.newer.len() + maps.older.len()
        };
        assert!(count() <= 2 * MOST);
        // A plugin with a long text of its own for each call.
        let reason = || "x".repeat(1 << 20).into();
        for nth in 0..200 {
            let Known::Waiting(ticket) = deliveries.look_up(&event(&nth.to_string(), 2), now)
            else {
                panic!("it came before");
            };
            let verdict = Ok(Verdict::Reject { reason: reason() });
            let (by, source) = (None, Source::Ran);
            deliveries.ruled(&ticket, &Ruling { verdict, by, source, failures: 0 });
        }
        assert!(count() <= 2 * 33, "{}", count());
    }
}

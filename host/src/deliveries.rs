//! Deliveries that come again: the platform did not hear our answer, or hears it
//! twice. It gets the same one, and no plugin is asked.
//!
//! What was answered is kept in two maps, of which the older one is dropped as a whole
//! when the newer one is full or has grown old. All of it is small and in place,
//! since every call leaves something here: with texts of its own for each, this
//! was the better part of a cached decision.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

/// How late a plugin may be: some of the engine's ticks.
const GRACE: Duration = Duration::from_millis(50);

/// Bytes of the answers' texts that came while one of the maps was the newer one,
/// but for those that a cache has as well: it takes a plugin that writes a long prompt
/// for each call to fill it.
const MOST_BYTES: usize = 32 << 20;

/// What makes two deliveries the same, as two hashes with keys of their own that
/// nobody outside knows: it would take 10^33 calls until one is taken for another.
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

type Map<A> = HashMap<Delivery, Slot<A>, BuildHasherDefault<Hashed>>;

/// An answer that may be asked for again. Quick to clone.
pub trait Kept: Clone {
    /// Bytes of its texts that nobody else keeps.
    fn bytes(&self) -> usize;
}

/// An answer, once there is one. Whoever comes while it is being looked for waits;
/// if whoever looks for it goes away, the next one does.
type Pending<A> = Arc<OnceCell<A>>;

/// What came of a delivery.
pub enum Once<A> {
    /// It was answered now.
    Now(A),
    /// It was answered before, or by another one that was under way.
    Before(A),
    /// Another one is under way, and took longer than this one could wait.
    Late,
}

/// What is known of a delivery.
enum Known<A> {
    /// There is no answer yet.
    Waiting(Delivery, Pending<A>),
    /// It was answered.
    Answered(A),
}

enum Slot<A> {
    Pending(Pending<A>),
    Answered {
        answer: A,
        /// A hash of the call that it was in.
        call: u64,
    },
}

/// The answers to the last deliveries.
pub struct Deliveries<A> {
    /// For how long at the least, unless there are very many.
    keep: Duration,
    /// Answers in one of the two maps.
    most: usize,
    keys: [RandomState; 2],
    maps: Mutex<Maps<A>>,
}

struct Maps<A> {
    newer: Map<A>,
    older: Map<A>,
    since: Instant,
    /// Of the texts of all answers that came since then.
    bytes: usize,
}

impl<A: Kept + Send + Sync + 'static> Deliveries<A> {
    /// No answers yet. There is room for `most` in one of the two maps, which are as
    /// many as fill a table if it is a little less than 7/8 of a power of two.
    pub fn new(keep: Duration, most: usize) -> Self {
        let (newer, older, since) = (empty(most), Map::default(), Instant::now());
        let maps = Maps { newer, older, since, bytes: 0 };
        Self { keep, most, keys: [RandomState::new(), RandomState::new()], maps: Mutex::new(maps) }
    }

    /// Drops what was answered in a call.
    pub fn forget(&self, call: &str) {
        let erased = self.hash_of(call);
        let others =
            |_: &_, slot: &mut _| !matches!(slot, Slot::Answered { call, .. } if *call == erased);
        let Maps { newer, older, .. } = &mut *self.lock();
        newer.retain(others);
        older.retain(others);
    }

    fn hash_of(&self, call: &str) -> u64 {
        let [key, _] = &self.keys;
        key.hash_one(call)
    }

    /// Answers a delivery in a call, unless it was answered before: `identity` is all
    /// else that tells it from others. Whoever asked first may have more time than is left here, so it
    /// is waited for until shortly after the deadline only; `answer` itself has to keep
    /// it.
    pub async fn once(
        &self,
        call: &str,
        identity: &impl Hash,
        deadline: Instant,
        answer: impl Future<Output = A>,
    ) -> Once<A> {
        let (delivery, pending) = match self.look_up(&(call, identity), Instant::now()) {
            Known::Answered(answer) => return Once::Before(answer),
            Known::Waiting(delivery, pending) => (delivery, pending),
        };
        let mut own = false;
        let answer = pending.get_or_init(async || {
            own = true;
            answer.await
        });
        let Ok(answer) = timeout_at(deadline + GRACE, answer).await else { return Once::Late };
        self.answered(delivery, call, answer);
        let answer = answer.clone();
        if own { Once::Now(answer) } else { Once::Before(answer) }
    }

    /// What is known of a delivery. A new one is known from now on.
    fn look_up(&self, identity: &impl Hash, now: Instant) -> Known<A> {
        let [one, other] = self.keys.each_ref().map(|key| key.hash_one(identity));
        let delivery = Delivery(one, other);
        let mut maps = self.lock();
        let gone = maps.turn(now, self.keep, self.most);
        let Maps { newer, older, .. } = &mut *maps;
        let slot = match older.get(&delivery) {
            Some(slot) => slot,
            None => newer.entry(delivery).or_insert_with(|| Slot::Pending(Pending::default())),
        };
        let known = match slot {
            Slot::Answered { answer, .. } => Known::Answered(answer.clone()),
            Slot::Pending(pending) => Known::Waiting(delivery, Arc::clone(pending)),
        };
        drop(maps);
        if let Some(gone) = gone {
            // Tens of thousands of entries; nobody shall wait for that.
            tokio::task::spawn_blocking(move || drop(gone));
        }
        known
    }

    /// Keeps the answer to a delivery.
    fn answered(&self, delivery: Delivery, call: &str, answer: &A) {
        let call = self.hash_of(call);
        let Maps { newer, older, bytes, .. } = &mut *self.lock();
        let slot = newer.get_mut(&delivery).or_else(|| older.get_mut(&delivery));
        if let Some(slot @ Slot::Pending(_)) = slot {
            *bytes += answer.bytes();
            *slot = Slot::Answered { answer: answer.clone(), call };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Maps<A>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Maps<A> {
    /// Begins a new map if it is time to. What is not needed any more.
    fn turn(&mut self, now: Instant, keep: Duration, most: usize) -> Option<Vec<Map<A>>> {
        let age = now.saturating_duration_since(self.since);
        if age < keep && self.newer.len() < most && self.bytes < MOST_BYTES {
            return None;
        }
        (self.since, self.bytes) = (now, 0);
        let newer = mem::replace(&mut self.newer, empty(most));
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
fn empty<A>(most: usize) -> Map<A> {
    Map::with_capacity_and_hasher(most, BuildHasherDefault::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1_000;

    impl Kept for Arc<str> {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    /// Whether a delivery has come before; it has from now on.
    fn has_come(deliveries: &Deliveries<Arc<str>>, identity: &impl Hash, now: Instant) -> bool {
        match deliveries.look_up(identity, now) {
            Known::Waiting(delivery, _) => deliveries.answered(delivery, "c", &"".into()),
            Known::Answered(_) => return true,
        }
        false
    }

    #[tokio::test]
    async fn answers_are_kept_for_a_time_and_not_for_ever() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let deliveries = Deliveries::new(10 * second, MOST);
        let come = |id, at: u32| has_come(&deliveries, &id, start + at * second);
        assert!(!come("a", 0));
        assert!(!come("b", 9));
        assert!(come("a", 9) && come("b", 18));
        assert!(!come("a", 31));
        assert!(!come("b", 60));
    }

    #[tokio::test]
    async fn a_call_can_be_forgotten() {
        let deliveries = Deliveries::<Arc<str>>::new(Duration::from_secs(60), MOST);
        let is_new = async |call, text: &str| {
            let answer = async { Arc::from(text) };
            let once = deliveries.once(call, &1, Instant::now(), answer).await;
            matches!(once, Once::Now(_))
        };
        assert!(is_new("a", "1").await && is_new("b", "1").await);
        assert!(!is_new("a", "2").await && !is_new("b", "2").await);
        deliveries.forget("a");
        assert!(is_new("a", "3").await && !is_new("b", "3").await);
    }

    #[tokio::test]
    async fn their_number_and_size_are_bounded() {
        let deliveries = Deliveries::<Arc<str>>::new(Duration::from_secs(60), MOST);
        let now = Instant::now();
        for nth in 0..3 * MOST {
            has_come(&deliveries, &("a", nth), now);
        }
        let count = || {
            let maps = deliveries.lock();
            maps.newer.len() + maps.older.len()
        };
        assert!(count() <= 2 * MOST);
        // A plugin with a long text of its own for each call.
        let text: Arc<str> = "x".repeat(1 << 20).into();
        for nth in 0..200 {
            let Known::Waiting(delivery, _) = deliveries.look_up(&("b", nth), now) else {
                panic!("it came before");
            };
            deliveries.answered(delivery, "c", &text);
        }
        assert!(count() <= 2 * 33, "{}", count());
    }
}

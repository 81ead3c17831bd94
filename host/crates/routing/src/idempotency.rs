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
const MAX_TEXT_BYTES: usize = 32 << 20;

/// What makes two deliveries the same, as two hashes with keys of their own that
/// nobody outside knows: it would take 10^33 calls until one is taken for another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct IdempotencyKey(u64, u64);

/// One of the two hashes will do for the maps: nobody can choose it.
impl Hash for IdempotencyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes a hash for a hash.
#[derive(Default)]
struct PrehashedHasher(u64);

impl Hasher for PrehashedHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Not used: a [`IdempotencyKey`] is a number.
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type AnswerMap<A> = HashMap<IdempotencyKey, AnswerSlot<A>, BuildHasherDefault<PrehashedHasher>>;

/// An answer that may be asked for again. Quick to clone.
pub trait Weigh: Clone {
    /// Bytes of its texts that nobody else keeps.
    fn bytes(&self) -> usize;
}

/// An answer, once there is one. Whoever comes while it is being looked for waits;
/// if whoever looks for it goes away, the next one does.
type PendingAnswer<A> = Arc<OnceCell<A>>;

/// What came of a delivery.
pub enum Replay<A> {
    /// It was answered now.
    Fresh(A),
    /// It was answered before, or by another one that was under way.
    Replayed(A),
    /// Another one is under way, and took longer than this one could wait.
    TimedOut,
}

/// What is known of a delivery.
enum KeyState<A> {
    /// There is no answer yet.
    Pending(IdempotencyKey, PendingAnswer<A>),
    /// It was answered.
    Answered(A),
}

enum AnswerSlot<A> {
    Pending(PendingAnswer<A>),
    Answered {
        answer: A,
        /// A hash of the call that it was in.
        call_hash: u64,
    },
}

/// The answers to the last deliveries.
pub struct IdempotencyCache<A> {
    /// For how long at the least, unless there are very many.
    ttl: Duration,
    /// Answers in one of the two maps.
    capacity: usize,
    hash_keys: [RandomState; 2],
    maps: Mutex<AnswerMaps<A>>,
}

struct AnswerMaps<A> {
    newer: AnswerMap<A>,
    older: AnswerMap<A>,
    newer_since: Instant,
    /// Of the texts of all answers that came since then.
    bytes: usize,
}

impl<A: Weigh + Send + Sync + 'static> IdempotencyCache<A> {
    /// No answers yet. There is room for `capacity` in one of the two maps, which are as
    /// many as fill a table if it is a little less than 7/8 of a power of two.
    pub fn new(ttl: Duration, capacity: usize) -> Self {
        let (newer, older, since) = (new_map(capacity), AnswerMap::default(), Instant::now());
        let maps = AnswerMaps { newer, older, newer_since: since, bytes: 0 };
        Self {
            ttl,
            capacity,
            hash_keys: [RandomState::new(), RandomState::new()],
            maps: Mutex::new(maps),
        }
    }

    /// Drops what was answered in a call.
    pub fn erase(&self, call: &str) {
        let erased = self.hash_call(call);
        let is_other = |_: &_, slot: &mut _| !matches!(slot, AnswerSlot::Answered { call_hash, .. } if *call_hash == erased);
        let AnswerMaps { newer, older, .. } = &mut *self.lock();
        newer.retain(is_other);
        older.retain(is_other);
    }

    fn hash_call(&self, call: &str) -> u64 {
        let [key, _] = &self.hash_keys;
        key.hash_one(call)
    }

    /// Answers a delivery in a call, unless it was answered before: `identity` is all
    /// else that tells it from others. Whoever asked first may have more time than is left here, so it
    /// is waited for until shortly after the deadline only; `answer` itself has to keep
    /// it.
    pub async fn get_or_compute(
        &self,
        call: &str,
        identity: &impl Hash,
        deadline: Instant,
        answer: impl Future<Output = A>,
    ) -> Replay<A> {
        let (key, pending) = match self.look_up(&(call, identity), Instant::now()) {
            KeyState::Answered(answer) => return Replay::Replayed(answer),
            KeyState::Pending(key, pending) => (key, pending),
        };
        let mut is_leader = false;
        let answer = pending.get_or_init(async || {
            is_leader = true;
            answer.await
        });
        let Ok(answer) = timeout_at(deadline + GRACE, answer).await else {
            return Replay::TimedOut;
        };
        self.record_answer(key, call, answer);
        let answer = answer.clone();
        if is_leader { Replay::Fresh(answer) } else { Replay::Replayed(answer) }
    }

    /// What is known of a delivery. A new one is known from now on.
    fn look_up(&self, identity: &impl Hash, now: Instant) -> KeyState<A> {
        let [one, other] = self.hash_keys.each_ref().map(|key| key.hash_one(identity));
        let key = IdempotencyKey(one, other);
        let mut maps = self.lock();
        let expired = maps.rotate(now, self.ttl, self.capacity);
        let AnswerMaps { newer, older, .. } = &mut *maps;
        let slot = match older.get(&key) {
            Some(slot) => slot,
            None => {
                newer.entry(key).or_insert_with(|| AnswerSlot::Pending(PendingAnswer::default()))
            }
        };
        let state = match slot {
            AnswerSlot::Answered { answer, .. } => KeyState::Answered(answer.clone()),
            AnswerSlot::Pending(pending) => KeyState::Pending(key, Arc::clone(pending)),
        };
        drop(maps);
        if let Some(expired) = expired {
            // Tens of thousands of entries; nobody shall wait for that.
            tokio::task::spawn_blocking(move || drop(expired));
        }
        state
    }

    /// Keeps the answer to a delivery.
    fn record_answer(&self, key: IdempotencyKey, call: &str, answer: &A) {
        let call_hash = self.hash_call(call);
        let AnswerMaps { newer, older, bytes, .. } = &mut *self.lock();
        let slot = newer.get_mut(&key).or_else(|| older.get_mut(&key));
        if let Some(slot @ AnswerSlot::Pending(_)) = slot {
            *bytes += answer.bytes();
            *slot = AnswerSlot::Answered { answer: answer.clone(), call_hash };
        }
    }

    fn lock(&self) -> MutexGuard<'_, AnswerMaps<A>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> AnswerMaps<A> {
    /// Begins a new map if it is time to. What is not needed any more.
    fn rotate(
        &mut self,
        now: Instant,
        ttl: Duration,
        capacity: usize,
    ) -> Option<Vec<AnswerMap<A>>> {
        let age = now.saturating_duration_since(self.newer_since);
        if age < ttl && self.newer.len() < capacity && self.bytes < MAX_TEXT_BYTES {
            return None;
        }
        (self.newer_since, self.bytes) = (now, 0);
        let newer = mem::replace(&mut self.newer, new_map(capacity));
        let mut expired = vec![mem::replace(&mut self.older, newer)];
        if age >= 2 * ttl {
            // Nobody called for so long that both are old.
            expired.push(mem::take(&mut self.older));
        }
        Some(expired)
    }
}

/// A map that never has to grow while calls wait for it. Memory that is not used
/// is not taken.
fn new_map<A>(capacity: usize) -> AnswerMap<A> {
    AnswerMap::with_capacity_and_hasher(capacity, BuildHasherDefault::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1_000;

    impl Weigh for Arc<str> {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    /// Whether a delivery has come before; it has from now on.
    fn is_replay(cache: &IdempotencyCache<Arc<str>>, identity: &impl Hash, now: Instant) -> bool {
        match cache.look_up(identity, now) {
            KeyState::Pending(key, _) => cache.record_answer(key, "c", &"".into()),
            KeyState::Answered(_) => return true,
        }
        false
    }

    #[tokio::test]
    async fn answers_expire_after_ttl() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let cache = IdempotencyCache::new(10 * second, CAPACITY);
        let is_replayed = |id, at: u32| is_replay(&cache, &id, start + at * second);
        assert!(!is_replayed("a", 0));
        assert!(!is_replayed("b", 9));
        assert!(is_replayed("a", 9) && is_replayed("b", 18));
        assert!(!is_replayed("a", 31));
        assert!(!is_replayed("b", 60));
    }

    #[tokio::test]
    async fn erased_call_is_answered_again() {
        let cache = IdempotencyCache::<Arc<str>>::new(Duration::from_secs(60), CAPACITY);
        let is_new = async |call, text: &str| {
            let answer = async { Arc::from(text) };
            let replay = cache.get_or_compute(call, &1, Instant::now(), answer).await;
            matches!(replay, Replay::Fresh(_))
        };
        assert!(is_new("a", "1").await && is_new("b", "1").await);
        assert!(!is_new("a", "2").await && !is_new("b", "2").await);
        cache.erase("a");
        assert!(is_new("a", "3").await && !is_new("b", "3").await);
    }

    #[tokio::test]
    async fn number_and_size_of_answers_are_bounded() {
        let cache = IdempotencyCache::<Arc<str>>::new(Duration::from_secs(60), CAPACITY);
        let now = Instant::now();
        for nth in 0..3 * CAPACITY {
            is_replay(&cache, &("a", nth), now);
        }
        let count = || {
            let maps = cache.lock();
            maps.newer.len() + maps.older.len()
        };
        assert!(count() <= 2 * CAPACITY);
        // A plugin with a long text of its own for each call.
        let text: Arc<str> = "x".repeat(1 << 20).into();
        for nth in 0..200 {
            let KeyState::Pending(key, _) = cache.look_up(&("b", nth), now) else {
                panic!("it came before");
            };
            cache.record_answer(key, "c", &text);
        }
        assert!(count() <= 2 * 33, "{}", count());
    }
}

//! The vary cache: answers that plugins declare reusable, for calls that match.
//!
//! As in HTTP caches, a lookup has two levels. The first level maps a plugin version to its
//! vary sets ([`sets`]): the sets of call fields on which its answers depended so far. The
//! second level maps a set and the values of its fields in a call ([`key`]) to an answer with
//! an expiry time. Any matching answer is correct, because the plugin declared that it holds
//! for every call with these values.
//!
//! The keys of the second level begin with the identifier of the vary sets. A new plugin
//! version has new vary sets, so it never finds an answer of another version, however late that
//! version fills the cache.
//!
//! The first level is a snapshot of a short list. A second `moka` cache would cost 130 ns more
//! per hit; a hit takes 240 ns with the vary sets in the plugin itself (CPU time, fastest of 31
//! interleaved rounds).
//!
//! Decisions ([`crate::cache`]) and tool results ([`crate::mid_call`]) have one such cache
//! each.

mod index;
mod key;
mod sets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::time::Instant;

use self::index::{ScopeKey, VaryIndex};
pub(crate) use self::key::CacheKey;
use self::key::{KeyKind, cache_key};
use self::sets::VaryLimitExceeded;
pub(crate) use self::sets::VarySets;
use plugboard_core::call::Call;
use plugboard_core::decision::CachePolicy;
use plugboard_runtime::plugin::Plugin;

/// Approximate bytes of an entry beside its key and value.
const ENTRY_OVERHEAD: usize = 256;

/// A request to one plugin version that a cached answer may serve.
#[derive(Clone, Copy)]
pub(crate) struct CacheRequest<'a> {
    /// The version of the plugin.
    pub(crate) plugin: &'a Arc<Plugin>,
    /// Part of the plugin that has vary sets of its own: the index of a tool, or 0.
    pub(crate) part: u32,
    /// Digest of all other inputs of the answer, beside the call. It has the same length for
    /// all requests to the part.
    pub(crate) digest: &'a [u8],
    /// The call of the request.
    pub(crate) call: &'a Call,
}

/// Cached answers of all plugins. `V` is cheap to clone.
pub(crate) struct VaryCache<V> {
    index: VaryIndex<Plugin>,
    entries: Cache<CacheKey, Arc<CacheEntry<V>>>,
    max_ttl: Duration,
    evictions: Arc<AtomicU64>,
    uncacheable: AtomicU64,
}

struct CacheEntry<V> {
    /// The answer. `None`: the key is known to have no cacheable answer.
    value: Option<V>,
    expires_at: Instant,
}

/// A cached answer with its key, for followers of its request.
pub(crate) struct CachedAnswer<V> {
    set_index: usize,
    key: CacheKey,
    entry: Arc<CacheEntry<V>>,
}

/// Statistics of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheStats {
    /// Approximate number of entries.
    pub entries: u64,
    /// Approximate memory in bytes.
    pub bytes: u64,
    /// Entries that were removed before they expired, because the cache was full.
    pub evictions: u64,
    /// Answers that were not cached although their plugin allowed it, because the plugin named
    /// too many sets of fields, or the values were too long.
    pub uncacheable: u64,
}

impl<V: Clone + Send + Sync + 'static> VaryCache<V> {
    /// Creates an empty cache of at most `max_bytes`, as counted by `size_of` for the values.
    /// An entry expires after its plugin's time to live, and after `max_ttl` at most.
    pub(crate) fn new(max_bytes: u64, max_ttl: Duration, size_of: fn(&V) -> usize) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let eviction_counter = Arc::clone(&evictions);
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |key: &CacheKey, entry: &Arc<CacheEntry<V>>| {
                let size = entry.value.as_ref().map_or(0, size_of);
                u32::try_from(ENTRY_OVERHEAD + key.len() + size).unwrap_or(u32::MAX)
            })
            .expire_after(EntryExpiry)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    eviction_counter.fetch_add(1, Relaxed);
                }
            })
            .build();
        let (index, uncacheable) = (VaryIndex::new(), AtomicU64::new(0));
        Self { index, entries, max_ttl, evictions, uncacheable }
    }

    /// Returns an answer for the request, if one is cached.
    pub(crate) fn get(&self, request: &CacheRequest<'_>) -> Option<V> {
        self.index.read(request.scope(), |sets| {
            sets.snapshot().sets.iter().enumerate().find_map(|(set_index, fields)| {
                let kind = KeyKind::Answer(set_index);
                let key = cache_key(sets, kind, request.digest, fields, request.call)?;
                self.entries.get(&*key)?.value_if_fresh(Instant::now())
            })
        })
    }

    /// Returns the vary sets of the request's plugin, which [`VaryCache::insert`] needs.
    pub(crate) fn vary_sets(&self, request: &CacheRequest<'_>) -> Arc<VarySets> {
        self.index.get_or_insert(request.scope(), request.plugin)
    }

    /// Caches an answer if its policy allows it, and returns it with its key.
    pub(crate) fn insert(
        &self,
        sets: &VarySets,
        request: &CacheRequest<'_>,
        policy: Option<&CachePolicy>,
        value: impl FnOnce() -> V,
    ) -> Option<CachedAnswer<V>> {
        let set_index = match sets.record(policy) {
            Ok(set_index) => set_index?,
            Err(VaryLimitExceeded) => return self.count_uncacheable(),
        };
        let ttl = policy?.ttl.min(self.max_ttl);
        if ttl.is_zero() {
            return None;
        }
        let Some(key) = request.answer_key(sets, set_index) else {
            return self.count_uncacheable();
        };
        let key = CacheKey::from(key);
        let entry = CacheEntry { value: Some(value()), expires_at: Instant::now() + ttl };
        let entry = Arc::new(entry);
        self.entries.insert(key.clone(), Arc::clone(&entry));
        Some(CachedAnswer { set_index, key, entry })
    }

    /// Returns the key under which equal requests share one computation: their values of all
    /// fields in `sets`. `None` if no request is known to share it: the plugin gave no reusable
    /// answer yet, the values are too long, or the key was
    /// [marked](VaryCache::mark_uncacheable).
    pub(crate) fn flight_key(
        &self,
        sets: &VarySets,
        request: &CacheRequest<'_>,
    ) -> Option<CacheKey> {
        let snapshot = sets.snapshot();
        if snapshot.has_answered && snapshot.sets.is_empty() {
            return None;
        }
        let kind = KeyKind::Flight(snapshot.sets.len());
        let key = cache_key(sets, kind, request.digest, &snapshot.union, request.call)?;
        let is_marked =
            self.entries.get(&*key).is_some_and(|entry| Instant::now() < entry.expires_at);
        (!is_marked).then(|| key.into())
    }

    /// Records for `ttl` that a flight's answer could not be shared.
    pub(crate) fn mark_uncacheable(&self, flight_key: CacheKey, ttl: Duration) {
        let entry = CacheEntry { value: None, expires_at: Instant::now() + ttl };
        self.entries.insert(flight_key, Arc::new(entry));
    }

    /// Removes all answers and vary sets.
    pub(crate) fn clear(&self) {
        self.index.clear();
        self.entries.invalidate_all();
    }

    /// Returns the statistics of the cache.
    pub(crate) fn stats(&self) -> CacheStats {
        self.entries.run_pending_tasks();
        CacheStats {
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            evictions: self.evictions.load(Relaxed),
            uncacheable: self.uncacheable.load(Relaxed),
        }
    }

    fn count_uncacheable<T>(&self) -> Option<T> {
        self.uncacheable.fetch_add(1, Relaxed);
        None
    }
}

impl CacheRequest<'_> {
    fn scope(&self) -> ScopeKey {
        ScopeKey { plugin_id: self.plugin.id(), part: self.part }
    }

    /// Returns the key of an answer for this request.
    fn answer_key(&self, sets: &VarySets, set_index: usize) -> Option<Vec<u8>> {
        let snapshot = sets.snapshot();
        let fields = snapshot.sets.get(set_index)?;
        cache_key(sets, KeyKind::Answer(set_index), self.digest, fields, self.call)
    }
}

impl<V: Clone> CachedAnswer<V> {
    /// Returns the answer if it holds for this request and has not expired.
    pub(crate) fn value_for(&self, sets: &VarySets, request: &CacheRequest<'_>) -> Option<V> {
        let key = request.answer_key(sets, self.set_index)?;
        if *key != *self.key {
            return None;
        }
        self.entry.value_if_fresh(Instant::now())
    }
}

impl<V> Clone for CachedAnswer<V> {
    fn clone(&self) -> Self {
        let Self { set_index, key, entry } = self;
        Self { set_index: *set_index, key: key.clone(), entry: Arc::clone(entry) }
    }
}

impl<V: Clone> CacheEntry<V> {
    /// Returns the value, if the entry has one and has not expired.
    fn value_if_fresh(&self, now: Instant) -> Option<V> {
        self.value.as_ref().filter(|_| now < self.expires_at).cloned()
    }
}

/// The policy that removes expired entries from memory. Until then,
/// [`CacheEntry::value_if_fresh`] ensures that they are not used.
struct EntryExpiry;

impl<V> Expiry<CacheKey, Arc<CacheEntry<V>>> for EntryExpiry {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        entry: &Arc<CacheEntry<V>>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.expires_at.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &CacheKey,
        entry: &Arc<CacheEntry<V>>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}

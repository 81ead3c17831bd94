//! The decision cache: verdicts that plugins gave leave to use again.
//!
//! It stands before each plugin and not before the chain: what one plugin says
//! of a number tells nothing about whether another one, ahead of it, would have
//! passed for this caller. A verdict is found by the plugin's version, the
//! platform, and the values of the fields that the plugin said it depended on
//! (`key`), so that a new version never meets an old verdict, however late the
//! old one lands.

mod key;
mod single_flight;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::time::Instant;

pub use self::key::append_vary_key;
use self::key::{CacheKey, KeyKind, cache_key};
use self::single_flight::{FlightResult, Follower, Joined, Leader, SingleFlight};
use plugboard_config::CacheConfig;
use plugboard_core::call::Call;
use plugboard_core::decision::{Decision, Verdict};
use plugboard_core::vary::VaryLimitExceeded;
use plugboard_runtime::plugin::{Hook, Plugin};

/// Bytes that an entry takes beside its texts, roughly.
const ENTRY_OVERHEAD: usize = 256;

/// How long it is remembered that a plugin gave no leave to reuse its verdict on
/// certain calls: these need not wait for each other.
const UNCACHEABLE_TTL: Duration = Duration::from_secs(2);

/// What is kept under a key.
struct CachedVerdict {
    /// None: it is known that there is nothing to be kept.
    verdict: Option<Arc<Verdict>>,
    expires_at: Instant,
}

/// The verdicts of all plugins.
pub struct DecisionCache {
    entries: Cache<CacheKey, Arc<CachedVerdict>>,
    single_flight: SingleFlight,
    max_ttl: Duration,
    evictions: Arc<AtomicU64>,
    uncacheable: AtomicU64,
}

/// How a plugin's word on a call is to be had.
pub enum Lookup<'a> {
    /// It is here.
    Hit(Arc<Verdict>),
    /// The plugin must be asked, and [`FillPermit::fill`] told.
    Miss(FillPermit<'a>),
    /// As `Ask`; but another call asks the same for long already, and whichever
    /// is first will do.
    MissRacing(FillPermit<'a>, CoalescedWait),
}

/// A computation of another call's, that this one has waited for as long as it
/// could afford to.
pub struct CoalescedWait(Follower);

impl CoalescedWait {
    /// The other one's verdict, if it comes and fits this call; else never.
    pub async fn wait(mut self, plugin: &Plugin, call: &Call) -> Arc<Verdict> {
        let result = self.0.wait().await;
        match result.and_then(|result| result.verdict(plugin, call)) {
            Some(verdict) => verdict,
            None => pending().await,
        }
    }
}

/// Leave to ask a plugin about a call.
pub struct FillPermit<'a> {
    cache: &'a DecisionCache,
    leader: Option<Leader<'a>>,
    flight_key: Option<Vec<u8>>,
}

/// The cache's figures.
#[derive(Clone, Copy, Debug)]
pub struct CacheStats {
    /// Verdicts in it, roughly.
    pub entries: u64,
    /// Their memory in bytes, roughly.
    pub bytes: u64,
    /// Verdicts that had to go before their time, for want of room.
    pub evictions: u64,
    /// Verdicts that were not kept although their plugin wished it: it named too
    /// many sets of fields, or the values were too long.
    pub uncacheable: u64,
}

impl DecisionCache {
    /// An empty cache. None: the operator wants none.
    pub fn new(config: &CacheConfig) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let evictions = Arc::new(AtomicU64::new(0));
        let eviction_counter = Arc::clone(&evictions);
        let entries = Cache::builder()
            .max_capacity(config.size as u64)
            .weigher(|key: &CacheKey, cached: &Arc<CachedVerdict>| {
                let verdict = cached.verdict.as_ref().map_or(0, |verdict| verdict.size());
                u32::try_from(ENTRY_OVERHEAD + key.len() + verdict).unwrap_or(u32::MAX)
            })
            .expire_after(VerdictExpiry)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    eviction_counter.fetch_add(1, Relaxed);
                }
            })
            .build();
        let (single_flight, max_ttl, uncacheable) =
            (SingleFlight::default(), config.max_ttl, AtomicU64::new(0));
        Some(Self { entries, single_flight, max_ttl, evictions, uncacheable })
    }

    /// A verdict of this plugin that fits this call, if there is one.
    pub fn get(&self, plugin: &Plugin, call: &Call) -> Option<Arc<Verdict>> {
        let vary_sets = plugin.vary_sets.snapshot();
        // Whatever fits is right: each says that it holds for every call with
        // these values.
        vary_sets.sets.iter().enumerate().find_map(|(set_index, fields)| {
            let key = cache_key(plugin, KeyKind::Verdict(set_index), fields, call)?;
            self.entries.get(&*key).and_then(|cached| cached.verdict_if_fresh(Instant::now()))
        })
    }

    /// A verdict of this plugin that fits this call, or leave to ask for one,
    /// perhaps after waiting for another call that asks the same. Waits for no more
    /// than half of the time that the plugin may take, and not at all for one that
    /// keeps failing.
    pub async fn lookup(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> Lookup<'_> {
        if let Some(verdict) = self.get(plugin, call) {
            return Lookup::Hit(verdict);
        }
        let miss = |flight_key| Lookup::Miss(FillPermit { cache: self, leader: None, flight_key });
        let flight_key = {
            let vary_sets = plugin.vary_sets.snapshot();
            let is_never_cacheable = vary_sets.has_answered && vary_sets.sets.is_empty();
            if is_never_cacheable || !plugin.breaker(Hook::Router).is_closed() {
                // As far as is known, it never gives leave to reuse, or may be set
                // aside.
                return miss(None);
            }
            match cache_key(plugin, KeyKind::Flight(vary_sets.sets.len()), &vary_sets.union, call) {
                Some(flight_key) => flight_key,
                None => return miss(None),
            }
        };
        let now = Instant::now();
        if self.entries.get(&*flight_key).is_some_and(|cached| now < cached.expires_at) {
            return miss(None);
        }
        let timeout = plugin.timeout(Hook::Router).min(deadline.saturating_duration_since(now));
        match self.single_flight.join(&flight_key, now + timeout / 2).await {
            // What landed while we came here is seen now, if not before.
            Joined::Leader(leader) => match self.get(plugin, call) {
                Some(verdict) => Lookup::Hit(verdict),
                None => Lookup::Miss(FillPermit {
                    cache: self,
                    leader: Some(leader),
                    flight_key: Some(flight_key),
                }),
            },
            Joined::Finished(result) => {
                result.verdict(plugin, call).map_or(miss(None), Lookup::Hit)
            }
            Joined::TimedOut(follower) => Lookup::MissRacing(
                FillPermit { cache: self, leader: None, flight_key: None },
                CoalescedWait(follower),
            ),
        }
    }

    /// The figures now.
    pub fn stats(&self) -> CacheStats {
        self.entries.run_pending_tasks();
        CacheStats {
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            evictions: self.evictions.load(Relaxed),
            uncacheable: self.uncacheable.load(Relaxed),
        }
    }

    /// Keeps a decision if its plugin gave leave to.
    fn insert(
        &self,
        plugin: &Plugin,
        call: &Call,
        decision: &Decision,
    ) -> Option<(VerdictKey, Arc<CachedVerdict>)> {
        let set_index = match plugin.vary_sets.record(decision.cache_policy.as_ref()) {
            Ok(set_index) => set_index?,
            Err(VaryLimitExceeded) => return self.count_uncacheable(),
        };
        let ttl = decision.cache_policy.as_ref()?.ttl.min(self.max_ttl);
        if ttl.is_zero() {
            return None;
        }
        let fields = plugin.vary_sets.snapshot().sets.get(set_index)?.clone();
        let Some(key) = cache_key(plugin, KeyKind::Verdict(set_index), &fields, call) else {
            return self.count_uncacheable();
        };
        let key = CacheKey::from(key);
        let verdict = Some(Arc::new(decision.verdict.clone()));
        let cached = Arc::new(CachedVerdict { verdict, expires_at: Instant::now() + ttl });
        self.entries.insert(key.clone(), Arc::clone(&cached));
        Some((VerdictKey { set_index, key }, cached))
    }

    fn count_uncacheable<T>(&self) -> Option<T> {
        self.uncacheable.fetch_add(1, Relaxed);
        None
    }
}

impl FillPermit<'_> {
    /// Whether the plugin gave leave to reuse what it said, it is kept, and told
    /// to those who wait for it.
    pub fn fill(self, plugin: &Plugin, call: &Call, decision: Option<&Decision>) {
        let cached = match decision {
            Some(decision) => self.cache.insert(plugin, call, decision),
            None => {
                plugin.vary_sets.record_answer();
                None
            }
        };
        let Some(leader) = self.leader else { return };
        if cached.is_none()
            && decision.is_some()
            && let Some(flight_key) = self.flight_key
        {
            let uncacheable =
                CachedVerdict { verdict: None, expires_at: Instant::now() + UNCACHEABLE_TTL };
            self.cache.entries.insert(flight_key.into(), Arc::new(uncacheable));
        }
        leader.complete(cached.map_or(FlightResult::NotShareable, |(verdict_key, cached)| {
            FlightResult::Cached(verdict_key, cached)
        }));
    }
}

impl CachedVerdict {
    /// The verdict, if there is one and its time is not over.
    fn verdict_if_fresh(&self, now: Instant) -> Option<Arc<Verdict>> {
        self.verdict.clone().filter(|_| now < self.expires_at)
    }
}

/// Which calls a verdict holds for.
#[derive(Clone)]
struct VerdictKey {
    /// Of its set of fields, in the plugin's habits.
    set_index: usize,
    key: CacheKey,
}

impl FlightResult {
    /// What landed, if it is a verdict for this call.
    fn verdict(&self, plugin: &Plugin, call: &Call) -> Option<Arc<Verdict>> {
        match self {
            Self::Cached(verdict_key, cached) if verdict_key.matches(plugin, call) => {
                cached.verdict_if_fresh(Instant::now())
            }
            _ => None,
        }
    }
}

impl VerdictKey {
    fn matches(&self, plugin: &Plugin, call: &Call) -> bool {
        let vary_sets = plugin.vary_sets.snapshot();
        let fields = vary_sets.sets.get(self.set_index);
        fields.is_some_and(|fields| {
            cache_key(plugin, KeyKind::Verdict(self.set_index), fields, call)
                .is_some_and(|own| *own == *self.key)
        })
    }
}

/// Entries go when their time is over. (That they are not used any more is
/// [`CachedVerdict::verdict_if_fresh`]'s business.)
struct VerdictExpiry;

impl Expiry<CacheKey, Arc<CachedVerdict>> for VerdictExpiry {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        cached: &Arc<CachedVerdict>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(cached.expires_at.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &CacheKey,
        cached: &Arc<CachedVerdict>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, cached, now)
    }
}

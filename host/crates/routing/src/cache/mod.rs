//! The decision cache: a vary cache of verdicts, with single-flight on a miss.
//!
//! The cache serves each plugin and not the chain. A plugin's verdict for a number does
//! not say whether a plugin ahead of it passes for another caller.

mod single_flight;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::single_flight::{FlightResult, Follower, Joined, Leader, SingleFlight};
pub use crate::vary::CacheStats;
use crate::vary::{CacheRequest, VaryCache, VarySets};
use plugboard_config::CacheConfig;
use plugboard_core::call::Call;
use plugboard_core::decision::{Decision, Verdict};
use plugboard_runtime::plugin::{Hook, Plugin};

/// Time for which equal calls do not wait for each other after a plugin gave a verdict that is
/// not reusable.
const UNCACHEABLE_TTL: Duration = Duration::from_secs(2);

/// Cached verdicts of all plugins.
pub struct DecisionCache {
    verdicts: VaryCache<Arc<Verdict>>,
    single_flight: SingleFlight,
}

/// The result of a lookup.
pub(crate) enum Lookup<'a> {
    /// The cache has a verdict for the call.
    Hit(Arc<Verdict>),
    /// The plugin must run; [`FillPermit::fill`] receives its decision.
    Miss(FillPermit<'a>),
    /// The plugin must run, as for `Miss`. Another call has been running the plugin for a long
    /// time, and the first of both verdicts is used.
    MissRacing(FillPermit<'a>, CoalescedWait),
}

/// The flight of another call, for which this call can no longer wait idly.
pub(crate) struct CoalescedWait {
    follower: Follower,
    sets: Arc<VarySets>,
}

impl CoalescedWait {
    /// Waits for the other call's verdict. Never returns if it does not hold for this call.
    pub(crate) async fn wait(mut self, plugin: &Arc<Plugin>, call: &Call) -> Arc<Verdict> {
        let result = self.follower.wait().await;
        let request = verdict_request(plugin, call);
        match result.and_then(|result| result.verdict_for(&self.sets, &request)) {
            Some(verdict) => verdict,
            None => pending().await,
        }
    }
}

/// The right to fill the cache with a plugin's decision. If the permit is dropped, a
/// follower becomes the leader.
pub(crate) struct FillPermit<'a> {
    cache: &'a DecisionCache,
    sets: Arc<VarySets>,
    /// The leader of the flight. `None`: no other call waits for the decision.
    leader: Option<Leader<'a>>,
}

fn verdict_request<'a>(plugin: &'a Arc<Plugin>, call: &'a Call) -> CacheRequest<'a> {
    CacheRequest { plugin, part: 0, digest: &[], call }
}

impl DecisionCache {
    /// Creates an empty cache; `None` if the configuration disables it.
    pub(crate) fn new(config: &CacheConfig) -> Option<Self> {
        config.enabled.then(|| Self {
            verdicts: VaryCache::new(config.size as u64, config.max_ttl, |verdict| verdict.size()),
            single_flight: SingleFlight::default(),
        })
    }

    /// Returns a verdict of this plugin that holds for this call, if one is cached.
    pub(crate) fn get(&self, plugin: &Arc<Plugin>, call: &Call) -> Option<Arc<Verdict>> {
        self.verdicts.get(&verdict_request(plugin, call))
    }

    /// Returns a cached verdict of this plugin for this call, or a permit to run the plugin.
    /// Waits for a call that runs the plugin for the same values, for at most half of the
    /// plugin's time limit. Does not wait if the plugin's circuit breaker is not closed.
    pub(crate) async fn lookup(
        &self,
        plugin: &Arc<Plugin>,
        call: &Call,
        deadline: Instant,
    ) -> Lookup<'_> {
        let request = verdict_request(plugin, call);
        if let Some(verdict) = self.verdicts.get(&request) {
            return Lookup::Hit(verdict);
        }
        let sets = self.verdicts.vary_sets(&request);
        let is_closed = plugin.breaker(Hook::Router).is_closed();
        let flight_key = is_closed.then(|| self.verdicts.flight_key(&sets, &request)).flatten();
        let Some(flight_key) = flight_key else {
            return Lookup::Miss(FillPermit { cache: self, sets, leader: None });
        };
        let now = Instant::now();
        let timeout = plugin.timeout(Hook::Router).min(deadline.saturating_duration_since(now));
        match self.single_flight.join(&flight_key, now + timeout / 2).await {
            // Another leader may have filled the cache since the lookup.
            Joined::Leader(leader) => match self.verdicts.get(&request) {
                Some(verdict) => Lookup::Hit(verdict),
                None => Lookup::Miss(FillPermit { cache: self, sets, leader: Some(leader) }),
            },
            Joined::Finished(result) => match result.verdict_for(&sets, &request) {
                Some(verdict) => Lookup::Hit(verdict),
                None => Lookup::Miss(FillPermit { cache: self, sets, leader: None }),
            },
            Joined::TimedOut(follower) => Lookup::MissRacing(
                FillPermit { cache: self, sets: Arc::clone(&sets), leader: None },
                CoalescedWait { follower, sets },
            ),
        }
    }

    /// Returns the statistics of the cache.
    pub fn stats(&self) -> CacheStats {
        self.verdicts.stats()
    }
}

impl FillPermit<'_> {
    /// Returns whether the plugin ever gave a cacheable verdict.
    pub(crate) fn has_cacheable_verdicts(&self) -> bool {
        self.sets.has_cacheable_answers()
    }

    /// Caches the plugin's decision if its policy allows it, and completes the flight. `None`:
    /// the plugin failed.
    pub(crate) fn fill(self, plugin: &Arc<Plugin>, call: &Call, decision: Option<&Decision>) {
        let Self { cache, sets, leader } = self;
        let cached = match decision {
            Some(Decision { verdict, cache_policy }) => {
                let request = verdict_request(plugin, call);
                let value = || Arc::new(verdict.clone());
                cache.verdicts.insert(&sets, &request, cache_policy.as_ref(), value)
            }
            None => {
                sets.record_answer();
                None
            }
        };
        let Some(leader) = leader else { return };
        if cached.is_none() && decision.is_some() {
            cache.verdicts.mark_uncacheable(leader.key().clone(), UNCACHEABLE_TTL);
        }
        leader.complete(cached.map_or(FlightResult::NotShareable, FlightResult::Cached));
    }
}

impl FlightResult {
    /// Returns the flight's verdict if it holds for this request too.
    fn verdict_for(&self, sets: &VarySets, request: &CacheRequest<'_>) -> Option<Arc<Verdict>> {
        match self {
            Self::Cached(answer) => answer.value_for(sets, request),
            Self::Pending | Self::NotShareable => None,
        }
    }
}

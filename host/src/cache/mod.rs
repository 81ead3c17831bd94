//! The decision cache: verdicts that plugins gave leave to use again.
//!
//! It stands before each plugin and not before the chain: what one plugin says
//! of a number tells nothing about whether another one, ahead of it, would have
//! passed for this caller. A verdict is found by the plugin's version, the
//! platform, and the values of the fields that the plugin said it depended on
//! (`key`), so that a new version never meets an old verdict, however late the
//! old one lands.

mod flight;
mod key;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::time::Instant;

use self::flight::{Flight, Flights, Landing, Lead, Part};
pub(crate) use self::key::fields_key;
use self::key::{Key, Space, key};
use crate::config::CacheConfig;
use crate::decision::{Decision, Verdict};
use crate::event::Call;
use crate::plugin::habits::TooVaried;
use crate::plugin::{Hook, Plugin};

/// Bytes that an entry takes beside its texts, roughly.
const OVERHEAD: usize = 256;

/// How long it is remembered that a plugin gave no leave to reuse its verdict on
/// certain calls: these need not wait for each other.
const NOT_REUSABLE: Duration = Duration::from_secs(2);

/// What is kept under a key.
struct Kept {
    /// None: it is known that there is nothing to be kept.
    verdict: Option<Arc<Verdict>>,
    until: Instant,
}

/// The verdicts of all plugins.
pub struct DecisionCache {
    kept: Cache<Key, Arc<Kept>>,
    flights: Flights,
    max_ttl: Duration,
    evictions: Arc<AtomicU64>,
    refused: AtomicU64,
}

/// How a plugin's word on a call is to be had.
pub enum Word<'a> {
    /// It is here.
    Kept(Arc<Verdict>),
    /// The plugin must be asked, and [`Ask::answered`] told.
    Ask(Ask<'a>),
    /// As `Ask`; but another call asks the same for long already, and whichever
    /// is first will do.
    Race(Ask<'a>, Race),
}

/// A computation of another call's, that this one has waited for as long as it
/// could afford to.
pub struct Race(Flight);

impl Race {
    /// The other one's verdict, if it comes and fits this call; else never.
    pub async fn won(mut self, plugin: &Plugin, call: &Call) -> Arc<Verdict> {
        let landing = self.0.landed().await;
        match landing.and_then(|landing| landing.verdict(plugin, call)) {
            Some(verdict) => verdict,
            None => pending().await,
        }
    }
}

/// Leave to ask a plugin about a call.
pub struct Ask<'a> {
    cache: &'a DecisionCache,
    lead: Option<Lead<'a>>,
    flight: Option<Vec<u8>>,
}

/// The cache's figures.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Verdicts in it, roughly.
    pub entries: u64,
    /// Their memory in bytes, roughly.
    pub bytes: u64,
    /// Verdicts that had to go before their time, for want of room.
    pub evictions: u64,
    /// Verdicts that were not kept although their plugin wished it: it named too
    /// many sets of fields, or the values were too long.
    pub refused: u64,
}

impl DecisionCache {
    /// An empty cache. None: the operator wants none.
    pub fn new(config: &CacheConfig) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = Arc::clone(&evictions);
        let kept = Cache::builder()
            .max_capacity(config.size as u64)
            .weigher(|key: &Key, kept: &Arc<Kept>| {
                let verdict = kept.verdict.as_ref().map_or(0, |verdict| verdict.size());
                u32::try_from(OVERHEAD + key.len() + verdict).unwrap_or(u32::MAX)
            })
            .expire_after(AtItsTime)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    evicted.fetch_add(1, Relaxed);
                }
            })
            .build();
        let (flights, max_ttl, refused) = (Flights::default(), config.max_ttl, AtomicU64::new(0));
        Some(Self { kept, flights, max_ttl, evictions, refused })
    }

    /// A verdict of this plugin that fits this call, if there is one.
    pub fn get(&self, plugin: &Plugin, call: &Call) -> Option<Arc<Verdict>> {
        let known = plugin.habits.known();
        // Whatever fits is right: each says that it holds for every call with
        // these values.
        known.sets.iter().enumerate().find_map(|(place, fields)| {
            let key = key(plugin, Space::Verdict(place), fields, call)?;
            self.kept.get(&*key).and_then(|kept| kept.valid(Instant::now()))
        })
    }

    /// A verdict of this plugin that fits this call, or leave to ask for one,
    /// perhaps after waiting for another call that asks the same. Waits for no more
    /// than half of the time that the plugin may take, and not at all for one that
    /// keeps failing.
    pub async fn get_or_ask(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> Word<'_> {
        if let Some(verdict) = self.get(plugin, call) {
            return Word::Kept(verdict);
        }
        let alone = |flight| Word::Ask(Ask { cache: self, lead: None, flight });
        let flight = {
            let known = plugin.habits.known();
            let never = known.answered && known.sets.is_empty();
            if never || !plugin.breaker(Hook::Router).is_closed() {
                // As far as is known, it never gives leave to reuse, or may be set
                // aside.
                return alone(None);
            }
            match key(plugin, Space::Flight(known.sets.len()), &known.union, call) {
                Some(flight) => flight,
                None => return alone(None),
            }
        };
        let now = Instant::now();
        if self.kept.get(&*flight).is_some_and(|kept| now < kept.until) {
            return alone(None);
        }
        let time = plugin.timeout(Hook::Router).min(deadline.saturating_duration_since(now));
        match self.flights.join(&flight, now + time / 2).await {
            // What landed while we came here is seen now, if not before.
            Part::Lead(lead) => match self.get(plugin, call) {
                Some(verdict) => Word::Kept(verdict),
                None => Word::Ask(Ask { cache: self, lead: Some(lead), flight: Some(flight) }),
            },
            Part::Landed(landing) => landing.verdict(plugin, call).map_or(alone(None), Word::Kept),
            Part::Late(flight) => {
                Word::Race(Ask { cache: self, lead: None, flight: None }, Race(flight))
            }
        }
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        self.kept.run_pending_tasks();
        Figures {
            entries: self.kept.entry_count(),
            bytes: self.kept.weighted_size(),
            evictions: self.evictions.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Keeps a decision if its plugin gave leave to.
    fn keep(&self, plugin: &Plugin, call: &Call, decision: &Decision) -> Option<(Fit, Arc<Kept>)> {
        let place = match plugin.habits.learn(decision.cache.as_ref()) {
            Ok(place) => place?,
            Err(TooVaried) => return self.refuse(),
        };
        let ttl = decision.cache.as_ref()?.ttl.min(self.max_ttl);
        if ttl.is_zero() {
            return None;
        }
        let fields = plugin.habits.known().sets.get(place)?.clone();
        let Some(key) = key(plugin, Space::Verdict(place), &fields, call) else {
            return self.refuse();
        };
        let key = Key::from(key);
        let verdict = Some(Arc::new(decision.verdict.clone()));
        let kept = Arc::new(Kept { verdict, until: Instant::now() + ttl });
        self.kept.insert(key.clone(), Arc::clone(&kept));
        Some((Fit { place, key }, kept))
    }

    fn refuse<T>(&self) -> Option<T> {
        self.refused.fetch_add(1, Relaxed);
        None
    }
}

impl Ask<'_> {
    /// Whether the plugin gave leave to reuse what it said, it is kept, and told
    /// to those who wait for it.
    pub fn answered(self, plugin: &Plugin, call: &Call, said: Option<&Decision>) {
        let kept = match said {
            Some(decision) => self.cache.keep(plugin, call, decision),
            None => {
                plugin.habits.answered();
                None
            }
        };
        let Some(lead) = self.lead else { return };
        if kept.is_none()
            && said.is_some()
            && let Some(flight) = self.flight
        {
            let kept = Kept { verdict: None, until: Instant::now() + NOT_REUSABLE };
            self.cache.kept.insert(flight.into(), Arc::new(kept));
        }
        lead.land(kept.map_or(Landing::Nothing, |(fit, kept)| Landing::Kept(fit, kept)));
    }
}

impl Kept {
    /// The verdict, if there is one and its time is not over.
    fn valid(&self, now: Instant) -> Option<Arc<Verdict>> {
        self.verdict.clone().filter(|_| now < self.until)
    }
}

/// Which calls a verdict holds for.
#[derive(Clone)]
struct Fit {
    /// Of its set of fields, in the plugin's habits.
    place: usize,
    key: Key,
}

impl Landing {
    /// What landed, if it is a verdict for this call.
    fn verdict(&self, plugin: &Plugin, call: &Call) -> Option<Arc<Verdict>> {
        match self {
            Self::Kept(fit, kept) if fit.is_for(plugin, call) => kept.valid(Instant::now()),
            _ => None,
        }
    }
}

impl Fit {
    fn is_for(&self, plugin: &Plugin, call: &Call) -> bool {
        let known = plugin.habits.known();
        let fields = known.sets.get(self.place);
        fields.is_some_and(|fields| {
            key(plugin, Space::Verdict(self.place), fields, call)
                .is_some_and(|own| *own == *self.key)
        })
    }
}

/// Entries go when their time is over. (That they are not used any more is
/// [`Kept::valid`]'s business.)
struct AtItsTime;

impl Expiry<Key, Arc<Kept>> for AtItsTime {
    fn expire_after_create(
        &self,
        _: &Key,
        kept: &Arc<Kept>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(kept.until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        kept: &Arc<Kept>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, kept, now)
    }
}

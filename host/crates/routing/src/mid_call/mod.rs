//! What platforms ask in the middle of a call: `tools` that a voice agent uses, and
//! `transfers`. A caller listens to silence meanwhile, so there is always an answer,
//! and in time; but nobody who is being set up waits for it: both have a quarter of the
//! pool's places at the most, and one plugin no more than half of these.

mod in_flight;
mod tool_cache;
mod tools;
mod transfers;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use self::in_flight::InFlightCalls;
pub use self::in_flight::InFlightGuard;
use self::tool_cache::ToolCache;
pub use self::tools::ToolResponse;
pub use self::transfers::TransferResponse;
use crate::idempotency::{IdempotencyCache, Replay, Weigh};
use crate::router::spans;
use plugboard_config::CacheConfig;
use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::outcome::AnswerSource;
use plugboard_core::platforms::PLATFORMS;
use plugboard_registry::Chain;
use plugboard_runtime::engine::{Engine, Priority};
use plugboard_runtime::plugin::error::PluginError;
use plugboard_runtime::plugin::settings::OnFailure;
use plugboard_runtime::plugin::spans::plugin_span;
use plugboard_runtime::plugin::{Hook, Plugin};

/// Answers in one of the maps of those that may be asked for again. They can be long,
/// and there are few of them in a call.
const IDEMPOTENCY_CAPACITY: usize = 3_500;

/// What answers in the middle of calls.
pub struct MidCall {
    /// Guests that may run at the same time.
    permits: Semaphore,
    tool_cache: Option<ToolCache>,
    tool_responses: Option<IdempotencyCache<ToolResponse>>,
    transfer_responses: Option<IdempotencyCache<TransferResponse>>,
    in_flight: InFlightCalls,
}

/// What a plugin may answer.
trait HookAnswer {
    /// Whether it says no more than why there is nothing to say.
    fn is_declined(&self) -> bool {
        false
    }
}

/// An answer, and whose it is.
struct PluginAnswer<T> {
    plugin: Arc<str>,
    answer: T,
}

/// Why there is no answer although somebody should have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    /// Nobody was concerned, or had an opinion.
    Declined,
    /// The time is up.
    Late,
    /// There was no room to run anything.
    Busy,
    /// Whoever was asked failed.
    Failed,
}

/// Answers a delivery once, if it can be told from others (else it may well be asked
/// twice for the same); and whether it was answered before. None: not in time, by the
/// one that came before.
async fn answer_once<A: Weigh + Send + Sync + 'static>(
    deliveries: Option<&IdempotencyCache<A>>,
    call: &Call,
    delivery_id: &Option<Arc<str>>,
    deadline: Instant,
    answer: impl Future<Output = A>,
) -> (Option<A>, bool) {
    let (Some(deliveries), Some(delivery_id)) = (deliveries, delivery_id) else {
        return (Some(answer.await), false);
    };
    let identity = (call.platform, delivery_id);
    match deliveries.get_or_compute(&call.id, &identity, deadline, answer).await {
        Replay::Fresh(answer) => (Some(answer), false),
        Replay::Replayed(answer) => (Some(answer), true),
        Replay::TimedOut => (None, true),
    }
}

impl MidCall {
    /// In front of this engine.
    pub fn new(engine: &Engine, cache: &CacheConfig) -> Self {
        // What was done once shall not be done again, as long as a platform may ask.
        let redelivery_window = PLATFORMS.iter().map(|platform| platform.redelivery_window).max();
        let ttl = cache.deliveries.map(|ttl| ttl.max(redelivery_window.unwrap_or_default()));
        Self {
            permits: Semaphore::new(engine.concurrency_limit(Priority::MidCall)),
            tool_cache: cache.enabled.then(|| ToolCache::new(cache.max_ttl)),
            tool_responses: ttl.map(|ttl| IdempotencyCache::new(ttl, IDEMPOTENCY_CAPACITY)),
            transfer_responses: ttl.map(|ttl| IdempotencyCache::new(ttl, IDEMPOTENCY_CAPACITY)),
            in_flight: InFlightCalls::default(),
        }
    }

    /// Drops what was answered in a call; and all results that may be given again, of
    /// which nobody can tell whose they are.
    pub fn erase(&self, call: &str) {
        self.tool_cache.iter().for_each(ToolCache::clear);
        self.tool_responses.iter().for_each(|answers| answers.erase(call));
        self.transfer_responses.iter().for_each(|answers| answers.erase(call));
    }

    /// Waits until nothing is at work in any call. Whether it came to that in time.
    pub async fn wait_until_idle(&self, max_wait: Duration) -> bool {
        self.in_flight.wait_until_idle(max_wait).await
    }

    /// Counts a request of a call as in flight until the guard is dropped.
    pub fn begin(&self, call: &Call) -> InFlightGuard<'_> {
        self.in_flight.begin(call.call_id())
    }

    /// Whether something is at work in a call.
    pub fn is_in_flight(&self, call: &CallSelector) -> bool {
        self.in_flight.contains(call)
    }

    /// Waits until nothing is at work in a call. Whether it came to that in time.
    pub async fn wait_for_call(&self, call: &CallSelector, max_wait: Duration) -> bool {
        self.in_flight.wait_for_call(call, max_wait).await
    }

    /// Asks the plugins of a chain about a call until one answers, until the deadline
    /// at the latest. What is `cached` of a plugin's is as good as its answer.
    async fn ask_chain<'a, T: HookAnswer>(
        &self,
        chain: &'a Chain,
        hook: Hook,
        call: &'a Call,
        deadline: Instant,
        cached: impl Fn(&Plugin) -> Option<T>,
        invoke: impl Fn(&'a Plugin) -> BoxFuture<'a, Result<Option<T>, PluginError>>,
    ) -> Result<PluginAnswer<T>, NoAnswer> {
        let mut reason = NoAnswer::Declined;
        for plugin in chain.matching(call) {
            if let Some(answer) = cached(plugin) {
                let span = plugin_span(plugin, hook);
                spans::record_mid_call_answer(&span, AnswerSource::Cache, Ok(answer.is_declined()));
                return Ok(PluginAnswer { plugin: Arc::clone(plugin.name()), answer });
            }
            let reason_or = |default| if reason == NoAnswer::Declined { default } else { reason };
            if Instant::now() >= deadline {
                // Those before it had all the time that there was, or its request came late.
                return Err(reason_or(NoAnswer::Late));
            }
            // Never closed. The plugin's own first, so that those who wait for the same
            // one keep nobody else waiting.
            let permits = async {
                Some((
                    plugin.mid_call_permits.acquire().await.ok()?,
                    self.permits.acquire().await.ok()?,
                ))
            };
            let Ok(_permits) = timeout_at(deadline, permits).await else {
                return Err(reason_or(NoAnswer::Busy));
            };
            let start = Instant::now();
            let span = plugin_span(plugin, hook);
            let result =
                plugin.run_with_breaker(hook, invoke(plugin)).instrument(span.clone()).await;
            let took = start.elapsed();
            let declines = |answer: &Option<T>| answer.as_ref().is_none_or(HookAnswer::is_declined);
            spans::record_mid_call_answer(
                &span,
                AnswerSource::Plugin,
                result.as_ref().map(declines),
            );
            let stats = match hook {
                Hook::Transfers => &plugin.stats.transfers,
                _ => &plugin.stats.tools,
            };
            let error = match result {
                Ok(answer) => {
                    let counter = if declines(&answer) { &stats.declined } else { &stats.answered };
                    counter.fetch_add(1, Relaxed);
                    stats.latency.record(took);
                    match answer {
                        Some(answer) => {
                            return Ok(PluginAnswer { plugin: Arc::clone(plugin.name()), answer });
                        }
                        None => continue,
                    }
                }
                Err(error) => error,
            };
            if !matches!(error, PluginError::CircuitOpen) {
                stats.failed.fetch_add(1, Relaxed);
                stats.latency.record(took);
                plugin.stats.record_failure(&error);
            }
            plugin.log_failure(call, took, &error);
            reason = match error {
                PluginError::Timeout(_) => NoAnswer::Late,
                PluginError::Busy => NoAnswer::Busy,
                _ => NoAnswer::Failed,
            };
            if plugin.settings().on_failure == OnFailure::Stop {
                break;
            }
        }
        Err(reason)
    }
}

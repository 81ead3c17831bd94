//! Requests during a call: tools that the voice agent uses, and transfers.
//!
//! The caller hears silence until the answer arrives, so every request gets an answer by its
//! deadline. Calls that are being set up have priority. Tools and transfers together use at
//! most a quarter of the engine's instances ([`Priority::MidCall`]), and one plugin at most
//! half of these.

mod in_flight;
mod response;
mod tool_cache;
mod tools;
mod transfers;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::in_flight::InFlightCalls;
pub use self::in_flight::InFlightGuard;
pub use self::response::{ToolResponse, TransferResponse};
use self::tool_cache::ToolCache;
use crate::chain::{ChainQuery, Reply, Walk, WalkEnd};
use crate::idempotency::{IdempotencyCache, Replay, Weigh};
use plugboard_config::{CacheConfig, IdempotencyConfig};
use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::outcome::AnswerSource;
use plugboard_core::platforms;
use plugboard_runtime::engine::{Engine, Priority};
use plugboard_runtime::plugin::Plugin;
use plugboard_runtime::plugin::error::CallError;

/// Number of answers in one map of an idempotency cache. A call has few of them, and they can
/// be long.
const IDEMPOTENCY_CAPACITY: usize = 3_500;

/// The service that answers requests during calls.
pub struct MidCall {
    /// Concurrency limit of guests for tools and transfers of all plugins.
    permits: Semaphore,
    tool_cache: Option<ToolCache>,
    tool_responses: Option<IdempotencyCache<ToolResponse>>,
    transfer_responses: Option<IdempotencyCache<TransferResponse>>,
    in_flight: InFlightCalls,
}

/// An answer with the plugin that gave it.
struct PluginAnswer<T> {
    plugin: Arc<str>,
    source: AnswerSource,
    answer: T,
}

/// The reason why no plugin answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    /// No plugin matched the call, or all passed.
    Declined,
    /// The deadline passed before a plugin answered.
    DeadlineExceeded,
    /// The deadline passed while the request waited for a free instance.
    Busy,
    /// The last plugin that was called failed.
    Failed,
}

impl From<&CallError> for NoAnswer {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Timeout(_) => Self::DeadlineExceeded,
            CallError::Busy => Self::Busy,
            _ => Self::Failed,
        }
    }
}

impl<T> PluginAnswer<T> {
    /// Converts the result of a walk. The error of a plugin explains best why there is no
    /// answer.
    fn from_walk(walk: Walk<'_, T>) -> Result<Self, NoAnswer> {
        let reason = match walk.end {
            WalkEnd::Answered { plugin, source, answer } => {
                return Ok(Self { plugin: Arc::clone(plugin.name()), source, answer });
            }
            // Earlier plugins used the time, or the request arrived late.
            WalkEnd::DeadlineExceeded => NoAnswer::DeadlineExceeded,
            WalkEnd::Busy => NoAnswer::Busy,
            WalkEnd::Stopped { .. } | WalkEnd::Exhausted => NoAnswer::Declined,
        };
        Err(walk.last_error.as_ref().map_or(reason, NoAnswer::from))
    }
}

/// Value of `plugin.outcome` for an answer during a call.
const ANSWERED: &str = "answered";
const DECLINED: &str = "declined";

/// Counts and logs a reply during a call.
fn record_reply<Q: ChainQuery>(
    plugin: &Plugin,
    call: &Call,
    reply: &Reply<Q::Answer>,
    elapsed: Duration,
) {
    let outcome = reply.result.as_ref().map(|answer| Q::outcome(answer.as_ref()));
    plugin.record_mid_call(Q::HOOK, elapsed, outcome.map(|outcome| outcome == DECLINED));
    if let Err(error) = &reply.result {
        plugin.log_failure(call, elapsed, error);
    }
}

/// Answers equal deliveries once. A delivery without an id always gets a new answer, because it
/// cannot be distinguished from others.
async fn answer_once<A: Weigh + Send + Sync + 'static>(
    deliveries: Option<&IdempotencyCache<A>>,
    call: &Call,
    delivery_id: &Option<Arc<str>>,
    deadline: Instant,
    answer: impl Future<Output = A>,
) -> Replay<A> {
    let (Some(deliveries), Some(delivery_id)) = (deliveries, delivery_id) else {
        return Replay::Fresh(answer.await);
    };
    // The key has the platform and not the family, because plugins may match one brand only.
    let identity = (call.platform, delivery_id);
    deliveries.get_or_compute(&call.id, &identity, deadline, answer).await
}

impl MidCall {
    /// Creates the service with empty caches and no requests in flight.
    pub fn new(engine: &Engine, cache: &CacheConfig, idempotency: &IdempotencyConfig) -> Self {
        // A tool must not run twice for a delivery while the platform may repeat it.
        let redelivery_window =
            platforms::all().iter().map(|platform| platform.redelivery_window).max();
        let ttl = idempotency.ttl.map(|ttl| ttl.max(redelivery_window.unwrap_or_default()));
        Self {
            permits: Semaphore::new(engine.concurrency_limit(Priority::MidCall)),
            tool_cache: cache.enabled.then(|| ToolCache::new(cache.max_ttl)),
            tool_responses: ttl.map(|ttl| IdempotencyCache::new(ttl, IDEMPOTENCY_CAPACITY)),
            transfer_responses: ttl.map(|ttl| IdempotencyCache::new(ttl, IDEMPOTENCY_CAPACITY)),
            in_flight: InFlightCalls::default(),
        }
    }

    /// Removes the answers of the calls with this id, and all cached tool results, because
    /// these do not name their call.
    pub fn erase(&self, call: &str) {
        self.tool_cache.iter().for_each(ToolCache::clear);
        self.tool_responses.iter().for_each(|answers| answers.erase(call));
        self.transfer_responses.iter().for_each(|answers| answers.erase(call));
    }

    /// Waits until no request is in flight. Returns whether that happened within
    /// `max_wait`.
    pub async fn wait_until_idle(&self, max_wait: Duration) -> bool {
        self.in_flight.wait_until_idle(max_wait).await
    }

    /// Counts a request of a call as in flight until the guard is dropped.
    pub fn begin(&self, call: &Call) -> InFlightGuard<'_> {
        self.in_flight.begin(call.call_id())
    }

    /// Returns whether a request of a selected call is in flight.
    pub fn is_in_flight(&self, call: &CallSelector) -> bool {
        self.in_flight.contains(call)
    }

    /// Waits until no request of a selected call is in flight. Returns whether that
    /// happened within `max_wait`.
    pub async fn wait_for_call(&self, call: &CallSelector, max_wait: Duration) -> bool {
        self.in_flight.wait_for_call(call, max_wait).await
    }
}

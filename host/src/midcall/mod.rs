//! What platforms ask in the middle of a call: `tools` that a voice agent uses, and
//! `transfers`. A caller listens to silence meanwhile, so there is always an answer,
//! and in time; but nobody who is being set up waits for it: both have a quarter of the
//! pool's places at the most, and one plugin no more than half of these.

mod results;
mod running;
mod tools;
mod transfers;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use self::results::ToolResults;
use self::running::Running;
pub use self::running::UnderWay;
pub use self::tools::ToolRuling;
pub use self::transfers::TransferRuling;
use crate::config::CacheConfig;
use crate::deliveries::{Deliveries, Kept, Once};
use crate::engine::{Engine, Queue};
use crate::event::Call;
use crate::platform::PLATFORMS;
use crate::plugin::error::PluginError;
use crate::plugin::settings::OnFailure;
use crate::plugin::{Hook, Plugin};
use crate::registry::Chain;
use crate::router::Source;
use crate::store::erase::CallName;
use crate::traces::spans;

/// Answers in one of the maps of those that may be asked for again. They can be long,
/// and there are few of them in a call.
const DELIVERIES: usize = 3_500;

/// What answers in the middle of calls.
pub struct MidCall {
    /// Guests that may run at the same time.
    places: Semaphore,
    results: Option<ToolResults>,
    tools: Option<Deliveries<ToolRuling>>,
    transfers: Option<Deliveries<TransferRuling>>,
    running: Running,
}

/// What a plugin may answer.
trait Said {
    /// Whether it says no more than why there is nothing to say.
    fn declines(&self) -> bool {
        false
    }
}

/// An answer, and whose it is.
struct Answered<T> {
    by: Arc<str>,
    answer: T,
}

/// Why there is no answer although somebody should have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// Nobody was concerned, or had an opinion.
    Nobody,
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
async fn once<A: Kept + Send + Sync + 'static>(
    deliveries: Option<&Deliveries<A>>,
    call: &Call,
    delivery: &Option<Arc<str>>,
    deadline: Instant,
    answer: impl Future<Output = A>,
) -> (Option<A>, bool) {
    let (Some(deliveries), Some(delivery)) = (deliveries, delivery) else {
        return (Some(answer.await), false);
    };
    let identity = (call.platform, delivery);
    match deliveries.once(&call.id, &identity, deadline, answer).await {
        Once::Now(answer) => (Some(answer), false),
        Once::Before(answer) => (Some(answer), true),
        Once::Late => (None, true),
    }
}

impl MidCall {
    /// In front of this engine.
    pub fn new(engine: &Engine, cache: &CacheConfig) -> Self {
        // What was done once shall not be done again, as long as a platform may ask.
        let retries = PLATFORMS.iter().map(|platform| platform.retries).max();
        let keep = cache.deliveries.map(|keep| keep.max(retries.unwrap_or_default()));
        Self {
            places: Semaphore::new(engine.places(Queue::Agents)),
            results: cache.enabled.then(|| ToolResults::new(cache.max_ttl)),
            tools: keep.map(|keep| Deliveries::new(keep, DELIVERIES)),
            transfers: keep.map(|keep| Deliveries::new(keep, DELIVERIES)),
            running: Running::default(),
        }
    }

    /// Drops what was answered in a call; and all results that may be given again, of
    /// which nobody can tell whose they are.
    pub fn forget(&self, call: &str) {
        self.results.iter().for_each(ToolResults::clear);
        self.tools.iter().for_each(|answers| answers.forget(call));
        self.transfers.iter().for_each(|answers| answers.forget(call));
    }

    /// Waits until nothing is at work in any call. Whether it came to that in time.
    pub async fn settled(&self, patience: Duration) -> bool {
        self.running.settled(patience).await
    }

    /// Something is at work in the middle of a call, with what is known of it, until
    /// what this returns is dropped.
    pub fn begin<'a>(&'a self, call: &'a Arc<Call>) -> UnderWay<'a> {
        self.running.begin(call)
    }

    /// Whether something is at work in a call.
    pub fn is_at_work(&self, call: &CallName) -> bool {
        self.running.is_under_way(call)
    }

    /// Waits until nothing is at work in a call. Whether it came to that in time.
    pub async fn ended(&self, call: &CallName, patience: Duration) -> bool {
        self.running.ended(call, patience).await
    }

    /// Asks the plugins of a chain about a call until one answers, until the deadline
    /// at the latest. What is `kept` of a plugin's is as good as its answer.
    async fn ask<'a, T: Said>(
        &self,
        chain: &'a Chain,
        hook: Hook,
        call: &'a Call,
        deadline: Instant,
        kept: impl Fn(&Plugin) -> Option<T>,
        ask: impl Fn(&'a Plugin) -> BoxFuture<'a, Result<Option<T>, PluginError>>,
    ) -> Result<Answered<T>, Unanswered> {
        let mut failed = Unanswered::Nobody;
        for plugin in chain.concerned(call) {
            if let Some(answer) = kept(plugin) {
                let span = spans::plugin(plugin, hook);
                spans::answered(&span, Source::Cached, Ok(answer.declines()));
                return Ok(Answered { by: Arc::clone(plugin.name()), answer });
            }
            let or = |why| if failed == Unanswered::Nobody { why } else { failed };
            if Instant::now() >= deadline {
                // Those before it had all the time that there was, or its request came late.
                return Err(or(Unanswered::Late));
            }
            // Never closed. The plugin's own first, so that those who wait for the same
            // one keep nobody else waiting.
            let places = async {
                Some((plugin.midcall.acquire().await.ok()?, self.places.acquire().await.ok()?))
            };
            let Ok(_places) = timeout_at(deadline, places).await else {
                return Err(or(Unanswered::Busy));
            };
            let start = Instant::now();
            let span = spans::plugin(plugin, hook);
            let result = plugin.attempt(hook, ask(plugin)).instrument(span.clone()).await;
            let took = start.elapsed();
            let declines = |answer: &Option<T>| answer.as_ref().is_none_or(Said::declines);
            spans::answered(&span, Source::Ran, result.as_ref().map(declines));
            let stats = match hook {
                Hook::Transfers => &plugin.stats.transfers,
                _ => &plugin.stats.tools,
            };
            let error = match result {
                Ok(answer) => {
                    let count = if declines(&answer) { &stats.declined } else { &stats.answered };
                    count.fetch_add(1, Relaxed);
                    stats.times.add(took);
                    match answer {
                        Some(answer) => {
                            return Ok(Answered { by: Arc::clone(plugin.name()), answer });
                        }
                        None => continue,
                    }
                }
                Err(error) => error,
            };
            if !matches!(error, PluginError::SetAside) {
                stats.failed.fetch_add(1, Relaxed);
                stats.times.add(took);
                plugin.stats.failed(&error);
            }
            plugin.tell_failure(call, took, &error);
            failed = match error {
                PluginError::Timeout(_) => Unanswered::Late,
                PluginError::Busy => Unanswered::Busy,
                _ => Unanswered::Failed,
            };
            if plugin.settings().on_failure == OnFailure::Stop {
                break;
            }
        }
        Err(failed)
    }
}

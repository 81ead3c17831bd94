//! What platforms ask in the middle of a call: [`tools`] that a voice agent uses, and
//! [`transfers`]. A caller listens to silence meanwhile, so there is always an answer,
//! and in time; but nobody who is being set up waits for it: both take their places
//! in the pool behind decisions.

mod results;
mod tools;
mod transfers;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::results::ToolResults;
pub use self::tools::ToolRuling;
pub use self::transfers::TransferRuling;
use crate::config::CacheConfig;
use crate::deliveries::Deliveries;
use crate::event::Call;
use crate::plugin::error::PluginError;
use crate::plugin::settings::OnFailure;
use crate::plugin::{Hook, Plugin};
use crate::registry::Chain;

/// Answers in one of the maps of those that may be asked for again. They can be long,
/// and there are few of them in a call.
const DELIVERIES: usize = 3_500;

/// How late a plugin may be: some of the engine's ticks.
const GRACE: Duration = Duration::from_millis(50);

/// What answers in the middle of calls.
pub struct MidCall {
    /// Guests that may run at the same time.
    places: Semaphore,
    results: Option<ToolResults>,
    tools: Option<Deliveries<ToolRuling>>,
    transfers: Option<Deliveries<TransferRuling>>,
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

impl MidCall {
    /// For a pool of so many instances, of which it never takes more than a quarter.
    pub fn new(instances: usize, cache: &CacheConfig) -> Self {
        Self {
            places: Semaphore::new((instances / 4).max(1)),
            results: cache.enabled.then(|| ToolResults::new(cache.max_ttl)),
            tools: cache.deliveries.map(|keep| Deliveries::new(keep, DELIVERIES)),
            transfers: cache.deliveries.map(|keep| Deliveries::new(keep, DELIVERIES)),
        }
    }

    /// Asks the plugins of a chain about a call until one answers, until the deadline
    /// at the latest. What is `kept` of a plugin's is as good as its answer.
    async fn ask<'a, T>(
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
                return Ok(Answered { by: Arc::clone(plugin.name()), answer });
            }
            // Those before it had all the time that there is.
            if failed != Unanswered::Nobody && Instant::now() >= deadline {
                return Err(failed);
            }
            // Never closed.
            let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
                return Err(if failed == Unanswered::Nobody { Unanswered::Busy } else { failed });
            };
            let start = Instant::now();
            let result = plugin.attempt(hook, ask(plugin)).await;
            let took = start.elapsed();
            let stats = plugin.stats.uses(hook);
            let error = match result {
                Ok(answer) => {
                    let count = if answer.is_some() { &stats.answered } else { &stats.declined };
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
            plugin.tell_failure(&call.id, took, &error);
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

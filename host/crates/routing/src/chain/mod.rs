//! The chain walk: calls the plugins that match a call, in chain order, until one answers.
//!
//! Decisions, explanations, tools and transfers share this walk. It checks the deadline,
//! creates one span per plugin, counts failures and applies `on_failure`. A [`ChainQuery`]
//! supplies the parts that differ: the cache that answers first, the call of the plugin, and
//! the counters and log lines.

mod span;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use plugboard_core::call::Call;
use plugboard_core::outcome::AnswerSource;
use plugboard_registry::Chain;
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::settings::OnFailure;
use plugboard_runtime::plugin::spans::plugin_span;
use plugboard_runtime::plugin::{Hook, Plugin};

/// One request to the plugins of a chain.
pub(crate) trait ChainQuery: Send {
    /// An answer that ends the walk.
    type Answer: Send;

    /// The hook that the request calls.
    const HOOK: Hook;

    /// Returns a cached answer that needs no waiting. It is used even after the deadline.
    fn cached_answer(&self, _plugin: &Arc<Plugin>) -> Option<Self::Answer> {
        None
    }

    /// Calls one plugin, until the deadline at the latest.
    fn ask(&mut self, plugin: &Arc<Plugin>) -> impl Future<Output = Reply<Self::Answer>> + Send;

    /// Returns the value of `plugin.outcome` in the plugin's span; `None`: the plugin passed.
    fn outcome(answer: Option<&Self::Answer>) -> &'static str;

    /// Counts and logs a reply of [`ChainQuery::ask`]. `elapsed` excludes the wait for the
    /// concurrency limit.
    fn record(&self, plugin: &Plugin, reply: &Reply<Self::Answer>, elapsed: Duration);
}

/// The reply of one plugin.
pub(crate) struct Reply<T> {
    /// The source of the reply.
    pub(crate) source: AnswerSource,
    /// The answer; `None` passes the request to the next plugin.
    pub(crate) result: Result<Option<T>, CallError>,
}

impl<T> Reply<T> {
    /// Creates the reply of a plugin that was called, unless its circuit breaker was open.
    pub(crate) fn from_run(result: Result<Option<T>, CallError>) -> Self {
        Self { source: run_source(&result), result }
    }
}

/// Returns the source of a result that came from no cache.
pub(crate) fn run_source<T>(result: &Result<T, CallError>) -> AnswerSource {
    match result {
        Err(CallError::CircuitOpen) => AnswerSource::CircuitOpen,
        _ => AnswerSource::Plugin,
    }
}

/// The result of a walk.
pub(crate) struct Walk<'a, T> {
    /// The reason why the walk ended.
    pub(crate) end: WalkEnd<'a, T>,
    /// Number of plugins that failed, including those with an open circuit breaker.
    pub(crate) failures: u32,
    /// The error of the last plugin that failed.
    pub(crate) last_error: Option<CallError>,
}

/// The reason why a walk ended.
pub(crate) enum WalkEnd<'a, T> {
    /// A plugin answered the request.
    Answered {
        plugin: &'a Arc<Plugin>,
        /// The source of its answer.
        source: AnswerSource,
        answer: T,
    },
    /// A plugin with `on_failure = "stop"` failed.
    Stopped {
        plugin: &'a Arc<Plugin>,
        /// The source of its failure.
        source: AnswerSource,
    },
    /// The deadline passed before the next plugin was asked.
    DeadlineExceeded,
    /// The deadline passed while the request waited for the concurrency limit.
    Busy,
    /// No plugin is left.
    Exhausted,
}

/// Calls the plugins of a chain that match a call, until one answers or the deadline passes.
/// `concurrency_limit` limits the guests of this kind of request, in addition to the engine's
/// limit.
pub(crate) async fn walk<'a, Q: ChainQuery>(
    chain: &'a Chain,
    call: &'a Call,
    deadline: Instant,
    concurrency_limit: Option<&Semaphore>,
    query: &mut Q,
) -> Walk<'a, Q::Answer> {
    let (mut failures, mut last_error) = (0, None);
    for plugin in chain.matching(call) {
        if let Some(answer) = query.cached_answer(plugin) {
            let source = AnswerSource::Cache;
            let span = plugin_span(plugin, Q::HOOK);
            span::record_reply(&span, source, Ok(Q::outcome(Some(&answer))));
            return Walk {
                end: WalkEnd::Answered { plugin, source, answer },
                failures,
                last_error,
            };
        }
        let mut start = Instant::now();
        if start >= deadline {
            return Walk { end: WalkEnd::DeadlineExceeded, failures, last_error };
        }
        let _permits = match concurrency_limit {
            None => None,
            Some(limit) => {
                // Neither semaphore is ever closed. The plugin's semaphore comes first, so that
                // requests that wait for one plugin hold no permit that others need.
                let acquire = async {
                    Some((plugin.acquire_mid_call_permit().await?, limit.acquire().await.ok()?))
                };
                let Ok(permits) = timeout_at(deadline, acquire).await else {
                    return Walk { end: WalkEnd::Busy, failures, last_error };
                };
                start = Instant::now();
                permits
            }
        };
        let span = plugin_span(plugin, Q::HOOK);
        let reply = query.ask(plugin).instrument(span.clone()).await;
        let outcome = reply.result.as_ref().map(|answer| Q::outcome(answer.as_ref()));
        span::record_reply(&span, reply.source, outcome);
        query.record(plugin, &reply, start.elapsed());
        let Reply { source, result } = reply;
        match result {
            Ok(Some(answer)) => {
                let end = WalkEnd::Answered { plugin, source, answer };
                return Walk { end, failures, last_error };
            }
            Ok(None) => {}
            Err(error) => {
                failures += 1;
                last_error = Some(error);
                if plugin.settings().on_failure == OnFailure::Stop {
                    return Walk { end: WalkEnd::Stopped { plugin, source }, failures, last_error };
                }
            }
        }
    }
    Walk { end: WalkEnd::Exhausted, failures, last_error }
}

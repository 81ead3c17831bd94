//! The chain: asks plugin after plugin until one decides.

mod explain;
pub mod spans;

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

pub use self::explain::{ExplainStep, Explanation};
use crate::cache::{DecisionCache, FillPermit, Lookup};
use crate::idempotency::Weigh;
use plugboard_config::{CacheConfig, RoutingConfig};
use plugboard_core::call::Call;
use plugboard_core::decision::Verdict;
use plugboard_core::outcome::{Answer, AnswerSource, ChainResult, FallbackReason, RoutingOutcome};
use plugboard_core::sts_url::StsUrl;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::breaker::CircuitState;
use plugboard_runtime::plugin::error::PluginError;
use plugboard_runtime::plugin::settings::OnFailure;
use plugboard_runtime::plugin::spans::plugin_span;
use plugboard_runtime::plugin::{Hook, Plugin};

impl Weigh for ChainResult {
    fn bytes(&self) -> usize {
        // What the cache had is shared with it.
        match (&self.verdict, self.source) {
            (Ok(verdict), AnswerSource::Plugin) => verdict.size(),
            _ => 0,
        }
    }
}

/// What one plugin came to.
struct PluginReply {
    source: AnswerSource,
    verdict: Result<Arc<Verdict>, PluginError>,
}

/// What the chain needs beside its plugins.
pub struct Router {
    config: RoutingConfig,
    cache: Option<DecisionCache>,
}

impl Router {
    /// A router with these answers of the operator's, and an empty cache.
    pub fn new(config: RoutingConfig, cache: &CacheConfig) -> Self {
        Self { config, cache: DecisionCache::new(cache) }
    }

    /// The operator's own answers.
    pub fn config(&self) -> &RoutingConfig {
        &self.config
    }

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&DecisionCache> {
        self.cache.as_ref()
    }

    /// Asks the plugins of a generation about a call. Always answers, until the
    /// deadline at the latest (give or take the engine's tick).
    pub async fn decide(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
    ) -> RoutingOutcome {
        self.walk(generation, call, deadline, None).await
    }

    /// As [`Router::decide`], but tells what each plugin came to, and leaves no
    /// trace in counters, cache and breakers.
    pub async fn explain(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
    ) -> Explanation {
        let mut steps = Vec::new();
        let outcome = self.walk(generation, call, deadline, Some(&mut steps)).await;
        Explanation::new(generation, call, steps, outcome)
    }

    async fn walk(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
        mut steps: Option<&mut Vec<ExplainStep>>,
    ) -> RoutingOutcome {
        let mut failures = 0;
        for plugin in generation.decision_chain().matching(call) {
            let start = Instant::now();
            if start >= deadline {
                return self.fallback_outcome(
                    FallbackReason::DeadlineExceeded,
                    None,
                    failures,
                    call,
                );
            }
            let span = plugin_span(plugin, Hook::Router);
            let PluginReply { source, verdict } = match steps {
                None => self.ask_plugin(plugin, call, deadline).instrument(span.clone()).await,
                Some(_) => self.ask_unrecorded(plugin, call, deadline).await,
            };
            let answer = match &verdict {
                Ok(verdict) => self.fill(verdict, call),
                Err(_) => Ok(None),
            };
            let error = verdict.as_ref().err().or(answer.as_ref().err());
            spans::record_verdict(&span, source, verdict.as_deref(), error);
            match &mut steps {
                Some(steps) => {
                    let verdict = verdict.as_deref().ok();
                    steps.push(ExplainStep::new(plugin, source, verdict, error, start.elapsed()));
                }
                None => {
                    if let Some(error) = error {
                        if verdict.is_ok() {
                            // What it decided cannot be used.
                            plugin.stats.record_failure(error);
                        }
                        plugin.log_failure(call, start.elapsed(), error);
                    }
                }
            }
            if error.is_some() {
                failures += 1;
                if plugin.settings().on_failure == OnFailure::Stop {
                    let mut outcome = self.fallback_outcome(
                        FallbackReason::Stopped,
                        Some(plugin),
                        failures,
                        call,
                    );
                    outcome.result.source = source;
                    return outcome;
                }
            } else if let (Ok(verdict), Ok(Some(answer))) = (verdict, answer) {
                let plugin_name = Some(Arc::clone(plugin.name()));
                let result = ChainResult {
                    verdict: Ok((*verdict).clone()),
                    plugin: plugin_name,
                    source,
                    failures,
                };
                return RoutingOutcome { answer, result };
            }
        }
        let timed_out = failures > 0 && Instant::now() >= deadline;
        let reason =
            if timed_out { FallbackReason::DeadlineExceeded } else { FallbackReason::NoDecision };
        self.fallback_outcome(reason, None, failures, call)
    }

    /// The operator's answer when no plugin decided.
    pub fn fallback_outcome(
        &self,
        reason: FallbackReason,
        plugin: Option<&Arc<Plugin>>,
        failures: u32,
        call: &Call,
    ) -> RoutingOutcome {
        let plugin_name = plugin.map(|plugin| Arc::clone(plugin.name()));
        let result = ChainResult {
            verdict: Err(reason),
            plugin: plugin_name,
            source: AnswerSource::Plugin,
            failures,
        };
        RoutingOutcome { answer: self.fallback(reason, call), result }
    }

    /// The same ruling once more, for the same call.
    pub fn replay(&self, result: ChainResult, call: &Call) -> RoutingOutcome {
        let answer = match &result.verdict {
            Ok(verdict) => self.fill(verdict, call).ok().flatten(),
            Err(reason) => Some(self.fallback(*reason, call)),
        };
        // It was filled before, unless it is not the same call.
        let answer = answer.unwrap_or_else(|| self.fallback(FallbackReason::NoDecision, call));
        RoutingOutcome { answer, result }
    }

    fn fallback(&self, reason: FallbackReason, call: &Call) -> Answer {
        Answer::Fallback { sts_url: self.fallback_url(call), reason }
    }

    fn fallback_url(&self, call: &Call) -> Option<String> {
        operator_url(self.config.fallback_sts_url.as_ref(), call)
    }

    /// One plugin's word on a call: the cache's, else its own.
    async fn ask_plugin(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> PluginReply {
        let Some(cache) = &self.cache else {
            return run_plugin(plugin, call, deadline, None).await;
        };
        match cache.lookup(plugin, call, deadline).await {
            Lookup::Hit(verdict) => cached_reply(plugin, verdict),
            Lookup::Miss(permit) => {
                if plugin.vary_sets.has_cacheable_verdicts() {
                    plugin.stats.record_cache_miss();
                }
                run_plugin(plugin, call, deadline, Some(permit)).await
            }
            Lookup::MissRacing(ask, race) => tokio::select! {
                verdict = race.wait(plugin, call) => cached_reply(plugin, verdict),
                heard = run_plugin(plugin, call, deadline, Some(ask)) => {
                    plugin.stats.record_cache_miss();
                    heard
                }
            },
        }
    }

    /// As [`Router::ask_plugin`], without a trace.
    async fn ask_unrecorded(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> PluginReply {
        if let Some(verdict) = self.cache.as_ref().and_then(|cache| cache.get(plugin, call)) {
            return PluginReply { source: AnswerSource::Cache, verdict: Ok(verdict) };
        }
        if plugin.breaker(Hook::Router).circuit_state(Instant::now()) == CircuitState::Open {
            return PluginReply {
                source: AnswerSource::CircuitOpen,
                verdict: Err(PluginError::CircuitOpen),
            };
        }
        let decision = Box::pin(plugin.decide(call, deadline)).await;
        PluginReply {
            source: AnswerSource::Plugin,
            verdict: decision.map(|decision| Arc::new(decision.verdict)),
        }
    }

    /// A verdict as an answer for this call. None: the plugin has no opinion.
    fn fill(&self, verdict: &Verdict, call: &Call) -> Result<Option<Answer>, PluginError> {
        match verdict {
            Verdict::Pass => Ok(None),
            Verdict::Route { sts_url, prompt } => {
                let sts_url = sts_url.as_ref().filter(|_| call.platform.accepts_sts_url);
                let sts_url = sts_url.map(|url| url.fill(call)).transpose()?;
                Ok(Some(Answer::Route { sts_url, prompt: prompt.clone() }))
            }
            Verdict::Reject { reason } => {
                let sts_url = operator_url(self.config.reject_sts_url.as_ref(), call)
                    .or_else(|| self.fallback_url(call));
                Ok(Some(Answer::Reject { reason: Arc::clone(reason), sts_url }))
            }
        }
    }
}

/// A verdict that the plugin need not be asked for.
fn cached_reply(plugin: &Plugin, verdict: Arc<Verdict>) -> PluginReply {
    plugin.stats.record_cache_hit(verdict.kind());
    plugin.breaker(Hook::Router).record_success();
    PluginReply { source: AnswerSource::Cache, verdict: Ok(verdict) }
}

/// Runs a plugin, unless it is set aside; counts, and tells the cache.
async fn run_plugin(
    plugin: &Plugin,
    call: &Call,
    deadline: Instant,
    permit: Option<FillPermit<'_>>,
) -> PluginReply {
    let start = Instant::now();
    // On the heap, or every call would carry the room for it around, though the
    // cache has its answer.
    let decision =
        plugin.run_with_breaker(Hook::Router, Box::pin(plugin.decide(call, deadline))).await;
    if let Err(PluginError::CircuitOpen) = &decision {
        plugin.stats.record_short_circuit();
        return PluginReply {
            source: AnswerSource::CircuitOpen,
            verdict: Err(PluginError::CircuitOpen),
        };
    }
    plugin
        .stats
        .record_run(start.elapsed(), decision.as_ref().map(|decision| decision.verdict.kind()));
    if let Some(permit) = permit {
        permit.fill(plugin, call, decision.as_ref().ok());
    }
    PluginReply {
        source: AnswerSource::Plugin,
        verdict: decision.map(|decision| Arc::new(decision.verdict)),
    }
}

/// One of the operator's own URLs, filled. It was checked at start; what is
/// left is a caller whose text would bend its path.
fn operator_url(url: Option<&StsUrl>, call: &Call) -> Option<String> {
    let filled = url.filter(|_| call.platform.accepts_sts_url)?.fill(call);
    filled
        .inspect_err(|error| tracing::warn!(call = &*call.id, "fallback or reject URL: {error}"))
        .ok()
}

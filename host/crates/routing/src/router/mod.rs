//! The router: decides the destination of a call by walking the decision chain.

mod decide;
mod explain;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::explain::{ExplainStep, Explanation};
use crate::cache::DecisionCache;
use crate::chain::{ChainQuery, Walk, WalkEnd, walk};
use crate::idempotency::Weigh;
use plugboard_config::{CacheConfig, RoutingConfig};
use plugboard_core::call::Call;
use plugboard_core::decision::Verdict;
use plugboard_core::outcome::{Answer, AnswerSource, ChainResult, FallbackReason, RoutingOutcome};
use plugboard_core::sts_url::StsUrl;
use plugboard_core::verdict::VerdictKind;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::Plugin;
use plugboard_runtime::plugin::error::CallError;

impl Weigh for ChainResult {
    fn bytes(&self) -> usize {
        // The cache shares the texts of its verdicts.
        match (&self.verdict, self.source) {
            (Ok(verdict), AnswerSource::Plugin) => verdict.size(),
            _ => 0,
        }
    }
}

/// The decision chain's settings and cache.
pub struct Router {
    config: RoutingConfig,
    cache: Option<DecisionCache>,
}

/// A verdict that decides the call, with the answer for it.
struct FilledVerdict {
    verdict: Arc<Verdict>,
    answer: Answer,
}

impl FilledVerdict {
    /// Returns the outcome for the plugin's span.
    fn outcome(filled: Option<&Self>) -> &'static str {
        filled.map_or(VerdictKind::Pass, |filled| filled.verdict.kind()).name()
    }
}

impl Router {
    /// Creates a router with these operator answers and an empty cache.
    pub fn new(config: RoutingConfig, cache: &CacheConfig) -> Self {
        Self { config, cache: DecisionCache::new(cache) }
    }

    /// Returns the operator's own answers.
    pub fn config(&self) -> &RoutingConfig {
        &self.config
    }

    /// Returns the decision cache, unless it is disabled.
    pub fn cache(&self) -> Option<&DecisionCache> {
        self.cache.as_ref()
    }

    async fn walk<Q: ChainQuery<Answer = FilledVerdict>>(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
        query: &mut Q,
    ) -> RoutingOutcome {
        let Walk { end, failures, .. } =
            walk(generation.decision_chain(), call, deadline, None, query).await;
        let reason = match end {
            WalkEnd::Answered { plugin, source, answer: FilledVerdict { verdict, answer } } => {
                let result = ChainResult {
                    verdict: Ok((*verdict).clone()),
                    plugin: Some(Arc::clone(plugin.name())),
                    source,
                    failures,
                };
                return RoutingOutcome { answer, result };
            }
            WalkEnd::Stopped { plugin, source } => {
                let reason = FallbackReason::Stopped;
                let mut outcome = self.fallback_outcome(reason, Some(plugin), failures, call);
                outcome.result.source = source;
                return outcome;
            }
            WalkEnd::DeadlineExceeded | WalkEnd::Busy => FallbackReason::DeadlineExceeded,
            WalkEnd::Exhausted if failures > 0 && Instant::now() >= deadline => {
                FallbackReason::DeadlineExceeded
            }
            WalkEnd::Exhausted => FallbackReason::NoDecision,
        };
        self.fallback_outcome(reason, None, failures, call)
    }

    /// Returns the operator's answer for a call that no plugin decided.
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

    /// Returns the answer for an earlier result of the same call.
    pub fn replay(&self, result: ChainResult, call: &Call) -> RoutingOutcome {
        let answer = match &result.verdict {
            Ok(verdict) => self.fill(verdict, call).ok().flatten(),
            Err(reason) => Some(self.fallback(*reason, call)),
        };
        // The verdict could be filled before, so this fails only for another call.
        let answer = answer.unwrap_or_else(|| self.fallback(FallbackReason::NoDecision, call));
        RoutingOutcome { answer, result }
    }

    fn fallback(&self, reason: FallbackReason, call: &Call) -> Answer {
        Answer::Fallback { sts_url: self.fallback_url(call), reason }
    }

    fn fallback_url(&self, call: &Call) -> Option<String> {
        operator_url(self.config.fallback_sts_url.as_ref(), call)
    }

    /// Fills a plugin's verdict for the call. Returns `None` if the plugin passed.
    fn fill_verdict(
        &self,
        verdict: Arc<Verdict>,
        call: &Call,
    ) -> Result<Option<FilledVerdict>, CallError> {
        let answer = self.fill(&verdict, call)?;
        Ok(answer.map(|answer| FilledVerdict { verdict, answer }))
    }

    /// Returns the answer for a verdict on this call, or `None` if the plugin passed.
    fn fill(&self, verdict: &Verdict, call: &Call) -> Result<Option<Answer>, CallError> {
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

/// Fills one of the operator's URLs. The template was checked at start, so filling fails only
/// for a call whose text would change the URL's path.
fn operator_url(url: Option<&StsUrl>, call: &Call) -> Option<String> {
    let filled = url.filter(|_| call.platform.accepts_sts_url)?.fill(call);
    filled
        .inspect_err(
            |error| tracing::warn!(call = &*call.id, %error, "cannot fill an operator URL"),
        )
        .ok()
}

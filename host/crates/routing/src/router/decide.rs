//! Decisions: a walk of the chain in which the cache answers first, then the plugin.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FilledVerdict, Router};
use crate::cache::{FillPermit, Lookup};
use crate::chain::{ChainQuery, Reply, run_source};
use plugboard_core::call::Call;
use plugboard_core::decision::Verdict;
use plugboard_core::outcome::{AnswerSource, RoutingOutcome};
use plugboard_registry::Generation;
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::{Hook, Plugin};

impl Router {
    /// Decides a call with the plugins of a generation. Always returns an answer, by the
    /// deadline at the latest (within one tick of the engine).
    pub async fn decide(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
    ) -> RoutingOutcome {
        let mut query = DecisionQuery { router: self, call, deadline };
        self.walk(generation, call, deadline, &mut query).await
    }
}

/// A decision about a call.
struct DecisionQuery<'a> {
    router: &'a Router,
    call: &'a Call,
    deadline: Instant,
}

/// A plugin's verdict before it is filled for the call, with its source.
struct VerdictReply {
    source: AnswerSource,
    verdict: Result<Arc<Verdict>, CallError>,
}

impl ChainQuery for DecisionQuery<'_> {
    type Answer = FilledVerdict;

    const HOOK: Hook = Hook::Router;

    async fn ask(&mut self, plugin: &Arc<Plugin>) -> Reply<FilledVerdict> {
        let VerdictReply { source, verdict } = self.verdict(plugin).await;
        let result = verdict.and_then(|verdict| {
            self.router
                .fill_verdict(verdict, self.call)
                .inspect_err(|error| plugin.record_unusable_verdict(error))
        });
        Reply { source, result }
    }

    fn outcome(answer: Option<&FilledVerdict>) -> &'static str {
        FilledVerdict::outcome(answer)
    }

    fn record(&self, plugin: &Plugin, reply: &Reply<FilledVerdict>, elapsed: Duration) {
        if let Err(error) = &reply.result {
            plugin.log_failure(self.call, elapsed, error);
        }
    }
}

impl DecisionQuery<'_> {
    /// Returns the cached verdict, or else the plugin's own.
    async fn verdict(&self, plugin: &Arc<Plugin>) -> VerdictReply {
        let Some(cache) = &self.router.cache else {
            return self.run_plugin(plugin, None).await;
        };
        match cache.lookup(plugin, self.call, self.deadline).await {
            Lookup::Hit(verdict) => cached_reply(plugin, verdict),
            Lookup::Miss(permit) => {
                if permit.has_cacheable_verdicts() {
                    plugin.record_cache_miss();
                }
                self.run_plugin(plugin, Some(permit)).await
            }
            Lookup::MissRacing(permit, coalesced) => tokio::select! {
                verdict = coalesced.wait(plugin, self.call) => cached_reply(plugin, verdict),
                reply = self.run_plugin(plugin, Some(permit)) => {
                    plugin.record_cache_miss();
                    reply
                }
            },
        }
    }

    /// Runs the plugin unless its circuit breaker is open, counts the result, and fills
    /// the cache.
    async fn run_plugin(
        &self,
        plugin: &Arc<Plugin>,
        permit: Option<FillPermit<'_>>,
    ) -> VerdictReply {
        let start = Instant::now();
        // The guest's future is boxed here, on a cache miss only. Unboxed, every walk
        // would reserve the space for it, also when the cache answers.
        let guest = Box::pin(plugin.decide(self.call, self.deadline));
        let decision = plugin.run_with_breaker(Hook::Router, guest).await;
        let kind = decision.as_ref().map(|decision| decision.verdict.kind());
        plugin.record_decision(start.elapsed(), kind);
        let source = run_source(&decision);
        // Dropping the permit passes the computation on to a follower.
        if let (Some(permit), AnswerSource::Plugin) = (permit, source) {
            permit.fill(plugin, self.call, decision.as_ref().ok());
        }
        VerdictReply { source, verdict: decision.map(|decision| Arc::new(decision.verdict)) }
    }
}

/// Counts a cached verdict, and returns it as a reply.
fn cached_reply(plugin: &Plugin, verdict: Arc<Verdict>) -> VerdictReply {
    plugin.record_cached_verdict(verdict.kind());
    VerdictReply { source: AnswerSource::Cache, verdict: Ok(verdict) }
}

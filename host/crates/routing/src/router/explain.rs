//! Explanations: a decision with the reply of each plugin, for `POST /explain`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use tokio::time::Instant;

use super::{FilledVerdict, Router};
use crate::chain::{ChainQuery, Reply, run_source};
use plugboard_core::call::Call;
use plugboard_core::decision::Verdict;
use plugboard_core::outcome::{AnswerSource, RoutingOutcome};
use plugboard_core::units;
use plugboard_core::verdict::VerdictKind;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::breaker::CircuitState;
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::{Hook, Plugin};

/// The outcome of a call, and the reply of each plugin.
pub struct Explanation {
    /// Number of the generation that decided.
    pub generation: u64,
    /// Every plugin of the decision chain, in chain order.
    pub steps: Vec<ExplainStep>,
    /// The outcome of the decision.
    pub outcome: RoutingOutcome,
}

/// The reply of one plugin.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainStep {
    /// The name of the plugin.
    pub plugin: String,
    /// True if the plugin's settings match the call.
    pub matched: bool,
    /// The source of the reply; `None` if the plugin was not called.
    pub source: Option<AnswerSource>,
    /// The verdict of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<ExplainedVerdict>,
    /// The reason why there is no verdict, or why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ExplainedError>,
    /// Duration of the call, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    #[serde(skip)]
    id: u64,
}

/// A verdict before it is filled for the call.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedVerdict {
    verdict: VerdictKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    sts_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// An error with its label in metrics.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedError {
    label: &'static str,
    message: String,
}

impl Router {
    /// Decides a call as [`Router::decide`] does, and records the reply of each plugin.
    /// Counters, cache and circuit breakers do not change.
    pub async fn explain(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
    ) -> Explanation {
        let mut query = ExplainQuery::new(self, call, deadline);
        let outcome = self.walk(generation, call, deadline, &mut query).await;
        Explanation::new(generation, call, query.steps, outcome)
    }
}

/// A decision that records one step per plugin and changes no counter, cache or
/// circuit breaker.
struct ExplainQuery<'a> {
    router: &'a Router,
    call: &'a Call,
    deadline: Instant,
    /// The replies of the called plugins, in chain order.
    steps: Vec<ExplainStep>,
}

impl<'a> ExplainQuery<'a> {
    fn new(router: &'a Router, call: &'a Call, deadline: Instant) -> Self {
        Self { router, call, deadline, steps: Vec::new() }
    }

    /// Returns the plugin's verdict with its source.
    async fn verdict(
        &self,
        plugin: &Arc<Plugin>,
    ) -> (AnswerSource, Result<Arc<Verdict>, CallError>) {
        let cached = self.router.cache.as_ref().and_then(|cache| cache.get(plugin, self.call));
        if let Some(verdict) = cached {
            return (AnswerSource::Cache, Ok(verdict));
        }
        if plugin.breaker(Hook::Router).circuit_state(Instant::now()) == CircuitState::Open {
            return (AnswerSource::CircuitOpen, Err(CallError::CircuitOpen));
        }
        let decision = Box::pin(plugin.decide(self.call, self.deadline)).await;
        (run_source(&decision), decision.map(|decision| Arc::new(decision.verdict)))
    }
}

impl ChainQuery for ExplainQuery<'_> {
    type Answer = FilledVerdict;

    const HOOK: Hook = Hook::Router;

    async fn ask(&mut self, plugin: &Arc<Plugin>) -> Reply<FilledVerdict> {
        let start = Instant::now();
        let (source, verdict) = self.verdict(plugin).await;
        let explained = verdict.as_deref().ok().map(ExplainedVerdict::from);
        let result = verdict.and_then(|verdict| self.router.fill_verdict(verdict, self.call));
        let error = result.as_ref().err();
        self.steps.push(ExplainStep::new(plugin, source, explained, error, start.elapsed()));
        Reply { source, result }
    }

    fn outcome(answer: Option<&FilledVerdict>) -> &'static str {
        FilledVerdict::outcome(answer)
    }

    fn record(&self, _: &Plugin, _: &Reply<FilledVerdict>, _: Duration) {}
}

impl ExplainStep {
    fn new(
        plugin: &Plugin,
        source: AnswerSource,
        decision: Option<ExplainedVerdict>,
        error: Option<&CallError>,
        elapsed: Duration,
    ) -> Self {
        Self {
            source: Some(source),
            decision,
            error: error.map(|e| ExplainedError { label: e.label(), message: e.to_string() }),
            took_us: Some(units::micros(elapsed)),
            ..Self::skipped(plugin, true)
        }
    }

    fn skipped(plugin: &Plugin, matched: bool) -> Self {
        Self {
            plugin: plugin.name().to_string(),
            matched,
            source: None,
            decision: None,
            error: None,
            took_us: None,
            id: plugin.id(),
        }
    }
}

impl Explanation {
    /// Creates the explanation of a walk: the `executed` steps, and one for each plugin that
    /// was not called.
    fn new(
        generation: &Generation,
        call: &Call,
        executed: Vec<ExplainStep>,
        outcome: RoutingOutcome,
    ) -> Self {
        let mut executed = executed.into_iter().peekable();
        let steps = generation.decision_chain().plugins().iter().map(|plugin| {
            executed.next_if(|step| step.id == plugin.id()).unwrap_or_else(|| {
                ExplainStep::skipped(plugin, plugin.settings().accepts_call(call))
            })
        });
        let steps = steps.collect();
        Self { generation: generation.number, steps, outcome }
    }
}

impl From<&Verdict> for ExplainedVerdict {
    fn from(verdict: &Verdict) -> Self {
        let explained = Self { verdict: verdict.kind(), sts_url: None, prompt: None, reason: None };
        match verdict {
            Verdict::Pass => explained,
            Verdict::Route { sts_url, prompt } => Self {
                sts_url: sts_url.as_ref().map(|url| url.template().to_owned()),
                prompt: prompt.as_deref().map(str::to_owned),
                ..explained
            },
            Verdict::Reject { reason } => Self { reason: Some(reason.to_string()), ..explained },
        }
    }
}

//! Why a call goes where it goes, plugin by plugin.

use std::time::Duration;

use serde::Serialize;

use super::{AnswerSource, RoutingOutcome};
use plugboard_core::call::Call;
use plugboard_core::decision::Verdict;
use plugboard_core::units;
use plugboard_core::verdict::VerdictKind;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::Plugin;
use plugboard_runtime::plugin::error::PluginError;

/// What became of a call, and what each plugin had to do with it.
pub struct Explanation {
    /// Which plugins there were.
    pub generation: u64,
    /// Every plugin of the chain, in its order.
    pub steps: Vec<ExplainStep>,
    /// What became of it.
    pub outcome: RoutingOutcome,
}

/// What one plugin came to.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainStep {
    /// The plugin's name.
    pub plugin: String,
    /// Whether the call is one that it is asked about.
    pub matched: bool,
    /// Where its word came from; None: it was not asked.
    pub source: Option<AnswerSource>,
    /// What it decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<ExplainedVerdict>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ExplainedError>,
    /// How long it took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    #[serde(skip)]
    id: u64,
}

/// A verdict as the plugin gave it, before it is filled for the call.
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

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedError {
    label: &'static str,
    message: String,
}

impl ExplainStep {
    pub(super) fn new(
        plugin: &Plugin,
        source: AnswerSource,
        verdict: Option<&Verdict>,
        error: Option<&PluginError>,
        elapsed: Duration,
    ) -> Self {
        Self {
            source: Some(source),
            decision: verdict.map(ExplainedVerdict::from),
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
            id: plugin.id,
        }
    }
}

impl Explanation {
    /// Adds those that were not asked to the `executed` ones.
    pub(super) fn new(
        generation: &Generation,
        call: &Call,
        executed: Vec<ExplainStep>,
        outcome: RoutingOutcome,
    ) -> Self {
        let mut executed = executed.into_iter().peekable();
        let steps = generation.decision_chain().plugins().iter().map(|plugin| {
            executed.next_if(|step| step.id == plugin.id).unwrap_or_else(|| {
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

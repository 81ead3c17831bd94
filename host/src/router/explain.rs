//! Why a call goes where it goes, plugin by plugin.

use std::time::Duration;

use serde::Serialize;

use super::{Outcome, Source};
use crate::decision::{Kind, Verdict};
use crate::event::Call;
use crate::plugin::Plugin;
use crate::plugin::error::PluginError;
use crate::registry::Generation;
use crate::units;

/// What became of a call, and what each plugin had to do with it.
pub struct Explanation {
    /// Which plugins there were.
    pub generation: u64,
    /// Every plugin of the chain, in its order.
    pub steps: Vec<Step>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What one plugin came to.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The plugin's name.
    pub plugin: String,
    /// Whether the call is one that it is asked about.
    pub matched: bool,
    /// Where its word came from; None: it was not asked.
    pub source: Option<Source>,
    /// What it decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Said>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Wrong>,
    /// How long it took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    #[serde(skip)]
    id: u64,
}

/// A verdict as the plugin gave it, before it is filled for the call.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    verdict: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    sts_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct Wrong {
    label: &'static str,
    message: String,
}

impl Step {
    pub(super) fn new(
        plugin: &Plugin,
        source: Source,
        verdict: Option<&Verdict>,
        error: Option<&PluginError>,
        took: Duration,
    ) -> Self {
        Self {
            source: Some(source),
            decision: verdict.map(Said::from),
            error: error.map(|e| Wrong { label: e.label(), message: e.to_string() }),
            took_us: Some(units::micros(took)),
            ..Self::not_asked(plugin, true)
        }
    }

    fn not_asked(plugin: &Plugin, matched: bool) -> Self {
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
    /// Adds those that were not asked to the `asked` ones.
    pub(super) fn new(
        generation: &Generation,
        call: &Call,
        asked: Vec<Step>,
        outcome: Outcome,
    ) -> Self {
        let mut asked = asked.into_iter().peekable();
        let steps = generation.chain().plugins().iter().map(|plugin| {
            asked
                .next_if(|step| step.id == plugin.id)
                .unwrap_or_else(|| Step::not_asked(plugin, plugin.settings().accept(call)))
        });
        let steps = steps.collect();
        Self { generation: generation.number, steps, outcome }
    }
}

impl From<&Verdict> for Said {
    fn from(verdict: &Verdict) -> Self {
        let said = Self { verdict: verdict.kind(), sts_url: None, prompt: None, reason: None };
        match verdict {
            Verdict::Pass => said,
            Verdict::Route { sts_url, prompt } => Self {
                sts_url: sts_url.as_ref().map(|url| url.template().to_owned()),
                prompt: prompt.as_deref().map(str::to_owned),
                ..said
            },
            Verdict::Reject { reason } => Self { reason: Some(reason.to_string()), ..said },
        }
    }
}

//! The chain: asks plugin after plugin until one decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Answers;
use crate::decision::{Decision, Verdict};
use crate::event::Call;
use crate::plugin::Plugin;
use crate::plugin::error::PluginError;
use crate::plugin::settings::OnFailure;
use crate::registry::Generation;
use crate::sts_url::StsUrl;

/// What became of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// The plugin that gave it, or that stopped the chain.
    pub by: Option<Arc<str>>,
    /// How many plugins failed on the way.
    pub failures: u32,
}

/// The answer, ready for a platform.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A plugin routes the call.
    Route {
        /// Filled for this call. None: the platform's own default.
        sts_url: Option<String>,
        /// What the voice agent shall be told.
        prompt: Option<String>,
    },
    /// A plugin rejects the call.
    Reject {
        /// Why.
        reason: String,
        /// Who takes the call on platforms that cannot reject, filled: the
        /// operator's `reject_sts_url`, else the fallback.
        sts_url: Option<String>,
    },
    /// No plugin decided.
    Fallback {
        /// The operator's fallback, filled.
        sts_url: Option<String>,
        /// Why.
        because: Undecided,
    },
}

/// Why no plugin decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// Every plugin that was asked passed or failed.
    Passed,
    /// A plugin with `on_failure = "stop"` failed.
    Stopped,
    /// The budget of the call was used up.
    Late,
    /// The host failed; see the log.
    Internal,
}

impl Answer {
    /// The word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Route { .. } => "route",
            Self::Reject { .. } => "reject",
            Self::Fallback { because: Undecided::Passed, .. } => "pass",
            Self::Fallback { because: Undecided::Stopped, .. } => "stopped",
            Self::Fallback { because: Undecided::Late, .. } => "late",
            Self::Fallback { because: Undecided::Internal, .. } => "internal",
        }
    }

    /// The operator's answer when no plugin decided.
    pub fn fallback(answers: &Answers, call: &Call, because: Undecided) -> Self {
        let sts_url = own_url(answers.fallback_sts_url.as_ref(), call);
        Self::Fallback { sts_url, because }
    }
}

/// Asks the plugins of a generation about a call. Always answers, until the
/// deadline at the latest (give or take the engine's tick).
pub async fn decide(
    generation: &Generation,
    answers: &Answers,
    call: &Call,
    deadline: Instant,
) -> Outcome {
    let mut failures = 0;
    let fallback = |because| Answer::fallback(answers, call, because);
    for plugin in &generation.chain {
        if !plugin.settings().accept(call) {
            continue;
        }
        let start = Instant::now();
        if start >= deadline {
            return Outcome { answer: fallback(Undecided::Late), by: None, failures };
        }
        let said = plugin.decide(call, deadline).await;
        let judged = said
            .and_then(|decision| Ok((decision.verdict.kind(), answer(decision, answers, call)?)));
        let took = start.elapsed();
        plugin.stats.record(took, judged.as_ref().map(|(kind, _)| *kind));
        match judged {
            Ok((_, None)) => {}
            Ok((_, Some(answer))) => {
                return Outcome { answer, by: Some(Arc::clone(plugin.name())), failures };
            }
            Err(error) => {
                failures += 1;
                warn(plugin, call, took, &error);
                if plugin.settings().on_failure == OnFailure::Stop {
                    let by = Some(Arc::clone(plugin.name()));
                    return Outcome { answer: fallback(Undecided::Stopped), by, failures };
                }
            }
        }
    }
    let late = failures > 0 && Instant::now() >= deadline;
    let because = if late { Undecided::Late } else { Undecided::Passed };
    Outcome { answer: fallback(because), by: None, failures }
}

/// A decision as an answer for this call. None: the plugin has no opinion.
fn answer(
    decision: Decision,
    answers: &Answers,
    call: &Call,
) -> Result<Option<Answer>, PluginError> {
    match decision.verdict {
        Verdict::Pass => Ok(None),
        Verdict::Route { sts_url, prompt } => {
            let fill =
                |template: String| StsUrl::parse(&template, &answers.allowed_sts_hosts)?.fill(call);
            let sts_url = sts_url.map(fill).transpose()?;
            Ok(Some(Answer::Route { sts_url, prompt }))
        }
        Verdict::Reject { reason } => {
            let sts_url = own_url(answers.reject_sts_url.as_ref(), call)
                .or_else(|| own_url(answers.fallback_sts_url.as_ref(), call));
            Ok(Some(Answer::Reject { reason, sts_url }))
        }
    }
}

/// One of the operator's own URLs, filled. It was checked at start; what is
/// left is a caller whose text would bend its path.
fn own_url(url: Option<&StsUrl>, call: &Call) -> Option<String> {
    let filled = url?.fill(call);
    filled
        .inspect_err(|error| tracing::warn!(call = ?call.id, "fallback or reject URL: {error}"))
        .ok()
}

fn warn(plugin: &Plugin, call: &Call, took: Duration, error: &PluginError) {
    tracing::warn!(
        plugin = &**plugin.name(),
        call = ?call.id,
        error = error.label(),
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        message = ?error.to_string(),
    );
}

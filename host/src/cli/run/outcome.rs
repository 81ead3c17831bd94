//! The outcome of a hook in a run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use plugboard_core::call::Call;
use plugboard_core::decision::{CachePolicy, Decision, Verdict};
use plugboard_core::verdict::VerdictKind;
use plugboard_runtime::plugin::ToolResult;
use plugboard_runtime::plugin::error::CallError;

/// What a hook answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum InvocationOutcome {
    /// A decision.
    Decision {
        verdict: VerdictKind,
        /// The template, as the plugin gave it.
        sts_url: Option<String>,
        /// Filled for this call. None where the platform takes no URL.
        filled_url: Option<String>,
        prompt: Option<Arc<str>>,
        reason: Option<Arc<str>>,
        cache: Option<CacheDirective>,
    },
    /// A tool's result.
    Result { result: Arc<RawValue>, cache: Option<CacheDirective> },
    /// A tool's own error, which is an answer.
    ToolError { message: Arc<str>, code: Option<Arc<str>> },
    /// What it says to a transfer; null: no opinion.
    Answer { answer: Option<Box<RawValue>> },
    /// It took the event.
    Taken,
}

/// Leave to use an answer again.
#[derive(Debug, Serialize)]
pub(super) struct CacheDirective {
    pub(super) ttl_ms: u64,
    /// The fields of a call that it depends on.
    pub(super) vary: Vec<String>,
}

impl From<CachePolicy> for CacheDirective {
    fn from(CachePolicy { ttl, vary }: CachePolicy) -> Self {
        Self { ttl_ms: to_millis(ttl), vary }
    }
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl InvocationOutcome {
    /// A decision, filled for the call as in service.
    pub(super) fn from_decision(decision: Decision, call: &Call) -> Result<Self, CallError> {
        let Decision { verdict, cache_policy: cache } = decision;
        let kind = verdict.kind();
        let (url, prompt, reason) = match verdict {
            Verdict::Pass => (None, None, None),
            Verdict::Route { sts_url, prompt } => (sts_url, prompt, None),
            Verdict::Reject { reason } => (None, None, Some(reason)),
        };
        let filled = url.as_ref().filter(|_| call.platform.accepts_sts_url);
        Ok(Self::Decision {
            verdict: kind,
            filled_url: filled.map(|url| url.fill(call)).transpose()?,
            sts_url: url.map(|url| url.template().to_owned()),
            prompt,
            reason,
            cache: cache.map(CacheDirective::from),
        })
    }

    /// What a tool came to.
    pub(super) fn from_tool_result(result: ToolResult) -> Self {
        match result {
            ToolResult::Value { value, cache } => {
                Self::Result { result: value, cache: cache.map(CacheDirective::from) }
            }
            ToolResult::Error { message, code } => Self::ToolError { message, code },
        }
    }

    /// The word for people.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Decision { verdict, .. } => verdict.name(),
            Self::Result { .. } => "result",
            Self::ToolError { .. } => "the tool's own error",
            Self::Answer { answer: Some(_) } => "answer",
            Self::Answer { answer: None } => "no opinion",
            Self::Taken => "taken",
        }
    }

    /// What the platform makes of it otherwise than the plugin may think.
    pub(super) fn platform_note(&self, call: &Call) -> Option<String> {
        let platform = call.platform;
        match self {
            Self::Decision { sts_url: Some(_), .. } if !platform.accepts_sts_url => {
                Some(format!("{} has an agent of its own, and takes no URL", platform.name))
            }
            Self::Decision { verdict: VerdictKind::Reject, .. } if !platform.can_reject => {
                Some(format!(
                    "{} cannot reject: the operator's reject_sts_url takes the call",
                    platform.name
                ))
            }
            _ => None,
        }
    }
}

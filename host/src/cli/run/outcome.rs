//! Outcome of a hook in a run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use plugboard_core::call::Call;
use plugboard_core::decision::{CachePolicy, Decision, Verdict};
use plugboard_core::verdict::VerdictKind;
use plugboard_runtime::plugin::ToolResult;
use plugboard_runtime::plugin::error::CallError;

/// Result of a hook.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum InvocationOutcome {
    /// Decision of a router.
    Decision {
        verdict: VerdictKind,
        /// URL template of the plugin.
        sts_url: Option<String>,
        /// URL filled for this call. None: the platform accepts no URL.
        filled_url: Option<String>,
        prompt: Option<Arc<str>>,
        reason: Option<Arc<str>>,
        cache: Option<CacheDirective>,
    },
    /// Result of a tool.
    Result { result: Arc<RawValue>, cache: Option<CacheDirective> },
    /// Error that the tool returned, which is an answer.
    ToolError { message: Arc<str>, code: Option<Arc<str>> },
    /// Answer to a transfer. Null: the plugin has no opinion.
    Answer { answer: Option<Box<RawValue>> },
    /// The observer acknowledged the event.
    Acknowledged,
}

/// Terms under which the result can be cached.
#[derive(Debug, Serialize)]
pub(super) struct CacheDirective {
    pub(super) ttl_ms: u64,
    /// Fields of the call that the result depends on.
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
    /// Converts a decision, and fills its URL for the call.
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

    /// Converts the result of a tool.
    pub(super) fn from_tool_result(result: ToolResult) -> Self {
        match result {
            ToolResult::Value { value, cache } => {
                Self::Result { result: value, cache: cache.map(CacheDirective::from) }
            }
            ToolResult::Error { message, code } => Self::ToolError { message, code },
        }
    }

    /// Returns the label of the text report.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Decision { verdict, .. } => verdict.name(),
            Self::Result { .. } => "result",
            Self::ToolError { .. } => "tool error",
            Self::Answer { answer: Some(_) } => "answer",
            Self::Answer { answer: None } => "declined",
            Self::Acknowledged => "acknowledged",
        }
    }

    /// Returns a note if the platform cannot carry out the decision.
    pub(super) fn platform_note(&self, call: &Call) -> Option<String> {
        let platform = call.platform;
        match self {
            Self::Decision { sts_url: Some(_), .. } if !platform.accepts_sts_url => {
                Some(format!("{} has its own voice agent and accepts no URL", platform.name))
            }
            Self::Decision { verdict: VerdictKind::Reject, .. } if !platform.can_reject => {
                Some(format!(
                    "{} cannot reject: the call goes to the operator's reject_sts_url",
                    platform.name
                ))
            }
            _ => None,
        }
    }
}

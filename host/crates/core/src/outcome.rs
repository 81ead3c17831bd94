//! The outcome of a decision: the chain's result, and the answer to the platform.

use std::sync::Arc;

use crate::decision::Verdict;

/// The outcome of a decision for one call.
#[derive(Debug)]
pub struct RoutingOutcome {
    /// The answer to the platform.
    pub answer: Answer,
    /// The chain's result, which the answer was made from.
    pub result: ChainResult,
}

/// The result of the plugin chain, before templates are filled for the call. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct ChainResult {
    /// The verdict, or the reason for the fallback.
    pub verdict: Result<Verdict, FallbackReason>,
    /// The plugin that decided, or that stopped the chain.
    pub plugin: Option<Arc<str>>,
    /// The source of the plugin's verdict.
    pub source: AnswerSource,
    /// The number of plugins that failed before.
    pub failures: u32,
}

/// The answer to a decision request, in platform-neutral form.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A plugin routes the call.
    Route {
        /// The URL, filled for this call. `None`: the platform uses its own default, or accepts
        /// no URL.
        sts_url: Option<String>,
        /// The voice agent's prompt.
        prompt: Option<Arc<str>>,
    },
    /// A plugin rejects the call.
    Reject {
        /// The reason, for the platform and the operator.
        reason: Arc<str>,
        /// The URL for platforms that cannot reject, filled: the operator's
        /// `reject_sts_url`, else the fallback.
        sts_url: Option<String>,
    },
    /// No plugin decided the call.
    Fallback {
        /// The operator's fallback URL, filled.
        sts_url: Option<String>,
        /// The reason for the fallback.
        reason: FallbackReason,
    },
}

impl Answer {
    /// Returns the label in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Route { .. } => "route",
            Self::Reject { .. } => "reject",
            Self::Fallback { reason: FallbackReason::NoDecision, .. } => "pass",
            Self::Fallback { reason: FallbackReason::Stopped, .. } => "stopped",
            Self::Fallback { reason: FallbackReason::DeadlineExceeded, .. } => "deadline_exceeded",
            Self::Fallback { reason: FallbackReason::Internal, .. } => "internal",
        }
    }
}

/// The reason why no plugin decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// Every matching plugin passed or failed.
    NoDecision,
    /// A plugin with `on_failure = "stop"` failed.
    Stopped,
    /// The decision's time limit was exceeded.
    DeadlineExceeded,
    /// The host failed; the log has the error.
    Internal,
}

/// The source of a plugin's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerSource {
    /// The plugin ran for this call.
    #[default]
    Plugin,
    /// The cache had the answer.
    Cache,
    /// The plugin did not run, because its circuit breaker is open.
    CircuitOpen,
}

impl AnswerSource {
    /// Returns the label in traces, metrics and the live feed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Cache => "cache",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

//! What became of a call: the chain's result, and the answer that a platform gets.

use std::sync::Arc;

use crate::decision::Verdict;

/// What became of a call.
#[derive(Debug)]
pub struct RoutingOutcome {
    /// The answer.
    pub answer: Answer,
    /// What it was made of.
    pub result: ChainResult,
}

/// What became of a call, before it is filled for the call: small, and quick to
/// clone.
#[derive(Clone, Debug)]
pub struct ChainResult {
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, FallbackReason>,
    /// The plugin that gave it, or that stopped the chain.
    pub plugin: Option<Arc<str>>,
    /// Where its word came from.
    pub source: AnswerSource,
    /// How many plugins failed on the way.
    pub failures: u32,
}

/// The answer, ready for a platform.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A plugin routes the call.
    Route {
        /// Filled for this call. None: the platform's own default, as where it takes no
        /// URL.
        sts_url: Option<String>,
        /// What the voice agent shall be told.
        prompt: Option<Arc<str>>,
    },
    /// A plugin rejects the call.
    Reject {
        /// Why.
        reason: Arc<str>,
        /// Who takes the call on platforms that cannot reject, filled: the
        /// operator's `reject_sts_url`, else the fallback.
        sts_url: Option<String>,
    },
    /// No plugin decided.
    Fallback {
        /// The operator's fallback, filled.
        sts_url: Option<String>,
        /// Why.
        reason: FallbackReason,
    },
}

impl Answer {
    /// The word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Route { .. } => "route",
            Self::Reject { .. } => "reject",
            Self::Fallback { reason: FallbackReason::NoDecision, .. } => "pass",
            Self::Fallback { reason: FallbackReason::Stopped, .. } => "stopped",
            Self::Fallback { reason: FallbackReason::DeadlineExceeded, .. } => "late",
            Self::Fallback { reason: FallbackReason::Internal, .. } => "internal",
        }
    }
}

/// Why no plugin decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// Every plugin that was asked passed or failed.
    NoDecision,
    /// A plugin with `on_failure = "stop"` failed.
    Stopped,
    /// The budget of the call was used up.
    DeadlineExceeded,
    /// The host failed; see the log.
    Internal,
}

/// Where a plugin's word on a call came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerSource {
    /// It was asked.
    #[default]
    Plugin,
    /// The cache had it.
    Cache,
    /// It keeps failing, so it was not asked.
    CircuitOpen,
}

impl AnswerSource {
    /// The word for traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "ran",
            Self::Cache => "cached",
            Self::CircuitOpen => "set_aside",
        }
    }
}

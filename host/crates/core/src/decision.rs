//! Decisions and verdicts, independent of the contract's generated types, which stay in the
//! runtime crate.

use std::sync::Arc;
use std::time::Duration;

use crate::sts_url::StsUrl;
use crate::verdict::VerdictKind;

/// A plugin's verdict on a call. It does not depend on a single call, so that it can be
/// cached: the URL is a template, which the router fills for each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The plugin declines: the next plugin decides.
    Pass,
    /// The call is routed.
    Route {
        /// The validated URL of the speech-to-speech service. `None`: the platform's default.
        sts_url: Option<Arc<StsUrl>>,
        /// The voice agent's prompt. `None`: the agent keeps its own prompt.
        prompt: Option<Arc<str>>,
    },
    /// The call is rejected.
    Reject {
        /// The reason, for the platform and the operator.
        reason: Arc<str>,
    },
}

impl Verdict {
    /// Returns the kind of the verdict.
    pub fn kind(&self) -> VerdictKind {
        match self {
            Self::Pass => VerdictKind::Pass,
            Self::Route { .. } => VerdictKind::Route,
            Self::Reject { .. } => VerdictKind::Reject,
        }
    }

    /// Returns the approximate size of its heap data, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Pass => 0,
            Self::Route { sts_url, prompt } => {
                sts_url.as_ref().map_or(0, |url| url.size())
                    + prompt.as_ref().map_or(0, |prompt| prompt.len())
            }
            Self::Reject { reason } => reason.len(),
        }
    }
}

/// A verdict with its cache policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict of the plugin.
    pub verdict: Verdict,
    /// The terms for reuse. `None`: the verdict is not cacheable.
    pub cache_policy: Option<CachePolicy>,
}

/// The terms under which a verdict may be reused for other calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// The time to live in the cache.
    pub ttl: Duration,
    /// The names of the call fields that the verdict depends on.
    pub vary: Vec<String>,
}

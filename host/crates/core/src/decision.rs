//! What a plugin can decide, in our own words: the contract's types end in
//! [`plugboard_runtime::plugin`].

use std::sync::Arc;
use std::time::Duration;

use crate::sts_url::StsUrl;
use crate::verdict::VerdictKind;

/// What shall become of a call. It is the same for every call that the decision
/// holds for: what depends on the call is a template, filled by
/// [`plugboard_routing::router`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No opinion: the next plugin decides.
    Pass,
    /// The call goes on, this way.
    Route {
        /// The speech-to-speech service's URL, found good.
        sts_url: Option<Arc<StsUrl>>,
        /// What the voice agent shall be told.
        prompt: Option<Arc<str>>,
    },
    /// The call shall not be taken.
    Reject {
        /// Why, for the platform and the operator.
        reason: Arc<str>,
    },
}

impl Verdict {
    /// The verdict without its details.
    pub fn kind(&self) -> VerdictKind {
        match self {
            Self::Pass => VerdictKind::Pass,
            Self::Route { .. } => VerdictKind::Route,
            Self::Reject { .. } => VerdictKind::Reject,
        }
    }

    /// Its memory in bytes, roughly.
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

/// A verdict, and for which other calls it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What shall become of the call.
    pub verdict: Verdict,
    /// None: ask again for the next call.
    pub cache_policy: Option<CachePolicy>,
}

/// Leave to reuse a verdict for other calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// For how long.
    pub ttl: Duration,
    /// The call fields that the verdict depended on.
    pub vary: Vec<String>,
}

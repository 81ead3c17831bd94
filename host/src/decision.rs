//! What a plugin can decide, in our own words: the contract's types end in
//! [`crate::plugin`].

use std::time::Duration;

/// What shall become of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No opinion: the next plugin decides.
    Pass,
    /// The call goes on, this way.
    Route {
        /// Template of the speech-to-speech service's URL, as the plugin gave it.
        sts_url: Option<String>,
        /// What the voice agent shall be told.
        prompt: Option<String>,
    },
    /// The call shall not be taken.
    Reject {
        /// Why, for the platform and the operator.
        reason: String,
    },
}

/// A verdict without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No opinion.
    Pass,
    /// The call goes on.
    Route,
    /// The call shall not be taken.
    Reject,
}

impl Verdict {
    /// The verdict without its details.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pass => Kind::Pass,
            Self::Route { .. } => Kind::Route,
            Self::Reject { .. } => Kind::Reject,
        }
    }
}

/// A verdict, and for which other calls it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What shall become of the call.
    pub verdict: Verdict,
    /// None: ask again for the next call.
    pub cache: Option<Reuse>,
}

/// Leave to reuse a verdict for other calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// For how long.
    pub ttl: Duration,
    /// The call fields that the verdict depended on.
    pub vary: Vec<String>,
}

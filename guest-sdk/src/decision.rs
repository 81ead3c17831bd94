//! What a plugin decides.

use std::time::Duration;

/// What shall become of a call: made by [`route`], [`accept`], [`pass`] or [`reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision counts when it is returned"]
pub struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) cache: Option<Cache>,
}

/// The decision proper, for tests to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No opinion: the next plugin decides.
    Pass,
    /// The call goes on, this way.
    Route {
        /// URL template of the speech-to-speech service. None: the platform's own
        /// default.
        sts_url: Option<String>,
        /// What the voice agent shall be told.
        prompt: Option<String>,
    },
    /// The call shall not be taken.
    Reject {
        /// Why.
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) ttl: Duration,
    pub(crate) vary: Vec<String>,
}

/// Routes the call to a speech-to-speech service.
///
/// The URL is a template: the host fills in `{id}`, `{platform}`, `{agent}`,
/// `{from}`, `{to}` and any metadata by its name, percent-encoded. Leave that to
/// the host, as it is safe with whatever a caller sends, and lets one cached
/// decision serve many calls.
pub fn route(sts_url: impl Into<String>) -> Decision {
    Decision::new(Verdict::Route { sts_url: Some(sts_url.into()), prompt: None })
}

/// Takes the call, and leaves it to the platform which service it gets: for a
/// [prompt](Decision::with_prompt), or so that no other plugin decides.
pub fn accept() -> Decision {
    Decision::new(Verdict::Route { sts_url: None, prompt: None })
}

/// Has no opinion: the next plugin decides.
pub fn pass() -> Decision {
    Decision::new(Verdict::Pass)
}

/// Does not take the call. The reason is for the platform and the operator.
pub fn reject(reason: impl Into<String>) -> Decision {
    Decision::new(Verdict::Reject { reason: reason.into() })
}

impl Decision {
    fn new(verdict: Verdict) -> Self {
        Self { verdict, cache: None }
    }

    /// Lets the host use the decision for other calls, for as long as `ttl` and
    /// as long as the call fields that it depended on are the same: `id`,
    /// `agent`, `from`, `to`, or a metadata name. Name every field that the
    /// plugin looked at; those that only fill the URL do not count.
    pub fn cached<F: Into<String>>(self, ttl: Duration, vary: impl IntoIterator<Item = F>) -> Self {
        let vary = vary.into_iter().map(Into::into).collect();
        Self { cache: Some(Cache { ttl, vary }), ..self }
    }

    /// Says what the voice agent shall be told. Only a route has a prompt; other
    /// decisions stay as they are.
    pub fn with_prompt(mut self, text: impl Into<String>) -> Self {
        if let Verdict::Route { prompt, .. } = &mut self.verdict {
            *prompt = Some(text.into());
        }
        self
    }

    /// The decision proper.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The URL template of a route.
    pub fn sts_url(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Route { sts_url, .. } => sts_url.as_deref(),
            _ => None,
        }
    }

    /// For how long it may be used again, and which fields it depended on.
    pub fn cache(&self) -> Option<(Duration, &[String])> {
        self.cache.as_ref().map(|cache| (cache.ttl, cache.vary.as_slice()))
    }
}

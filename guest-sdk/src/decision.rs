//! The decision that a router returns.

use std::time::Duration;

/// The decision about a call. Created by [`route`], [`accept`], [`pass`] or [`reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision has no effect unless it is returned"]
pub struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) cache: Option<Cache>,
}

/// The verdict of a decision, for assertions in tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No opinion: the host asks the next plugin.
    Pass,
    /// The call is taken by this route.
    Route {
        /// URL template of the speech-to-speech service. None: the platform's own
        /// default.
        sts_url: Option<String>,
        /// Prompt of the voice agent for this call.
        prompt: Option<String>,
    },
    /// The call is not taken.
    Reject {
        /// Reason, for the platform and the operator.
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
/// The URL is a template. The host replaces `{id}`, `{platform}`, `{agent}`, `{from}`,
/// `{to}` and any metadata name, such as `{channel}`, with the percent-encoded value of
/// the call. Use the template instead of building the URL in the plugin: no value that a
/// caller sends can change the destination, and one cached decision serves many calls.
pub fn route(sts_url: impl Into<String>) -> Decision {
    Decision::new(Verdict::Route { sts_url: Some(sts_url.into()), prompt: None })
}

/// Takes the call without a URL, so the platform chooses the service. Use it to set only
/// a [prompt](Decision::with_prompt), or to stop the chain of plugins.
pub fn accept() -> Decision {
    Decision::new(Verdict::Route { sts_url: None, prompt: None })
}

/// Declines to decide: the host asks the next plugin.
pub fn pass() -> Decision {
    Decision::new(Verdict::Pass)
}

/// Rejects the call. The reason, at most 4 KiB, is for the platform and the operator; the
/// caller does not hear it.
pub fn reject(reason: impl Into<String>) -> Decision {
    Decision::new(Verdict::Reject { reason: reason.into() })
}

impl Decision {
    fn new(verdict: Verdict) -> Self {
        Self { verdict, cache: None }
    }

    /// Makes the decision cacheable: for the time `ttl`, the host reuses it for calls in
    /// which the fields of `vary` are equal. A field is `id`, `agent`, `from`, `to` or a
    /// metadata name.
    ///
    /// Name every field that the decision depends on; a missing one gives a caller the
    /// decision of another caller. Fields that only fill the URL do not count. The
    /// operator's `cache.max_ttl` limits the time.
    pub fn cached<F: Into<String>>(self, ttl: Duration, vary: impl IntoIterator<Item = F>) -> Self {
        let vary = vary.into_iter().map(Into::into).collect();
        Self { cache: Some(Cache { ttl, vary }), ..self }
    }

    /// Sets the prompt of the voice agent, at most 64 KiB. Only a route has a prompt; on
    /// other decisions, this has no effect.
    pub fn with_prompt(mut self, text: impl Into<String>) -> Self {
        if let Verdict::Route { prompt, .. } = &mut self.verdict {
            *prompt = Some(text.into());
        }
        self
    }

    /// Returns the verdict, for assertions in tests.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Returns the URL template of a route.
    pub fn sts_url(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Route { sts_url, .. } => sts_url.as_deref(),
            _ => None,
        }
    }

    /// Returns the time to live and the vary fields of a cacheable decision.
    pub fn cache(&self) -> Option<(Duration, &[String])> {
        self.cache.as_ref().map(|cache| (cache.ttl, cache.vary.as_slice()))
    }
}

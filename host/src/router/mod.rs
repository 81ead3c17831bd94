//! The chain: asks plugin after plugin until one decides.

mod explain;

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

pub use self::explain::{Explanation, Step};
use crate::cache::{Ask, DecisionCache, Word};
use crate::config::{Answers, CacheConfig};
use crate::decision::Verdict;
use crate::deliveries::Kept;
use crate::event::Call;
use crate::plugin::breaker::Condition;
use crate::plugin::error::PluginError;
use crate::plugin::settings::OnFailure;
use crate::plugin::{Hook, Plugin};
use crate::registry::Generation;
use crate::sts_url::StsUrl;
use crate::traces::spans;

/// What became of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// What it was made of.
    pub ruling: Ruling,
}

/// What became of a call, before it is filled for the call: small, and quick to
/// clone.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, Undecided>,
    /// The plugin that gave it, or that stopped the chain.
    pub by: Option<Arc<str>>,
    /// Where its word came from.
    pub source: Source,
    /// How many plugins failed on the way.
    pub failures: u32,
}

impl Kept for Ruling {
    fn bytes(&self) -> usize {
        // What the cache had is shared with it.
        match (&self.verdict, self.source) {
            (Ok(verdict), Source::Ran) => verdict.size(),
            _ => 0,
        }
    }
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

/// Where a plugin's word on a call came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It was asked.
    #[default]
    Ran,
    /// The cache had it.
    Cached,
    /// It keeps failing, so it was not asked.
    SetAside,
}

impl Source {
    /// The word for traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::SetAside => "set_aside",
        }
    }
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
}

/// What one plugin came to.
struct Heard {
    source: Source,
    said: Result<Arc<Verdict>, PluginError>,
}

/// What the chain needs beside its plugins.
pub struct Router {
    answers: Answers,
    cache: Option<DecisionCache>,
}

impl Router {
    /// A router with these answers of the operator's, and an empty cache.
    pub fn new(answers: Answers, cache: &CacheConfig) -> Self {
        Self { answers, cache: DecisionCache::new(cache) }
    }

    /// The operator's own answers.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&DecisionCache> {
        self.cache.as_ref()
    }

    /// Asks the plugins of a generation about a call. Always answers, until the
    /// deadline at the latest (give or take the engine's tick).
    pub async fn decide(&self, generation: &Generation, call: &Call, deadline: Instant) -> Outcome {
        self.walk(generation, call, deadline, None).await
    }

    /// As [`Router::decide`], but tells what each plugin came to, and leaves no
    /// trace in counters, cache and breakers.
    pub async fn explain(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
    ) -> Explanation {
        let mut steps = Vec::new();
        let outcome = self.walk(generation, call, deadline, Some(&mut steps)).await;
        Explanation::new(generation, call, steps, outcome)
    }

    async fn walk(
        &self,
        generation: &Generation,
        call: &Call,
        deadline: Instant,
        mut steps: Option<&mut Vec<Step>>,
    ) -> Outcome {
        let mut failures = 0;
        for plugin in generation.chain().concerned(call) {
            let start = Instant::now();
            if start >= deadline {
                return self.undecided(Undecided::Late, None, failures, call);
            }
            let span = spans::plugin(plugin, Hook::Router);
            let Heard { source, said } = match steps {
                None => self.ask(plugin, call, deadline).instrument(span.clone()).await,
                Some(_) => self.peek(plugin, call, deadline).await,
            };
            let answer = match &said {
                Ok(verdict) => self.fill(verdict, call),
                Err(_) => Ok(None),
            };
            let failed = said.as_ref().err().or(answer.as_ref().err());
            spans::decided(&span, source, said.as_deref(), failed);
            match &mut steps {
                Some(steps) => {
                    let verdict = said.as_deref().ok();
                    steps.push(Step::new(plugin, source, verdict, failed, start.elapsed()));
                }
                None => {
                    if let Some(error) = failed {
                        if said.is_ok() {
                            // What it decided cannot be used.
                            plugin.stats.failed(error);
                        }
                        plugin.tell_failure(call, start.elapsed(), error);
                    }
                }
            }
            if failed.is_some() {
                failures += 1;
                if plugin.settings().on_failure == OnFailure::Stop {
                    let mut outcome =
                        self.undecided(Undecided::Stopped, Some(plugin), failures, call);
                    outcome.ruling.source = source;
                    return outcome;
                }
            } else if let (Ok(verdict), Ok(Some(answer))) = (said, answer) {
                let by = Some(Arc::clone(plugin.name()));
                let ruling = Ruling { verdict: Ok((*verdict).clone()), by, source, failures };
                return Outcome { answer, ruling };
            }
        }
        let late = failures > 0 && Instant::now() >= deadline;
        let because = if late { Undecided::Late } else { Undecided::Passed };
        self.undecided(because, None, failures, call)
    }

    /// The operator's answer when no plugin decided.
    pub fn undecided(
        &self,
        because: Undecided,
        by: Option<&Arc<Plugin>>,
        failures: u32,
        call: &Call,
    ) -> Outcome {
        let by = by.map(|plugin| Arc::clone(plugin.name()));
        let ruling = Ruling { verdict: Err(because), by, source: Source::Ran, failures };
        Outcome { answer: self.fallback(because, call), ruling }
    }

    /// The same ruling once more, for the same call.
    pub fn again(&self, ruling: Ruling, call: &Call) -> Outcome {
        let answer = match &ruling.verdict {
            Ok(verdict) => self.fill(verdict, call).ok().flatten(),
            Err(because) => Some(self.fallback(*because, call)),
        };
        // It was filled before, unless it is not the same call.
        let answer = answer.unwrap_or_else(|| self.fallback(Undecided::Passed, call));
        Outcome { answer, ruling }
    }

    fn fallback(&self, because: Undecided, call: &Call) -> Answer {
        Answer::Fallback { sts_url: self.fallback_url(call), because }
    }

    fn fallback_url(&self, call: &Call) -> Option<String> {
        own_url(self.answers.fallback_sts_url.as_ref(), call)
    }

    /// One plugin's word on a call: the cache's, else its own.
    async fn ask(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> Heard {
        let Some(cache) = &self.cache else { return run(plugin, call, deadline, None).await };
        match cache.get_or_ask(plugin, call, deadline).await {
            Word::Kept(verdict) => kept(plugin, verdict),
            Word::Ask(ask) => {
                if plugin.habits.allow_reuse() {
                    plugin.stats.missed();
                }
                run(plugin, call, deadline, Some(ask)).await
            }
            Word::Race(ask, race) => tokio::select! {
                verdict = race.won(plugin, call) => kept(plugin, verdict),
                heard = run(plugin, call, deadline, Some(ask)) => {
                    plugin.stats.missed();
                    heard
                }
            },
        }
    }

    /// As [`Router::ask`], without a trace.
    async fn peek(&self, plugin: &Plugin, call: &Call, deadline: Instant) -> Heard {
        if let Some(verdict) = self.cache.as_ref().and_then(|cache| cache.get(plugin, call)) {
            return Heard { source: Source::Cached, said: Ok(verdict) };
        }
        if plugin.breaker(Hook::Router).condition(Instant::now()) == Condition::Open {
            return Heard { source: Source::SetAside, said: Err(PluginError::SetAside) };
        }
        let said = Box::pin(plugin.decide(call, deadline)).await;
        Heard { source: Source::Ran, said: said.map(|decision| Arc::new(decision.verdict)) }
    }

    /// A verdict as an answer for this call. None: the plugin has no opinion.
    fn fill(&self, verdict: &Verdict, call: &Call) -> Result<Option<Answer>, PluginError> {
        match verdict {
            Verdict::Pass => Ok(None),
            Verdict::Route { sts_url, prompt } => {
                let sts_url = sts_url.as_ref().filter(|_| call.platform.takes_url);
                let sts_url = sts_url.map(|url| url.fill(call)).transpose()?;
                Ok(Some(Answer::Route { sts_url, prompt: prompt.clone() }))
            }
            Verdict::Reject { reason } => {
                let sts_url = own_url(self.answers.reject_sts_url.as_ref(), call)
                    .or_else(|| self.fallback_url(call));
                Ok(Some(Answer::Reject { reason: Arc::clone(reason), sts_url }))
            }
        }
    }
}

/// A verdict that the plugin need not be asked for.
fn kept(plugin: &Plugin, verdict: Arc<Verdict>) -> Heard {
    plugin.stats.cached(verdict.kind());
    plugin.breaker(Hook::Router).answered();
    Heard { source: Source::Cached, said: Ok(verdict) }
}

/// Runs a plugin, unless it is set aside; counts, and tells the cache.
async fn run(plugin: &Plugin, call: &Call, deadline: Instant, ask: Option<Ask<'_>>) -> Heard {
    let start = Instant::now();
    // On the heap, or every call would carry the room for it around, though the
    // cache has its answer.
    let said = plugin.attempt(Hook::Router, Box::pin(plugin.decide(call, deadline))).await;
    if let Err(PluginError::SetAside) = &said {
        plugin.stats.set_aside();
        return Heard { source: Source::SetAside, said: Err(PluginError::SetAside) };
    }
    plugin.stats.ran(start.elapsed(), said.as_ref().map(|decision| decision.verdict.kind()));
    if let Some(ask) = ask {
        ask.answered(plugin, call, said.as_ref().ok());
    }
    Heard { source: Source::Ran, said: said.map(|decision| Arc::new(decision.verdict)) }
}

/// One of the operator's own URLs, filled. It was checked at start; what is
/// left is a caller whose text would bend its path.
fn own_url(url: Option<&StsUrl>, call: &Call) -> Option<String> {
    let filled = url.filter(|_| call.platform.takes_url)?.fill(call);
    filled
        .inspect_err(|error| {
            tracing::warn!(call = call.id.as_str(), "fallback or reject URL: {error}")
        })
        .ok()
}

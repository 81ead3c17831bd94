//! The hooks of the contract: what a plugin is asked and told, and what its words
//! mean. How a guest is run and bounded is [`super::call`]'s business.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::bindings::exports::plugboard::plugin::{router, tools};
use super::bindings::plugboard::plugin::types;
use super::call::{Allowed, MAX_ERROR, Run};
use super::component::Checked;
use super::error::PluginError;
use super::{Hook, Plugin, Shared, told};
use crate::capability::log::quote;
use crate::decision::{Decision, Reuse, Verdict};
use crate::engine::Engine;
use crate::event::{Call, Event};
use crate::nesting;
use crate::store::Identity;

/// How long an event waits for a place in the pool, before it is tried again
/// later.
const ROOM: Duration = Duration::from_secs(10);

/// Longest prompt in bytes. Those of voice agents have some KiB.
const MAX_PROMPT: usize = 64 * 1024;

/// Longest reason of a rejection, and message of a tool's error, in bytes: a
/// sentence or two.
const MAX_SENTENCE: usize = 4 * 1024;

/// Longest code of a tool's error, in bytes.
const MAX_CODE: usize = 128;

/// What a tool came to.
#[derive(Clone, Debug)]
pub enum ToolResult {
    /// For the agent.
    Value {
        /// JSON.
        value: Arc<RawValue>,
        /// Leave to give it again for the same arguments.
        cache: Option<Reuse>,
    },
    /// The tool's own error, for the agent as well.
    Error {
        /// A sentence.
        message: Arc<str>,
        /// A word for programs.
        code: Option<Arc<str>>,
    },
}

impl Plugin {
    /// Asks the plugin about a call, until the deadline at the latest.
    ///
    /// # Errors
    ///
    /// When there is no decision, for whatever reason.
    pub async fn decide(&self, call: &Call, deadline: Instant) -> Result<Decision, PluginError> {
        let hook = Hook::Router;
        let router = self.component.router.as_ref().ok_or(PluginError::NotExported(hook))?;
        let mut run = self.run(hook, &call.id, deadline, deadline).await?;
        let (turn, until) = run.clock();
        let guest = async {
            let instance = Run::instance(&mut run.store, &self.component.pre).await?;
            let router = router.load(&mut run.store, &instance)?;
            told::call(call, async |call| router.call_decide(&mut run.store, call).await).await
        };
        let answer = timeout_at(until, turn.watch(guest)).await;
        judge(run.outcome(answer)?.map_err(|error| guest_error(&error))?, &self.shared)
    }

    /// Tells the plugin of an event.
    ///
    /// # Errors
    ///
    /// When it did not take it, for whatever reason.
    pub async fn observe(&self, event: &Event, id: Identity) -> Result<(), PluginError> {
        let hook = Hook::Observer;
        let observer = self.component.observer.as_ref().ok_or(PluginError::NotExported(hook))?;
        // Nobody waits for it: it has all of its time, however late it gets a place.
        let room_until = Instant::now() + ROOM;
        let deadline = room_until + self.timeout(hook);
        let mut run = self.run(hook, &event.call.id, room_until, deadline).await?;
        let (turn, until) = run.clock();
        let guest = async {
            let instance = Run::instance(&mut run.store, &self.component.pre).await?;
            let observer = observer.load(&mut run.store, &instance)?;
            let store = &mut run.store;
            told::event(event, id, async |event| observer.call_on_event(store, event).await).await
        };
        let answer = timeout_at(until, turn.watch(guest)).await;
        run.outcome(answer)?.map_err(|error| guest_error(&error))
    }

    /// Has the plugin answer a tool, until the deadline at the latest.
    ///
    /// # Errors
    ///
    /// When there is no answer, for whatever reason. The tool's own error is one.
    pub async fn invoke(
        &self,
        call: &Call,
        tool: &str,
        arguments: &RawValue,
        deadline: Instant,
    ) -> Result<ToolResult, PluginError> {
        let hook = Hook::Tools;
        let tools = self.component.tools.as_ref().ok_or(PluginError::NotExported(hook))?;
        let mut run = self.run(hook, &call.id, deadline, deadline).await?;
        let (turn, until) = run.clock();
        let guest = async {
            let instance = Run::instance(&mut run.store, &self.component.pre).await?;
            let tools = tools.load(&mut run.store, &instance)?;
            let (store, arguments) = (&mut run.store, arguments.get());
            told::call(call, async |call| tools.call_invoke(store, call, tool, arguments).await)
                .await
        };
        let answer = timeout_at(until, turn.watch(guest)).await;
        match run.outcome(answer)? {
            Ok(tools::ToolResult { value, cache }) => Ok(ToolResult::Value {
                value: json("result", value)?.into(),
                cache: cache.map(reuse),
            }),
            Err(tools::ToolError { message, code }) => Ok(ToolResult::Error {
                // Often an error's own words, which nobody has counted.
                message: cut(message, MAX_SENTENCE).into(),
                code: code.map(|code| bounded("code", code, MAX_CODE)).transpose()?,
            }),
        }
    }

    /// Asks the plugin about a transfer, until the deadline at the latest. None: it has
    /// no opinion.
    ///
    /// # Errors
    ///
    /// When there is no answer, for whatever reason.
    pub async fn transfer(
        &self,
        call: &Call,
        request: &RawValue,
        deadline: Instant,
    ) -> Result<Option<Box<RawValue>>, PluginError> {
        let hook = Hook::Transfers;
        let transfers = self.component.transfers.as_ref();
        let transfers = transfers.ok_or(PluginError::NotExported(hook))?;
        let mut run = self.run(hook, &call.id, deadline, deadline).await?;
        let (turn, until) = run.clock();
        let guest = async {
            let instance = Run::instance(&mut run.store, &self.component.pre).await?;
            let transfers = transfers.load(&mut run.store, &instance)?;
            let (store, request) = (&mut run.store, request.get());
            told::call(call, async |call| transfers.call_decide(store, call, request).await).await
        };
        let answer = timeout_at(until, turn.watch(guest)).await;
        let answer = run.outcome(answer)?.map_err(|error| guest_error(&error))?;
        answer.map(|answer| json("answer", answer)).transpose()
    }

    async fn run(
        &self,
        hook: Hook,
        call: &str,
        room_until: Instant,
        deadline: Instant,
    ) -> Result<Run, PluginError> {
        let allowed = Allowed { hook, timeout: self.timeout(hook), room_until, deadline };
        Run::enter(&self.shared, &self.engine, call, &allowed).await
    }
}

/// Makes an instance and drops it again: whatever stands in the way of that is told
/// at load, not on the first call. The names of its tools, if it has any.
pub(super) async fn try_instance(
    shared: &Arc<Shared>,
    engine: &Engine,
    component: &Checked,
    timeout: Duration,
) -> Result<Vec<String>, PluginError> {
    let deadline = Instant::now() + timeout;
    let allowed = Allowed { hook: Hook::Router, timeout, room_until: deadline, deadline };
    let mut run = Run::enter(shared, engine, "", &allowed).await?;
    let (turn, until) = run.clock();
    let guest = async {
        let instance = Run::instance(&mut run.store, &component.pre).await?;
        let Some(tools) = &component.tools else { return Ok(Vec::new()) };
        tools.load(&mut run.store, &instance)?.call_names(&mut run.store).await
    };
    let made = timeout_at(until, turn.watch(guest)).await;
    run.outcome(made)
}

fn guest_error(message: &str) -> PluginError {
    PluginError::Guest(quote(message, MAX_ERROR))
}

/// The contract's decision in our words, its URL found good.
fn judge(decision: router::Decision, shared: &Shared) -> Result<Decision, PluginError> {
    let verdict = match decision.verdict {
        types::VerdictResult::Pass => Verdict::Pass,
        types::VerdictResult::Route(route) => {
            let sts_url = route.sts_url.map(|url| shared.url(url)).transpose()?;
            let prompt =
                route.prompt.map(|prompt| bounded("prompt", prompt, MAX_PROMPT)).transpose()?;
            Verdict::Route { sts_url, prompt }
        }
        types::VerdictResult::Reject(rejection) => {
            Verdict::Reject { reason: bounded("reason", rejection.reason, MAX_SENTENCE)? }
        }
    };
    Ok(Decision { verdict, cache: decision.cache.map(reuse) })
}

fn reuse(cache: types::Cache) -> Reuse {
    Reuse { ttl: Duration::from_millis(cache.ttl), vary: cache.vary }
}

/// A text of the guest's as JSON, if it is that, and not nested so deeply that a
/// platform could choke on it.
fn json(what: &'static str, text: String) -> Result<Box<RawValue>, PluginError> {
    let not_json = |detail| PluginError::NotJson { what, detail };
    nesting::check(text.as_bytes()).map_err(|error| not_json(error.to_string()))?;
    // Of serde's message what tells where; it quotes nothing of what it could not read.
    RawValue::from_string(text).map_err(|error| not_json(error.to_string()))
}

/// The beginning of a text that may be too long.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// A text of a decision, if it is not longer than it may be: it is kept.
fn bounded(what: &'static str, text: String, limit: usize) -> Result<Arc<str>, PluginError> {
    match text.len() {
        length if length > limit => Err(PluginError::TooLong { what, length, limit }),
        _ => Ok(text.into()),
    }
}

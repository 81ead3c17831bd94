//! The hooks of the contract: what a plugin is asked and told, and what its words
//! mean. How a guest is run and bounded is [`super::invocation`]'s business.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::bindings::exports::plugboard::plugin::{router, tools};
use super::bindings::plugboard::plugin::types;
use super::component::LinkedComponent;
use super::error::PluginError;
use super::invocation::{GuestInvocation, InvocationLimits, MAX_ERROR};
use super::{Hook, Plugin, PluginContext, wit_convert};
use crate::engine::Engine;
use plugboard_core::call::Call;
use plugboard_core::decision::{CachePolicy, Decision, Verdict};
use plugboard_core::event::Event;
use plugboard_core::event_id::EventId;
use plugboard_core::json_depth;
use plugboard_core::text::sanitize;

/// How long an event waits for a place in the pool, before it is tried again
/// later.
const MAX_INSTANCE_WAIT: Duration = Duration::from_secs(10);

/// Longest prompt in bytes. Those of voice agents have some KiB.
const MAX_PROMPT: usize = 64 * 1024;

/// Longest reason of a rejection, and message of a tool's error, in bytes: a
/// sentence or two.
const MAX_SENTENCE_LEN: usize = 4 * 1024;

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
        cache: Option<CachePolicy>,
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
        let mut invocation = self.start_invocation(hook, &call.id, deadline, deadline).await?;
        let (cpu, guest_deadline) = invocation.cpu_and_deadline();
        let guest = async {
            let instance =
                GuestInvocation::instantiate(&mut invocation.store, &self.component.instance_pre)
                    .await?;
            let router = router.load(&mut invocation.store, &instance)?;
            wit_convert::with_wit_call(call, async |call| {
                router.call_decide(&mut invocation.store, call).await
            })
            .await
        };
        let answer = timeout_at(guest_deadline, cpu.run(guest)).await;
        convert_decision(
            invocation.finish(answer)?.map_err(|error| guest_error(&error))?,
            &self.context,
        )
    }

    /// Tells the plugin of an event.
    ///
    /// # Errors
    ///
    /// When it did not take it, for whatever reason.
    pub async fn observe(&self, event: &Event, id: EventId) -> Result<(), PluginError> {
        let hook = Hook::Observer;
        let observer = self.component.observer.as_ref().ok_or(PluginError::NotExported(hook))?;
        // Nobody waits for it: it has all of its time, however late it gets a place.
        let acquire_deadline = Instant::now() + MAX_INSTANCE_WAIT;
        let deadline = acquire_deadline + self.timeout(hook);
        let mut invocation =
            self.start_invocation(hook, &event.call.id, acquire_deadline, deadline).await?;
        let (cpu, guest_deadline) = invocation.cpu_and_deadline();
        let guest = async {
            let instance =
                GuestInvocation::instantiate(&mut invocation.store, &self.component.instance_pre)
                    .await?;
            let observer = observer.load(&mut invocation.store, &instance)?;
            let store = &mut invocation.store;
            wit_convert::with_wit_event(event, id, async |event| {
                observer.call_on_event(store, event).await
            })
            .await
        };
        let answer = timeout_at(guest_deadline, cpu.run(guest)).await;
        invocation.finish(answer)?.map_err(|error| guest_error(&error))
    }

    /// Has the plugin answer a tool, until the deadline at the latest.
    ///
    /// # Errors
    ///
    /// When there is no answer, for whatever reason. The tool's own error is one.
    pub async fn invoke_tool(
        &self,
        call: &Call,
        tool: &str,
        arguments: &RawValue,
        deadline: Instant,
    ) -> Result<ToolResult, PluginError> {
        let hook = Hook::Tools;
        let tools = self.component.tools.as_ref().ok_or(PluginError::NotExported(hook))?;
        let mut invocation = self.start_invocation(hook, &call.id, deadline, deadline).await?;
        let (cpu, guest_deadline) = invocation.cpu_and_deadline();
        let guest = async {
            let instance =
                GuestInvocation::instantiate(&mut invocation.store, &self.component.instance_pre)
                    .await?;
            let tools = tools.load(&mut invocation.store, &instance)?;
            let (store, arguments) = (&mut invocation.store, arguments.get());
            wit_convert::with_wit_call(call, async |call| {
                tools.call_invoke(store, call, tool, arguments).await
            })
            .await
        };
        let answer = timeout_at(guest_deadline, cpu.run(guest)).await;
        match invocation.finish(answer)? {
            Ok(tools::ToolResult { value, cache }) => Ok(ToolResult::Value {
                value: parse_json("result", value)?.into(),
                cache: cache.map(convert_cache),
            }),
            Err(tools::ToolError { message, code }) => Ok(ToolResult::Error {
                // Often an error's own words, which nobody has counted.
                message: truncate(message, MAX_SENTENCE_LEN).into(),
                code: code.map(|code| check_length("code", code, MAX_CODE)).transpose()?,
            }),
        }
    }

    /// Asks the plugin about a transfer, until the deadline at the latest. None: it has
    /// no opinion.
    ///
    /// # Errors
    ///
    /// When there is no answer, for whatever reason.
    pub async fn decide_transfer(
        &self,
        call: &Call,
        request: &RawValue,
        deadline: Instant,
    ) -> Result<Option<Box<RawValue>>, PluginError> {
        let hook = Hook::Transfers;
        let transfers = self.component.transfers.as_ref();
        let transfers = transfers.ok_or(PluginError::NotExported(hook))?;
        let mut invocation = self.start_invocation(hook, &call.id, deadline, deadline).await?;
        let (cpu, guest_deadline) = invocation.cpu_and_deadline();
        let guest = async {
            let instance =
                GuestInvocation::instantiate(&mut invocation.store, &self.component.instance_pre)
                    .await?;
            let transfers = transfers.load(&mut invocation.store, &instance)?;
            let (store, request) = (&mut invocation.store, request.get());
            wit_convert::with_wit_call(call, async |call| {
                transfers.call_decide(store, call, request).await
            })
            .await
        };
        let answer = timeout_at(guest_deadline, cpu.run(guest)).await;
        let answer = invocation.finish(answer)?.map_err(|error| guest_error(&error))?;
        answer.map(|answer| parse_json("answer", answer)).transpose()
    }

    async fn start_invocation(
        &self,
        hook: Hook,
        call: &str,
        acquire_deadline: Instant,
        deadline: Instant,
    ) -> Result<GuestInvocation, PluginError> {
        let limits =
            InvocationLimits { hook, timeout: self.timeout(hook), acquire_deadline, deadline };
        GuestInvocation::start(&self.context, &self.engine, call, &limits).await
    }
}

/// Makes an instance and drops it again: whatever stands in the way of that is told
/// at load, not on the first call. The names of its tools, if it has any.
pub(super) async fn run_trial_instance(
    context: &Arc<PluginContext>,
    engine: &Engine,
    component: &LinkedComponent,
    timeout: Duration,
) -> Result<Vec<String>, PluginError> {
    let deadline = Instant::now() + timeout;
    let limits =
        InvocationLimits { hook: Hook::Router, timeout, acquire_deadline: deadline, deadline };
    let mut invocation = GuestInvocation::start(context, engine, "", &limits).await?;
    let (cpu, guest_deadline) = invocation.cpu_and_deadline();
    let guest = async {
        let instance =
            GuestInvocation::instantiate(&mut invocation.store, &component.instance_pre).await?;
        let Some(tools) = &component.tools else { return Ok(Vec::new()) };
        tools.load(&mut invocation.store, &instance)?.call_names(&mut invocation.store).await
    };
    let tool_names = timeout_at(guest_deadline, cpu.run(guest)).await;
    invocation.finish(tool_names)
}

fn guest_error(message: &str) -> PluginError {
    PluginError::GuestError(sanitize(message, MAX_ERROR))
}

/// The contract's decision in our words, its URL found good.
fn convert_decision(
    decision: router::Decision,
    context: &PluginContext,
) -> Result<Decision, PluginError> {
    let verdict = match decision.verdict {
        types::VerdictResult::Pass => Verdict::Pass,
        types::VerdictResult::Route(route) => {
            let sts_url = route.sts_url.map(|url| context.parse_sts_url(url)).transpose()?;
            let prompt = route
                .prompt
                .map(|prompt| check_length("prompt", prompt, MAX_PROMPT))
                .transpose()?;
            Verdict::Route { sts_url, prompt }
        }
        types::VerdictResult::Reject(rejection) => {
            Verdict::Reject { reason: check_length("reason", rejection.reason, MAX_SENTENCE_LEN)? }
        }
    };
    Ok(Decision { verdict, cache_policy: decision.cache.map(convert_cache) })
}

fn convert_cache(cache: types::Cache) -> CachePolicy {
    CachePolicy { ttl: Duration::from_millis(cache.ttl), vary: cache.vary }
}

/// A text of the guest's as JSON, if it is that, and not nested so deeply that a
/// platform could choke on it.
fn parse_json(what: &'static str, text: String) -> Result<Box<RawValue>, PluginError> {
    let not_json = |detail| PluginError::NotJson { what, detail };
    json_depth::check(text.as_bytes()).map_err(|error| not_json(error.to_string()))?;
    // Of serde's message what tells where; it quotes nothing of what it could not read.
    RawValue::from_string(text).map_err(|error| not_json(error.to_string()))
}

/// The beginning of a text that may be too long.
fn truncate(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// A text of a decision, if it is not longer than it may be: it is kept.
fn check_length(what: &'static str, text: String, limit: usize) -> Result<Arc<str>, PluginError> {
    match text.len() {
        length if length > limit => Err(PluginError::TooLong { what, length, limit }),
        _ => Ok(text.into()),
    }
}

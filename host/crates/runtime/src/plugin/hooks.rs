//! Hooks of the contract: calls a plugin's export and validates its answer.
//!
//! [`super::invocation`] creates the instance and enforces the limits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::bindings::exports::plugboard::plugin::{router, tools};
use super::bindings::plugboard::plugin::types;
use super::component::LinkedComponent;
use super::context::PluginContext;
use super::contract::Hook;
use super::error::{CallError, MAX_ERROR};
use super::guest_state::GuestState;
use super::invocation::{GuestInvocation, InvocationLimits};
use super::{Plugin, wit_convert};
use crate::engine::Engine;
use plugboard_core::call::Call;
use plugboard_core::decision::{CachePolicy, Decision, Verdict};
use plugboard_core::event::Event;
use plugboard_core::event_id::EventId;
use plugboard_core::json_depth;
use plugboard_core::text::sanitize;

/// Longest wait of an event for an instance. After it, the event is retried later.
const MAX_INSTANCE_WAIT: Duration = Duration::from_secs(10);

/// Longest prompt, in bytes. Prompts of voice agents have several KiB.
const MAX_PROMPT: usize = 64 * 1024;

/// Longest reason of a rejection and longest message of a tool's error, in bytes. Both are
/// one or two sentences.
const MAX_SENTENCE_LEN: usize = 4 * 1024;

/// Longest code of a tool's error, in bytes.
const MAX_CODE: usize = 128;

/// Answer of a tool.
#[derive(Clone, Debug)]
pub enum ToolResult {
    /// Result of the tool.
    Value {
        /// Result as JSON, for the voice agent.
        value: Arc<RawValue>,
        /// Policy for the reuse of the result for the same arguments. `None`: no reuse.
        cache: Option<CachePolicy>,
    },
    /// Error of the tool itself, which the voice agent receives as an answer.
    Error {
        /// Text for the voice agent.
        message: Arc<str>,
        /// Machine-readable code of the error.
        code: Option<Arc<str>>,
    },
}

impl Plugin {
    /// Calls the `router` hook, which decides where a call goes. Waits for an instance and
    /// for the plugin until the deadline.
    ///
    /// # Errors
    ///
    /// If there is no usable decision: see [`CallError`].
    pub async fn decide(&self, call: &Call, deadline: Instant) -> Result<Decision, CallError> {
        let exports = exported(&self.component.router, Hook::Router)?;
        let limits = self.invocation_limits(Hook::Router, deadline);
        let answer = self.invoke(&limits, &call.id, async |store, instance| {
            let router = exports.load(&mut *store, instance)?;
            wit_convert::with_wit_call(call, async |call| router.call_decide(store, call).await)
                .await
        });
        convert_decision(answer.await?.map_err(|error| guest_error(&error))?, &self.context)
    }

    /// Calls the `observer` hook, which delivers an event.
    ///
    /// No caller waits for an observer. Its `event_timeout` therefore starts when it gets an
    /// instance.
    ///
    /// # Errors
    ///
    /// If the plugin has not accepted the event: see [`CallError`].
    pub async fn observe(&self, event: &Event, id: EventId) -> Result<(), CallError> {
        let exports = exported(&self.component.observer, Hook::Observer)?;
        let acquire_deadline = Instant::now() + MAX_INSTANCE_WAIT;
        let deadline = acquire_deadline + self.timeout(Hook::Observer);
        let limits = InvocationLimits {
            acquire_deadline,
            ..self.invocation_limits(Hook::Observer, deadline)
        };
        let answer = self.invoke(&limits, &event.call.id, async |store, instance| {
            let observer = exports.load(&mut *store, instance)?;
            wit_convert::with_wit_event(event, id, async |event| {
                observer.call_on_event(store, event).await
            })
            .await
        });
        answer.await?.map_err(|error| guest_error(&error))
    }

    /// Calls the `tools` hook, which invokes a tool. Waits for an instance and for the plugin
    /// until the deadline.
    ///
    /// # Errors
    ///
    /// If there is no usable answer: see [`CallError`]. The tool's own error is an
    /// answer, [`ToolResult::Error`].
    pub async fn invoke_tool(
        &self,
        call: &Call,
        tool: &str,
        arguments: &RawValue,
        deadline: Instant,
    ) -> Result<ToolResult, CallError> {
        let exports = exported(&self.component.tools, Hook::Tools)?;
        let limits = self.invocation_limits(Hook::Tools, deadline);
        let answer = self.invoke(&limits, &call.id, async |store, instance| {
            let tools = exports.load(&mut *store, instance)?;
            wit_convert::with_wit_call(call, async |call| {
                tools.call_invoke(store, call, tool, arguments.get()).await
            })
            .await
        });
        match answer.await? {
            Ok(tools::ToolResult { value, cache }) => Ok(ToolResult::Value {
                value: parse_json("result", value)?.into(),
                cache: cache.map(convert_cache),
            }),
            Err(tools::ToolError { message, code }) => Ok(ToolResult::Error {
                // Truncated instead of rejected, because it is often the text of a library's
                // error.
                message: truncate(message, MAX_SENTENCE_LEN).into(),
                code: code.map(|code| check_length("code", code, MAX_CODE)).transpose()?,
            }),
        }
    }

    /// Calls the `transfers` hook, which decides a transfer. Waits for an instance and for the
    /// plugin until the deadline. `None`: the plugin declined.
    ///
    /// # Errors
    ///
    /// If there is no usable answer: see [`CallError`].
    pub async fn decide_transfer(
        &self,
        call: &Call,
        request: &RawValue,
        deadline: Instant,
    ) -> Result<Option<Box<RawValue>>, CallError> {
        let exports = exported(&self.component.transfers, Hook::Transfers)?;
        let limits = self.invocation_limits(Hook::Transfers, deadline);
        let answer = self.invoke(&limits, &call.id, async |store, instance| {
            let transfers = exports.load(&mut *store, instance)?;
            wit_convert::with_wit_call(call, async |call| {
                transfers.call_decide(store, call, request.get()).await
            })
            .await
        });
        let answer = answer.await?.map_err(|error| guest_error(&error))?;
        answer.map(|answer| parse_json("answer", answer)).transpose()
    }

    /// Returns the limits of a call that waits for an instance until its deadline.
    fn invocation_limits(&self, hook: Hook, deadline: Instant) -> InvocationLimits {
        let timeout = self.timeout(hook);
        InvocationLimits { hook, timeout, acquire_deadline: deadline, deadline }
    }

    /// Runs `guest`, a call of one hook, in a new instance.
    async fn invoke<T>(
        &self,
        limits: &InvocationLimits,
        call: &str,
        guest: impl AsyncFnOnce(&mut Store<GuestState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let invocation = GuestInvocation::start(&self.context, &self.engine, call, limits).await?;
        invocation.run(&self.component.instance_pre, guest).await
    }
}

/// Returns the exports of a hook's interface, if the component has it.
fn exported<E>(exports: &Option<E>, hook: Hook) -> Result<&E, CallError> {
    exports.as_ref().ok_or(CallError::NotExported(hook))
}

/// Creates an instance and drops it, so that a component that cannot be instantiated fails
/// at load and not on its first call. Returns the names of its tools, if it exports any.
pub(super) async fn run_trial_instance(
    context: &Arc<PluginContext>,
    engine: &Engine,
    component: &LinkedComponent,
    timeout: Duration,
) -> Result<Vec<String>, CallError> {
    let deadline = Instant::now() + timeout;
    let limits =
        InvocationLimits { hook: Hook::Router, timeout, acquire_deadline: deadline, deadline };
    let invocation = GuestInvocation::start(context, engine, "", &limits).await?;
    let tool_names = invocation.run(&component.instance_pre, async |store, instance| {
        let Some(tools) = &component.tools else { return Ok(Vec::new()) };
        tools.load(&mut *store, instance)?.call_names(store).await
    });
    tool_names.await
}

fn guest_error(message: &str) -> CallError {
    CallError::GuestError(sanitize(message, MAX_ERROR))
}

/// Converts a decision from the contract's types and validates it.
fn convert_decision(
    decision: router::Decision,
    context: &PluginContext,
) -> Result<Decision, CallError> {
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

/// Parses a guest's text as JSON. Rejects JSON that is nested so deeply that a
/// platform's parser could overflow its stack.
fn parse_json(what: &'static str, text: String) -> Result<Box<RawValue>, CallError> {
    let not_json = |source| CallError::NotJson { what, source };
    json_depth::check(text.as_bytes()).map_err(|error| not_json(error.into()))?;
    // The error of serde has the position and does not quote the text.
    RawValue::from_string(text).map_err(|error| not_json(error.into()))
}

/// Truncates a text to at most `limit` bytes, at a character boundary.
fn truncate(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// Rejects a text of more than `limit` bytes.
fn check_length(what: &'static str, text: String, limit: usize) -> Result<Arc<str>, CallError> {
    match text.len() {
        length if length > limit => Err(CallError::TooLong { what, length, limit }),
        _ => Ok(text.into()),
    }
}

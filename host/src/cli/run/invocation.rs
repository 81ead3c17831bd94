//! Parses the document of a platform, and selects the hooks that it is for.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::outcome::InvocationOutcome;
use plugboard_config::Config;
use plugboard_core::call::Call;
use plugboard_core::event::{Event, EventBody};
use plugboard_core::platforms::Platform;
use plugboard_events::journal::event_id_of;
use plugboard_platform::{self as platform, BadRequest, PlatformRequest, ToolUse, Transfer};
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::{Hook, Plugin};

/// What a platform said, and how much time there would be for it.
pub(super) struct ReceivedRequest {
    request: PlatformRequest,
    /// Of a call that is decided, or transferred.
    decision_timeout: Duration,
    /// Of a tool.
    tool_timeout: Duration,
}

impl ReceivedRequest {
    /// Reads what a platform posts. Which one is told by the body, or given.
    pub(super) fn read(
        config: &Config,
        body: &[u8],
        platform: Option<Platform>,
    ) -> Result<Self, BadRequest> {
        let adapters = platform::adapters(config);
        let override_brand = |message| override_platform(message, platform);
        let (adapter, message) =
            platform::recognize(&adapters, &HeaderMap::new(), body, override_brand)?;
        let tool_timeout = adapter.request_limits().tool_timeout;
        Ok(Self { request: message, decision_timeout: config.limits.budget, tool_timeout })
    }

    /// Its parts, for the hooks that a plugin has.
    pub(super) fn into_invocations(self, plugin: &Plugin) -> Vec<HookInvocation> {
        let Self { request: message, decision_timeout: budget, tool_timeout } = self;
        let to_invocation = |hook, input| {
            let time = if hook == Hook::Tools { tool_timeout } else { budget };
            HookInvocation { hook, input, timeout: time }
        };
        match message {
            // An observer is told of it as well, in service.
            PlatformRequest::Decision(event)
                if !plugin.has_hook(Hook::Router) && plugin.has_hook(Hook::Observer) =>
            {
                vec![to_invocation(Hook::Observer, InvocationInput::Event(event))]
            }
            PlatformRequest::Decision(event) => {
                vec![to_invocation(Hook::Router, InvocationInput::Decision(event.call))]
            }
            PlatformRequest::Tool(tool) => {
                vec![to_invocation(Hook::Tools, InvocationInput::Tool(tool))]
            }
            PlatformRequest::Transfer(transfer) => {
                vec![to_invocation(Hook::Transfers, InvocationInput::Transfer(transfer))]
            }
            PlatformRequest::Events(events) => {
                let to_observation =
                    |event| to_invocation(Hook::Observer, InvocationInput::Event(event));
                events.into_iter().map(to_observation).collect()
            }
        }
    }
}

/// The message, with the platform that it shall be of.
fn override_platform(
    mut message: PlatformRequest,
    platform: Option<Platform>,
) -> Result<PlatformRequest, String> {
    let Some(platform) = platform else { return Ok(message) };
    let set_platform = |call: &mut Arc<Call>| {
        if call.platform.family != platform.family {
            return Err(format!("it is for {} (--platform)", platform.name));
        }
        Arc::make_mut(call).platform = platform;
        Ok(())
    };
    match &mut message {
        PlatformRequest::Decision(event) => set_platform(&mut event.call)?,
        PlatformRequest::Tool(tool) => set_platform(&mut tool.call)?,
        PlatformRequest::Transfer(transfer) => set_platform(&mut transfer.call)?,
        PlatformRequest::Events(events) => {
            events.iter_mut().try_for_each(|event| set_platform(&mut event.call))?;
        }
    }
    Ok(message)
}

/// One call of one hook.
pub(super) struct HookInvocation {
    /// Which hook.
    pub(super) hook: Hook,
    input: InvocationInput,
    timeout: Duration,
}

enum InvocationInput {
    Decision(Arc<Call>),
    Event(Event),
    Tool(ToolUse),
    Transfer(Transfer),
}

impl HookInvocation {
    /// The call that it is about.
    pub(super) fn call(&self) -> &Call {
        match &self.input {
            InvocationInput::Decision(call) => call,
            InvocationInput::Event(event) => &event.call,
            InvocationInput::Tool(tool) => &tool.call,
            InvocationInput::Transfer(transfer) => &transfer.call,
        }
    }

    /// What it is, in a word or two.
    pub(super) fn description(&self) -> String {
        match &self.input {
            InvocationInput::Decision(_) => "decision".to_owned(),
            InvocationInput::Event(Event { body: EventBody::Other { kind, .. }, .. }) => {
                format!("event other ({kind})")
            }
            InvocationInput::Event(event) => format!("event {}", event.body.kind().name()),
            InvocationInput::Tool(tool) => format!("tool {}", tool.name),
            InvocationInput::Transfer(_) => "transfer".to_owned(),
        }
    }

    /// What would be otherwise in service. Of a hook that the plugin has not, its error
    /// says all.
    pub(super) fn service_notes(&self, plugin: &Plugin) -> Vec<String> {
        let mut notes = Vec::new();
        if !plugin.has_hook(self.hook) {
            return notes;
        }
        if !plugin.settings().accepts_call(self.call()) {
            let action = if self.hook == Hook::Observer { "told of" } else { "asked about" };
            notes.push(format!(
                "in service it would not be {action} this call: its settings leave it out \
                 (platforms, match)"
            ));
        }
        match &self.input {
            InvocationInput::Event(event) if !plugin.event_kinds().contains(event.body.kind()) => {
                let kind = event.body.kind().name();
                notes.push(format!(
                    "in service it would not be told of this event: its settings leave {kind} \
                     out (events.kinds)"
                ));
            }
            InvocationInput::Tool(tool)
                if !plugin.tools().iter().any(|name| **name == *tool.name) =>
            {
                let names = plugin.tools().join(", ");
                notes.push(format!(
                    "in service it would not be asked: it has no tool `{}`; it has: {names}",
                    tool.name
                ));
            }
            _ => {}
        }
        notes
    }

    /// Has the plugin answer.
    pub(super) async fn invoke(&self, plugin: &Plugin) -> Result<InvocationOutcome, CallError> {
        let deadline = Instant::now() + self.timeout;
        match &self.input {
            InvocationInput::Decision(call) => {
                let decision = plugin.decide(call, deadline).await?;
                InvocationOutcome::from_decision(decision, call)
            }
            InvocationInput::Event(event) => {
                plugin.observe(event, event_id_of(event)).await?;
                Ok(InvocationOutcome::Taken)
            }
            InvocationInput::Tool(ToolUse { call, name, arguments, .. }) => {
                let result = plugin.invoke_tool(call, name, arguments, deadline).await?;
                Ok(InvocationOutcome::from_tool_result(result))
            }
            InvocationInput::Transfer(Transfer { call, request, .. }) => {
                let answer: Option<Box<RawValue>> =
                    plugin.decide_transfer(call, request, deadline).await?;
                Ok(InvocationOutcome::Answer { answer })
            }
        }
    }
}

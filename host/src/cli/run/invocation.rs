//! Parses the document of a platform, and selects the hooks that receive it.

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

/// Request of a platform, with the time limits of the server.
pub(super) struct ReceivedRequest {
    request: PlatformRequest,
    /// Time limit of a decision about a call or a transfer.
    decision_timeout: Duration,
    /// Time limit of a tool call.
    tool_timeout: Duration,
}

impl ReceivedRequest {
    /// Parses the document of a platform. The body determines the platform; `platform`
    /// overrides it within its family.
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
        Ok(Self {
            request: message,
            decision_timeout: config.limits.decision_timeout,
            tool_timeout,
        })
    }

    /// Splits the request into invocations of the plugin's hooks.
    pub(super) fn into_invocations(self, plugin: &Plugin) -> Vec<HookInvocation> {
        let Self { request: message, decision_timeout, tool_timeout } = self;
        let to_invocation = |hook, input| {
            let time = if hook == Hook::Tools { tool_timeout } else { decision_timeout };
            HookInvocation { hook, input, timeout: time }
        };
        match message {
            // The server also delivers it to observers, as an event.
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

/// Returns the request with the platform replaced.
fn override_platform(
    mut message: PlatformRequest,
    platform: Option<Platform>,
) -> Result<PlatformRequest, String> {
    let Some(platform) = platform else { return Ok(message) };
    let set_platform = |call: &mut Arc<Call>| {
        if call.platform.family != platform.family {
            return Err(format!("not a document of {} (--platform)", platform.name));
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

/// Invocation of one hook.
pub(super) struct HookInvocation {
    /// Hook that is invoked.
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
    /// Returns the call that the input belongs to.
    pub(super) fn call(&self) -> &Call {
        match &self.input {
            InvocationInput::Decision(call) => call,
            InvocationInput::Event(event) => &event.call,
            InvocationInput::Tool(tool) => &tool.call,
            InvocationInput::Transfer(transfer) => &transfer.call,
        }
    }

    /// Returns a short description of the input.
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

    /// Returns notes on differences from the server. There are none for a missing hook, which
    /// the error explains.
    pub(super) fn service_notes(&self, plugin: &Plugin) -> Vec<String> {
        let mut notes = Vec::new();
        if !plugin.has_hook(self.hook) {
            return notes;
        }
        if !plugin.settings().accepts_call(self.call()) {
            notes.push(
                "the server would not run the plugin for this call: its settings do not match \
                 (platforms, match)"
                    .to_owned(),
            );
        }
        match &self.input {
            InvocationInput::Event(event) if !plugin.event_kinds().contains(event.body.kind()) => {
                let kind = event.body.kind().name();
                notes.push(format!(
                    "the server would not deliver this event: the settings do not include {kind} \
                     (events.kinds)"
                ));
            }
            InvocationInput::Tool(tool)
                if !plugin.tools().iter().any(|name| **name == *tool.name) =>
            {
                let names = plugin.tools().join(", ");
                notes.push(format!(
                    "the server would not run the plugin: it has no tool `{}`; it has: {names}",
                    tool.name
                ));
            }
            _ => {}
        }
        notes
    }

    /// Invokes the hook of the plugin.
    pub(super) async fn invoke(&self, plugin: &Plugin) -> Result<InvocationOutcome, CallError> {
        let deadline = Instant::now() + self.timeout;
        match &self.input {
            InvocationInput::Decision(call) => {
                let decision = plugin.decide(call, deadline).await?;
                InvocationOutcome::from_decision(decision, call)
            }
            InvocationInput::Event(event) => {
                plugin.observe(event, event_id_of(event)).await?;
                Ok(InvocationOutcome::Acknowledged)
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

//! What a plugin is asked or told: the documents of platforms, and which hook they are
//! for.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::outcome::Outcome;
use crate::config::Config;
use crate::event::{Call, Event, EventBody, Platform};
use crate::journal::identity_of;
use crate::platform::{self, BadRequest, Message, ToolUse, Transfer};
use crate::plugin::error::PluginError;
use crate::plugin::{Hook, Plugin};

/// What a platform said, and how much time there would be for it.
pub(super) struct Received {
    message: Message,
    /// Of a call that is decided, or transferred.
    budget: Duration,
    /// Of a tool.
    tool_timeout: Duration,
}

impl Received {
    /// Reads what a platform posts. Which one is told by the body, or given.
    pub(super) fn read(
        config: &Config,
        body: &[u8],
        platform: Option<Platform>,
    ) -> Result<Self, BadRequest> {
        let dialects = platform::dialects(config);
        let take = |message| of_platform(message, platform);
        let (dialect, message) = platform::recognize(&dialects, &HeaderMap::new(), body, take)?;
        let tool_timeout = dialect.bounds().tool_timeout;
        Ok(Self { message, budget: config.limits.budget, tool_timeout })
    }

    /// Its parts, for the hooks that a plugin has.
    pub(super) fn occasions(self, plugin: &Plugin) -> Vec<Occasion> {
        let Self { message, budget, tool_timeout } = self;
        let of = |hook, what| {
            let time = if hook == Hook::Tools { tool_timeout } else { budget };
            Occasion { hook, what, time }
        };
        match message {
            // An observer is told of it as well, in service.
            Message::Decide(event) if !plugin.has(Hook::Router) && plugin.has(Hook::Observer) => {
                vec![of(Hook::Observer, What::Tell(event))]
            }
            Message::Decide(event) => vec![of(Hook::Router, What::Decide(event.call))],
            Message::Tool(tool) => vec![of(Hook::Tools, What::Tool(tool))],
            Message::Transfer(transfer) => vec![of(Hook::Transfers, What::Transfer(transfer))],
            Message::Events(events) => {
                let tell = |event| of(Hook::Observer, What::Tell(event));
                events.into_iter().map(tell).collect()
            }
        }
    }
}

/// The message, with the platform that it shall be of.
fn of_platform(mut message: Message, platform: Option<Platform>) -> Result<Message, String> {
    let Some(platform) = platform else { return Ok(message) };
    let rename = |call: &mut Arc<Call>| {
        if call.platform.family != platform.family {
            return Err(format!("it is for {} (--platform)", platform.name));
        }
        Arc::make_mut(call).platform = platform;
        Ok(())
    };
    match &mut message {
        Message::Decide(event) => rename(&mut event.call)?,
        Message::Tool(tool) => rename(&mut tool.call)?,
        Message::Transfer(transfer) => rename(&mut transfer.call)?,
        Message::Events(events) => {
            events.iter_mut().try_for_each(|event| rename(&mut event.call))?;
        }
    }
    Ok(message)
}

/// One call of one hook.
pub(super) struct Occasion {
    /// Which hook.
    pub(super) hook: Hook,
    what: What,
    time: Duration,
}

enum What {
    Decide(Arc<Call>),
    Tell(Event),
    Tool(ToolUse),
    Transfer(Transfer),
}

impl Occasion {
    /// The call that it is about.
    pub(super) fn call(&self) -> &Call {
        match &self.what {
            What::Decide(call) => call,
            What::Tell(event) => &event.call,
            What::Tool(tool) => &tool.call,
            What::Transfer(transfer) => &transfer.call,
        }
    }

    /// What it is, in a word or two.
    pub(super) fn title(&self) -> String {
        match &self.what {
            What::Decide(_) => "decision".to_owned(),
            What::Tell(Event { body: EventBody::Other { kind, .. }, .. }) => {
                format!("event other ({kind})")
            }
            What::Tell(event) => format!("event {}", event.body.kind().name()),
            What::Tool(tool) => format!("tool {}", tool.name),
            What::Transfer(_) => "transfer".to_owned(),
        }
    }

    /// What would be otherwise in service. Of a hook that the plugin has not, its error
    /// says all.
    pub(super) fn notes(&self, plugin: &Plugin) -> Vec<String> {
        let mut notes = Vec::new();
        if !plugin.has(self.hook) {
            return notes;
        }
        if !plugin.settings().accept(self.call()) {
            let asked = if self.hook == Hook::Observer { "told of" } else { "asked about" };
            notes.push(format!(
                "in service it would not be {asked} this call: its settings leave it out \
                 (platforms, match)"
            ));
        }
        match &self.what {
            What::Tell(event) if !plugin.kinds().contains(event.body.kind()) => {
                let kind = event.body.kind().name();
                notes.push(format!(
                    "in service it would not be told of this event: its settings leave {kind} \
                     out (events.kinds)"
                ));
            }
            What::Tool(tool) if !plugin.tools().iter().any(|name| **name == *tool.name) => {
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
    pub(super) async fn put(&self, plugin: &Plugin) -> Result<Outcome, PluginError> {
        let deadline = Instant::now() + self.time;
        match &self.what {
            What::Decide(call) => {
                let decision = plugin.decide(call, deadline).await?;
                Outcome::decision(decision, call)
            }
            What::Tell(event) => {
                plugin.observe(event, identity_of(event)).await?;
                Ok(Outcome::Taken)
            }
            What::Tool(ToolUse { call, name, arguments, .. }) => {
                let result = plugin.invoke(call, name, arguments, deadline).await?;
                Ok(Outcome::tool(result))
            }
            What::Transfer(Transfer { call, request, .. }) => {
                let answer: Option<Box<RawValue>> =
                    plugin.transfer(call, request, deadline).await?;
                Ok(Outcome::Answer { answer })
            }
        }
    }
}

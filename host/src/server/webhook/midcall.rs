//! What platforms ask in the middle of a call, and what observers are told of it.

use axum::response::Response;
use tokio::time::Instant;

use super::super::App;
use super::respond;
use crate::event::{Event, EventBody};
use crate::platform::{Dialect, ToolAnswer, ToolFailure, ToolUse, Transfer};

/// A voice agent uses a tool.
pub(super) async fn tool(
    app: &App,
    dialect: &dyn Dialect,
    mut used: ToolUse,
    start: Instant,
) -> Response {
    let deadline = start + dialect.bounds().tool_timeout;
    used.call = app.journal.known(&used.call).await;
    let generation = app.registry.current();
    let (ruling, again) = app.midcall.tool(&generation, &used, deadline).await;
    let reply = dialect.tool(&ruling.answer);
    if !again {
        let ToolUse { call, timestamp, delivery, name, arguments } = used;
        let outcome = outcome(ruling.answer);
        let body = EventBody::ToolInvoked { name, arguments, outcome };
        app.journal.tell(Event { call, timestamp, body, delivery }).await;
    }
    respond(reply)
}

/// A call is about to be transferred.
pub(super) async fn transfer(
    app: &App,
    dialect: &dyn Dialect,
    mut asked: Transfer,
    start: Instant,
) -> Response {
    asked.call = app.journal.known(&asked.call).await;
    let generation = app.registry.current();
    let deadline = start + app.config.limits.budget;
    let (answer, again) = app.midcall.transfer(&generation, &asked, deadline).await;
    let reply = dialect.transfer(answer.as_deref());
    if !again {
        let Transfer { call, timestamp, delivery, kind, request } = asked;
        let body = EventBody::Other { kind, payload: request };
        app.journal.tell(Event { call, timestamp, body, delivery }).await;
    }
    respond(reply)
}

/// What the agent got, or why it got nothing.
fn outcome(answer: ToolAnswer) -> Result<Box<serde_json::value::RawValue>, String> {
    match answer {
        ToolAnswer::Value(value) => Ok((*value).to_owned()),
        ToolAnswer::Error { message, code } => Err(match code {
            Some(code) => format!("{code}: {message}"),
            None => message.to_string(),
        }),
        ToolAnswer::Failed(ToolFailure::Late) => Err("no plugin answered in time".to_owned()),
        ToolAnswer::Failed(ToolFailure::Busy) => Err("there was no room to run it".to_owned()),
        ToolAnswer::Failed(ToolFailure::Broken) => Err("the plugin failed".to_owned()),
        ToolAnswer::Unknown => Err("no plugin knows this tool".to_owned()),
    }
}

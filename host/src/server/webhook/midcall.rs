//! What platforms ask in the middle of a call, and what observers are told of it.
//!
//! Each is done in a task of its own: a tool that has begun to book something goes on
//! when the platform hangs up, and its answer is there when the same is asked again.

use std::sync::Arc;

use axum::response::Response;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::super::App;
use super::respond;
use crate::event::{Event, EventBody};
use crate::live::{REPEATED, UNKNOWN, Use, What};
use crate::midcall::ToolRuling;
use crate::platform::{Dialect, ToolAnswer, ToolFailure, ToolUse, Transfer};
use crate::traces;

/// A voice agent uses a tool.
pub(super) async fn tool(
    app: &Arc<App>,
    dialect: &dyn Dialect,
    used: ToolUse,
    start: Instant,
    span: &Span,
) -> Response {
    let deadline = start + dialect.bounds().tool_timeout;
    let (app, traced) = (Arc::clone(app), span.clone());
    let work = async move {
        let told = Arc::clone(&used.call);
        let _at_work = app.midcall.begin(&told);
        let call = app.journal.known(&told).await;
        let used = ToolUse { call, ..used };
        let generation = app.registry.current();
        let (ruling, again) = app.midcall.tool(&generation, &used, deadline).await;
        traces::webhook::tool(&traced, &used.name, &ruling, again);
        let outcome = if again { REPEATED } else { word(&ruling) };
        let shown = Use::tool(&used.name, ruling.by.clone(), outcome, start.elapsed());
        app.live.tell(&told, What::Use(shown));
        if !again {
            let ToolUse { timestamp, delivery, name, arguments, .. } = used;
            let outcome = self::outcome(&ruling.answer);
            let body = EventBody::ToolInvoked { name, arguments, outcome };
            // With what the platform told of the call, and not what was known then: it
            // may have been erased meanwhile.
            let event = Event { call: Arc::clone(&told), timestamp, body, delivery };
            app.journal.tell(event, deadline).await;
        }
        ruling.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("the host panicked over a tool; please report it");
        ToolAnswer::Failed(ToolFailure::Broken)
    });
    respond(dialect.tool(&answer))
}

/// A call is about to be transferred.
pub(super) async fn transfer(
    app: &Arc<App>,
    dialect: &dyn Dialect,
    asked: Transfer,
    start: Instant,
    span: &Span,
) -> Response {
    let deadline = start + app.config.limits.budget;
    let (app, traced) = (Arc::clone(app), span.clone());
    let work = async move {
        let told = Arc::clone(&asked.call);
        let _at_work = app.midcall.begin(&told);
        let call = app.journal.known(&told).await;
        let asked = Transfer { call, ..asked };
        let generation = app.registry.current();
        let (ruling, again) = app.midcall.transfer(&generation, &asked, deadline).await;
        traces::webhook::transfer(&traced, ruling.answer.is_some(), again);
        let outcome = if again { REPEATED } else { ruling.outcome };
        let shown = Use::transfer(ruling.by.clone(), outcome, start.elapsed());
        app.live.tell(&told, What::Use(shown));
        if !again {
            let Transfer { timestamp, delivery, kind, request, .. } = asked;
            let body = EventBody::Other { kind, payload: request };
            let event = Event { call: Arc::clone(&told), timestamp, body, delivery };
            app.journal.tell(event, deadline).await;
        }
        ruling.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("the host panicked over a transfer; please report it");
        None
    });
    respond(dialect.transfer(answer.as_deref()))
}

/// What became of a tool's use, for operators: as `/plugins` counts it, else as in the
/// log.
fn word(ruling: &ToolRuling) -> &'static str {
    match &ruling.answer {
        ToolAnswer::Value(_) if ruling.cached => "cached",
        ToolAnswer::Value(_) => "answered",
        ToolAnswer::Error { .. } => "declined",
        ToolAnswer::Failed(ToolFailure::Late) => "late",
        ToolAnswer::Failed(ToolFailure::Busy) => "busy",
        ToolAnswer::Failed(ToolFailure::Broken) => "failed",
        ToolAnswer::Unknown => UNKNOWN,
    }
}

/// What the agent got, or why it got nothing.
fn outcome(answer: &ToolAnswer) -> Result<Box<RawValue>, String> {
    match answer {
        ToolAnswer::Value(value) => Ok((**value).to_owned()),
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

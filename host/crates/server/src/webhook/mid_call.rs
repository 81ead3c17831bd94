//! Mid-call requests: tools and transfers, and the events that report them.
//!
//! Each request runs in a task of its own: a tool that has begun a booking completes it
//! even if the platform hangs up, and a redelivery gets its answer.

use std::sync::Arc;

use axum::response::Response;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::super::AppState;
use super::reply_response;
use super::span as webhook_span;
use crate::live::{ActivityKind, MidCallRequest, REPLAYED, UNKNOWN_TOOL};
use plugboard_core::event::{Event, EventBody};
use plugboard_platform::{PlatformAdapter, ToolAnswer, ToolFailure, ToolUse, Transfer};
use plugboard_routing::mid_call::{ToolResponse, TransferResponse};

/// Answers a tool request.
pub(super) async fn respond_with_tool(
    app: &Arc<AppState>,
    adapter: &dyn PlatformAdapter,
    tool_use: ToolUse,
    start: Instant,
    span: &Span,
) -> Response {
    let deadline = start + adapter.request_limits().tool_timeout;
    let (app, traced) = (Arc::clone(app), span.clone());
    let work = async move {
        let sent_call = Arc::clone(&tool_use.call);
        let _in_flight = app.services.mid_call.begin(&sent_call);
        let call = app.services.journal.complete_call(&sent_call).await;
        let tool_use = ToolUse { call, ..tool_use };
        let generation = app.services.registry.current();
        let replay = app.services.mid_call.answer_tool(&generation, &tool_use, deadline).await;
        let is_replay = !replay.is_fresh();
        let ruling = replay.into_answer().unwrap_or_else(ToolResponse::timed_out);
        webhook_span::record_tool(&traced, &tool_use.name, &ruling, is_replay);
        let outcome = if is_replay { REPLAYED } else { outcome_label(&ruling) };
        let summary =
            MidCallRequest::tool(&tool_use.name, ruling.plugin.clone(), outcome, start.elapsed());
        app.services.live.record(&sent_call, ActivityKind::MidCallRequest(summary));
        if !is_replay {
            let ToolUse { timestamp, delivery_id: delivery, name, arguments, .. } = tool_use;
            let outcome = self::event_outcome(&ruling.answer);
            let body = EventBody::ToolInvoked { name, arguments, outcome };
            // With the call data of this request, and not with that of the journal, which
            // may have been erased meanwhile.
            let event =
                Event { call: Arc::clone(&sent_call), timestamp, body, delivery_id: delivery };
            app.services.journal.record_internal_event(event, deadline).await;
        }
        ruling.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("the host panicked over a tool; please report it");
        ToolAnswer::Failed(ToolFailure::Failed)
    });
    reply_response(adapter.tool_reply(&answer))
}

/// Answers a transfer request.
pub(super) async fn respond_with_transfer(
    app: &Arc<AppState>,
    adapter: &dyn PlatformAdapter,
    transfer_request: Transfer,
    start: Instant,
    span: &Span,
) -> Response {
    let deadline = start + app.config.limits.budget;
    let (app, traced) = (Arc::clone(app), span.clone());
    let work = async move {
        let sent_call = Arc::clone(&transfer_request.call);
        let _in_flight = app.services.mid_call.begin(&sent_call);
        let call = app.services.journal.complete_call(&sent_call).await;
        let transfer_request = Transfer { call, ..transfer_request };
        let generation = app.services.registry.current();
        let replay =
            app.services.mid_call.answer_transfer(&generation, &transfer_request, deadline).await;
        let is_replay = !replay.is_fresh();
        let ruling = replay.into_answer().unwrap_or_else(TransferResponse::timed_out);
        webhook_span::record_transfer(&traced, ruling.answer.is_some(), is_replay);
        let outcome = if is_replay { REPLAYED } else { ruling.outcome };
        let summary = MidCallRequest::transfer(ruling.plugin.clone(), outcome, start.elapsed());
        app.services.live.record(&sent_call, ActivityKind::MidCallRequest(summary));
        if !is_replay {
            let Transfer { timestamp, delivery_id: delivery, kind, request, .. } = transfer_request;
            let body = EventBody::Other { kind, payload: request };
            let event =
                Event { call: Arc::clone(&sent_call), timestamp, body, delivery_id: delivery };
            app.services.journal.record_internal_event(event, deadline).await;
        }
        ruling.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("the host panicked over a transfer; please report it");
        None
    });
    reply_response(adapter.transfer_reply(answer.as_deref()))
}

/// The outcome of a tool request for operators: as `/plugins` counts it, or else as in the
/// log.
fn outcome_label(ruling: &ToolResponse) -> &'static str {
    match &ruling.answer {
        ToolAnswer::Value(_) if ruling.cached => "cached",
        ToolAnswer::Value(_) => "answered",
        ToolAnswer::Error { .. } => "declined",
        ToolAnswer::Failed(ToolFailure::TimedOut) => "late",
        ToolAnswer::Failed(ToolFailure::Busy) => "busy",
        ToolAnswer::Failed(ToolFailure::Failed) => "failed",
        ToolAnswer::Unknown => UNKNOWN_TOOL,
    }
}

/// The result that the agent got, or the reason for an error.
fn event_outcome(answer: &ToolAnswer) -> Result<Box<RawValue>, String> {
    match answer {
        ToolAnswer::Value(value) => Ok((**value).to_owned()),
        ToolAnswer::Error { message, code } => Err(match code {
            Some(code) => format!("{code}: {message}"),
            None => message.to_string(),
        }),
        ToolAnswer::Failed(ToolFailure::TimedOut) => Err("no plugin answered in time".to_owned()),
        ToolAnswer::Failed(ToolFailure::Busy) => Err("there was no room to run it".to_owned()),
        ToolAnswer::Failed(ToolFailure::Failed) => Err("the plugin failed".to_owned()),
        ToolAnswer::Unknown => Err("no plugin knows this tool".to_owned()),
    }
}

//! Mid-call requests: tools and transfers, and the events about them.
//!
//! Each request runs in its own task. A tool that has begun a booking completes it even if the
//! platform hangs up, and a redelivery gets its answer.

use std::sync::Arc;

use axum::response::Response;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::super::app_state::AppState;
use super::reply::reply_response;
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
        let (is_fresh, is_replay) = (replay.is_fresh(), replay.is_replayed());
        let response = replay.into_answer().unwrap_or_else(ToolResponse::timed_out);
        webhook_span::record_tool(&traced, &tool_use.name, &response, is_replay);
        let outcome = if is_replay { REPLAYED } else { outcome_label(&response) };
        let summary =
            MidCallRequest::tool(&tool_use.name, response.plugin.clone(), outcome, start.elapsed());
        app.services.live.record(&sent_call, ActivityKind::MidCallRequest(summary));
        if is_fresh {
            let ToolUse { timestamp, delivery_id: delivery, name, arguments, .. } = tool_use;
            let outcome = self::event_outcome(&response.answer);
            let body = EventBody::ToolInvoked { name, arguments, outcome };
            // The event has the call data of this request, and not of the journal, which may
            // have been erased meanwhile.
            let event =
                Event { call: Arc::clone(&sent_call), timestamp, body, delivery_id: delivery };
            app.services.journal.record_internal_event(event, deadline).await;
        }
        response.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("Plugboard panicked while it answered a tool call; please report it");
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
    let deadline = start + app.config.limits.decision_timeout;
    let (app, traced) = (Arc::clone(app), span.clone());
    let work = async move {
        let sent_call = Arc::clone(&transfer_request.call);
        let _in_flight = app.services.mid_call.begin(&sent_call);
        let call = app.services.journal.complete_call(&sent_call).await;
        let transfer_request = Transfer { call, ..transfer_request };
        let generation = app.services.registry.current();
        let replay =
            app.services.mid_call.answer_transfer(&generation, &transfer_request, deadline).await;
        let (is_fresh, is_replay) = (replay.is_fresh(), replay.is_replayed());
        let response = replay.into_answer().unwrap_or_else(TransferResponse::timed_out);
        webhook_span::record_transfer(&traced, response.answer.is_some(), is_replay);
        let outcome = if is_replay { REPLAYED } else { response.outcome };
        let summary = MidCallRequest::transfer(response.plugin.clone(), outcome, start.elapsed());
        app.services.live.record(&sent_call, ActivityKind::MidCallRequest(summary));
        if is_fresh {
            let Transfer { timestamp, delivery_id: delivery, kind, request, .. } = transfer_request;
            let body = EventBody::Other { kind, payload: request };
            let event =
                Event { call: Arc::clone(&sent_call), timestamp, body, delivery_id: delivery };
            app.services.journal.record_internal_event(event, deadline).await;
        }
        response.answer
    };
    let work = tokio::spawn(work.instrument(span.clone()));
    let answer = work.await.unwrap_or_else(|_| {
        tracing::error!("Plugboard panicked while it answered a transfer; please report it");
        None
    });
    reply_response(adapter.transfer_reply(answer.as_deref()))
}

/// Returns the outcome of a tool request for operators: as `/plugins` counts it, or else as in
/// the log.
fn outcome_label(response: &ToolResponse) -> &'static str {
    match &response.answer {
        ToolAnswer::Value(_) if response.cached => "cached",
        ToolAnswer::Value(_) => "answered",
        ToolAnswer::Error { .. } => "declined",
        ToolAnswer::Failed(ToolFailure::TimedOut) => "deadline_exceeded",
        ToolAnswer::Failed(ToolFailure::Busy) => "busy",
        ToolAnswer::Failed(ToolFailure::Failed) => "failed",
        ToolAnswer::Unknown => UNKNOWN_TOOL,
    }
}

/// Returns the result of the tool, or the reason of its failure.
fn event_outcome(answer: &ToolAnswer) -> Result<Box<RawValue>, String> {
    match answer {
        ToolAnswer::Value(value) => Ok((**value).to_owned()),
        ToolAnswer::Error { message, code } => Err(match code {
            Some(code) => format!("{code}: {message}"),
            None => message.to_string(),
        }),
        ToolAnswer::Failed(ToolFailure::TimedOut) => Err("no plugin answered in time".to_owned()),
        ToolAnswer::Failed(ToolFailure::Busy) => {
            Err("timed out waiting for an instance".to_owned())
        }
        ToolAnswer::Failed(ToolFailure::Failed) => Err("the plugin failed".to_owned()),
        ToolAnswer::Unknown => Err("unknown tool".to_owned()),
    }
}

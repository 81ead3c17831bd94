//! `POST /explain`: explains a decision. Takes the request that the platform would send,
//! headers included, and decides as for a call: cached verdicts are used, other plugins
//! run, with their side effects. The request changes no statistics, cache or circuit
//! breaker.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::app_state::AppState;
use super::super::body::read_body;
use super::super::error::{ErrorResponse, json_response};
use plugboard_core::event::Event;
use plugboard_core::outcome::{AnswerSource, ChainResult, RoutingOutcome};
use plugboard_core::units::micros;
use plugboard_platform::{PlatformRequest, recognize};
use plugboard_routing::router::{ExplainStep, Explanation};

pub(super) async fn explain(
    State(app): State<Arc<AppState>>,
    request: Request<Body>,
) -> Result<Response, ErrorResponse> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let bounds = app
        .adapters
        .iter()
        .map(|adapter| adapter.request_limits())
        .max_by_key(|bounds| bounds.max_body);
    let bounds = bounds.ok_or_else(ErrorResponse::not_found)?;
    let body = read_body(&app.body_budget, &bounds, &head.headers, body, start).await?;
    let (adapter, event) = recognize(&app.adapters, &head.headers, &body.bytes, decision_event)?;
    let generation = app.services.registry.current();
    let deadline = start + app.config.limits.decision_timeout;
    let explanation = app.services.router.explain(&generation, &event.call, deadline).await;
    let Explanation { generation, steps, outcome } = explanation;
    let RoutingOutcome { answer, result: ChainResult { plugin: by, source, failures, .. } } =
        &outcome;
    let answer_text = String::from_utf8_lossy(&adapter.decision_reply(answer).body).into_owned();
    // Some platforms do not answer in JSON.
    let answer_json =
        serde_json::from_str(&answer_text).unwrap_or(serde_json::Value::String(answer_text));
    Ok(json_response(&ExplainResponse {
        generation,
        platform: event.call.platform.name,
        plugins: &steps,
        outcome: answer.name(),
        by: by.as_deref(),
        source: by.as_ref().map(|_| *source),
        failures: *failures,
        answer: answer_json,
        took_us: micros(start.elapsed()),
    }))
}

/// Returns the event of a decision, the only request that can be explained.
fn decision_event(message: PlatformRequest) -> Result<Event, String> {
    match message {
        PlatformRequest::Decision(event) => Ok(event),
        _ => Err("expected the start of a call, the one request that is decided".to_owned()),
    }
}

#[derive(Serialize)]
struct ExplainResponse<'a> {
    generation: u64,
    platform: &'static str,
    plugins: &'a [ExplainStep],
    /// The outcome, as in the log.
    outcome: &'static str,
    /// The plugin that decided or stopped the chain.
    by: Option<&'a str>,
    source: Option<AnswerSource>,
    failures: u32,
    /// The response that the platform would get.
    answer: serde_json::Value,
    took_us: u64,
}

//! Decisions: the platform sets up a call and requests its destination.

use std::panic::AssertUnwindSafe;
use std::pin::pin;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Span;

use super::super::app_state::AppState;
use super::reply::reply_response;
use super::span as webhook_span;
use crate::live::{self, ActivityKind};
use plugboard_config::RoutingConfig;
use plugboard_core::call::Call;
use plugboard_core::event::Event;
use plugboard_core::outcome::{Answer, AnswerSource, ChainResult, FallbackReason, RoutingOutcome};
use plugboard_core::units::micros;
use plugboard_platform::PlatformAdapter;
use plugboard_routing::idempotency::Replay;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Decides a call, and journals the decision.
pub(super) async fn respond_with_decision(
    app: &AppState,
    adapter: &dyn PlatformAdapter,
    event: Event,
    start: Instant,
    span: &Span,
) -> Response {
    let guard =
        app.services.journal.begin_decision(&event, start + app.config.limits.decision_timeout);
    let (outcome, is_replay) = match decide_once(app, &event, start).await {
        Replay::Fresh(outcome) => (outcome, false),
        Replay::Replayed(outcome) => (outcome, true),
        Replay::TimedOut => (timed_out(app, &event.call, start), false),
    };
    webhook_span::record_decision(span, &outcome, is_replay);
    let summary = live::DecisionSummary::new(&event.call, &outcome, is_replay, start.elapsed());
    app.services.live.record(&event.call, ActivityKind::Decision(summary));
    guard.finish(&outcome).await;
    let mut response = reply_response(adapter.decision_reply(&outcome.answer));
    let headers = response.headers_mut();
    headers.insert(CACHE_STATUS, cache_status(app, &outcome, is_replay));
    // The unit is milliseconds. ASCII digits and a point are always a valid header value.
    let us = start.elapsed().as_micros();
    let timing = format!("decide;dur={}.{:03}", us / 1_000, us % 1_000);
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

/// Returns the `Cache-Status` header (RFC 9211).
fn cache_status(app: &AppState, outcome: &RoutingOutcome, is_replay: bool) -> HeaderValue {
    HeaderValue::from_static(match (is_replay, outcome.result.source) {
        (true, _) => "plugboard; hit; detail=delivery",
        (false, AnswerSource::Cache) => "plugboard; hit",
        (false, _) if app.services.router.cache().is_none() => "plugboard; fwd=bypass",
        (false, _) => "plugboard; fwd=miss",
    })
}

/// Decides a call, once for equal deliveries.
async fn decide_once(app: &AppState, event: &Event, start: Instant) -> Replay<RoutingOutcome> {
    let call = &event.call;
    let Some(deliveries) = &app.services.idempotency else {
        return Replay::Fresh(decide(app, call, start).await);
    };
    // The key has the platform and not the family, because plugins may match one brand only.
    let idempotency_key = (call.platform, event.dedup_key());
    let deadline = start + app.config.limits.decision_timeout;
    let mut own_outcome = None;
    let replay = {
        // Pinned here: each of the futures that it passes through would reserve its size twice.
        let result = pin!(async {
            let outcome = decide(app, call, start).await;
            let result = outcome.result.clone();
            own_outcome = Some(outcome);
            result
        });
        deliveries.get_or_compute(&call.id, &idempotency_key, deadline, result).await
    };
    match (replay, own_outcome) {
        (Replay::Fresh(_), Some(outcome)) => Replay::Fresh(outcome),
        (Replay::Fresh(result) | Replay::Replayed(result), _) => {
            Replay::Replayed(replay_answer(app, result, call))
        }
        (Replay::TimedOut, _) => Replay::TimedOut,
    }
}

/// Returns the fallback for a delivery whose equal is still being decided.
fn timed_out(app: &AppState, call: &Call, start: Instant) -> RoutingOutcome {
    let outcome =
        app.services.router.fallback_outcome(FallbackReason::DeadlineExceeded, None, 0, call);
    log_decision(app.services.router.config(), call, &outcome, start);
    outcome
}

/// Returns the answer of an earlier result.
fn replay_answer(app: &AppState, result: ChainResult, call: &Call) -> RoutingOutcome {
    let outcome = app.services.router.replay(result, call);
    let decision = outcome.answer.name();
    tracing::info!(call = &*call.id, decision, "redelivery answered from the idempotency cache");
    outcome
}

/// Returns the chain's answer, or the fallback if anything fails.
async fn decide(app: &AppState, call: &Call, start: Instant) -> RoutingOutcome {
    let deadline = start + app.config.limits.decision_timeout;
    let generation = app.services.registry.current();
    let chain = app.services.router.decide(&generation, call, deadline);
    // A panic is a defect of the host, but must not lose the call.
    let outcome = AssertUnwindSafe(chain).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(
            call = &*call.id,
            "Plugboard panicked while it decided a call; please report it"
        );
        app.services.router.fallback_outcome(FallbackReason::Internal, None, 0, call)
    });
    log_decision(app.services.router.config(), call, &outcome, start);
    outcome
}

/// Logs a decision: call, plugin, outcome and time. It never logs numbers or URLs, which may
/// contain numbers.
fn log_decision(answers: &RoutingConfig, call: &Call, outcome: &RoutingOutcome, start: Instant) {
    let plugin = outcome.result.plugin.as_deref().unwrap_or("-");
    let is_lost = !call.platform.can_reject && answers.reject_sts_url.is_none();
    if matches!(outcome.answer, Answer::Reject { .. }) && is_lost {
        tracing::warn!(
            call = &*call.id,
            plugin,
            "rejection treated as a pass: the platform cannot reject, and reject_sts_url is not set"
        );
    }
    tracing::info!(
        call = &*call.id,
        platform = call.platform.name,
        plugin,
        decision = outcome.answer.name(),
        cached = outcome.result.source == AnswerSource::Cache,
        failures = outcome.result.failures,
        took_us = micros(start.elapsed()),
        "decided"
    );
}

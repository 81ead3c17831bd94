//! A call is being set up: where does it go?

use std::panic::AssertUnwindSafe;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Span;

use super::super::App;
use super::respond;
use crate::config::Answers;
use crate::deliveries::Once;
use crate::event::{Call, Event};
use crate::live::{self, What};
use crate::platform::Dialect;
use crate::router::{Answer, Outcome, Ruling, Source, Undecided};
use crate::traces;
use crate::units::micros;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Decides, and has it written down.
pub(super) async fn decision(
    app: &App,
    dialect: &dyn Dialect,
    event: Event,
    start: Instant,
    span: &Span,
) -> Response {
    let asked = app.journal.asked(&event, start + app.config.limits.budget);
    let (outcome, again) = answer(app, &event, start).await;
    traces::webhook::decided(span, &outcome, again);
    let told = live::Decision::new(&event.call, &outcome, again, start.elapsed());
    app.live.tell(&event.call, What::Decision(told));
    asked.decided(&outcome).await;
    let mut response = respond(dialect.decision(&outcome.answer));
    let headers = response.headers_mut();
    headers.insert(CACHE_STATUS, cache_status(app, &outcome, again));
    // In milliseconds. Digits and a point: always a header value.
    let us = start.elapsed().as_micros();
    let timing = format!("decide;dur={}.{:03}", us / 1_000, us % 1_000);
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

/// RFC 9211.
fn cache_status(app: &App, outcome: &Outcome, again: bool) -> HeaderValue {
    HeaderValue::from_static(match (again, outcome.ruling.source) {
        (true, _) => "plugboard; hit; detail=delivery",
        (false, Source::Cached) => "plugboard; hit",
        (false, _) if app.router.cache().is_none() => "plugboard; fwd=bypass",
        (false, _) => "plugboard; fwd=miss",
    })
}

/// What becomes of a call; and whether that was asked before, by a delivery that
/// comes again.
async fn answer(app: &App, event: &Event, start: Instant) -> (Outcome, bool) {
    let call = &event.call;
    let Some(deliveries) = &app.deliveries else { return (decide(app, call, start).await, false) };
    let identity = (call.platform, event.named());
    let mut own = None;
    let ruling = async {
        let outcome = decide(app, call, start).await;
        let ruling = outcome.ruling.clone();
        own = Some(outcome);
        ruling
    };
    let deadline = start + app.config.limits.budget;
    let once = deliveries.once(&call.id, &identity, deadline, ruling).await;
    match (once, own) {
        (Once::Now(_), Some(outcome)) => (outcome, false),
        (Once::Now(ruling) | Once::Before(ruling), _) => (again(app, ruling, call), true),
        (Once::Late, _) => {
            let outcome = app.router.undecided(Undecided::Late, None, 0, call);
            log(app.router.answers(), call, &outcome, start);
            (outcome, false)
        }
    }
}

/// The same ruling once more.
fn again(app: &App, ruling: Ruling, call: &Call) -> Outcome {
    let outcome = app.router.again(ruling, call);
    let decision = outcome.answer.name();
    tracing::info!(call = call.id.as_str(), decision, "delivered again: the same answer");
    outcome
}

/// The chain's answer, or the fallback if anything at all goes wrong.
async fn decide(app: &App, call: &Call, start: Instant) -> Outcome {
    let deadline = start + app.config.limits.budget;
    let generation = app.registry.current();
    let chain = app.router.decide(&generation, call, deadline);
    // A panic would be a bug of ours, but must not be a lost call.
    let outcome = AssertUnwindSafe(chain).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(
            call = call.id.as_str(),
            "the host panicked while it decided; please report it"
        );
        app.router.undecided(Undecided::Internal, None, 0, call)
    });
    log(app.router.answers(), call, &outcome, start);
    outcome
}

/// The line that an operator looks for: which call, who decided, what, how fast.
/// Never numbers or URLs, which may carry them.
fn log(answers: &Answers, call: &Call, outcome: &Outcome, start: Instant) {
    let plugin = outcome.ruling.by.as_deref().unwrap_or("-");
    let is_lost = !call.platform.can_reject && answers.reject_sts_url.is_none();
    if matches!(outcome.answer, Answer::Reject { .. }) && is_lost {
        tracing::warn!(
            call = call.id.as_str(),
            plugin,
            "rejected, but the platform cannot reject and no reject_sts_url is set: treated as a pass"
        );
    }
    tracing::info!(
        call = call.id.as_str(),
        platform = call.platform.name,
        plugin,
        decision = outcome.answer.name(),
        cached = outcome.ruling.source == Source::Cached,
        failures = outcome.ruling.failures,
        took_us = micros(start.elapsed()),
        "decided"
    );
}

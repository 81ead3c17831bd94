//! What platforms post.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::App;
use super::error::{HttpError, json};
use crate::config::Answers;
use crate::deliveries::Known;
use crate::event::{Call, Event, EventBody};
use crate::platform::avr;
use crate::router::{Answer, Outcome, Ruling, Source, Undecided};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How late the chain may be: some of the engine's ticks.
const GRACE: Duration = Duration::from_millis(50);

/// The webhook listener's paths.
pub(super) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/events", post(events))
        .route("/instructions", get(instructions))
        .route("/health", get(health))
        .fallback(async || HttpError::not_found())
        .method_not_allowed_fallback(async || HttpError::method_not_allowed())
        .with_state(app)
}

async fn health() -> Response {
    json(&OK)
}

/// AVR and DSAI: a decision is answered, every other event acknowledged.
async fn events(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, HttpError> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    avr::authenticate(app.config.secret.as_ref(), &head.headers)?;
    let body = read(&app, &head.headers, body, start).await?;
    let event = avr::parse(&head.headers, &body)?;
    drop(body);
    let EventBody::Initiated = event.body else { return accept(&app, event).await };
    let asked = app.journal.asked(&event, start + app.config.limits.budget);
    let (outcome, again) = answer(&app, &event, start).await;
    asked.decided(&outcome).await;
    let mut response = json(&avr::render(&outcome.answer));
    let headers = response.headers_mut();
    headers.insert(CACHE_STATUS, cache_status(&app, &outcome, again));
    // In milliseconds. Digits and a point: always a header value.
    let us = start.elapsed().as_micros();
    let timing = format!("decide;dur={}.{:03}", us / 1_000, us % 1_000);
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, timing);
    }
    Ok(response)
}

/// Takes an event.
async fn accept(app: &App, event: Event) -> Result<Response, HttpError> {
    app.journal.accept(event).await.map_err(|error| HttpError::not_kept(&error))?;
    Ok(json(&OK))
}

/// What AVR's speech-to-speech services ask for: the prompt of a call. They show
/// nothing but its name, which nobody can guess.
async fn instructions(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    #[derive(Serialize)]
    struct Instructions<'a> {
        system: &'a str,
    }
    let (family, call) = avr::asked_about(&headers)?;
    match app.journal.prompt(family, call).await {
        Ok(Some(prompt)) => Ok(json(&Instructions { system: &prompt })),
        Ok(None) => Err(HttpError::no_instructions()),
        Err(error) => Err(HttpError::not_kept(&error)),
    }
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
    let ticket = match deliveries.look_up(event, start) {
        Known::Ruled(ruling) => return (again(app, ruling, call), true),
        Known::Waiting(ticket) => ticket,
    };
    let mut own = None;
    let ruling = ticket.pending.get_or_init(async || {
        let outcome = decide(app, call, start).await;
        let ruling = outcome.ruling.clone();
        own = Some(outcome);
        ruling
    });
    // Who asked first may have had more time than is left here. (If nobody did,
    // the chain itself is in time.)
    let deadline = start + app.config.limits.budget + GRACE;
    let ruling = match timeout_at(deadline, ruling).await {
        Ok(ruling) => ruling.clone(),
        Err(_) => {
            let outcome = app.router.undecided(Undecided::Late, None, 0, call);
            log(app.router.answers(), call, &outcome, start);
            return (outcome, false);
        }
    };
    deliveries.ruled(&ticket, &ruling);
    match own {
        Some(outcome) => (outcome, false),
        None => (again(app, ruling, call), true),
    }
}

/// The same ruling once more.
fn again(app: &App, ruling: Ruling, call: &Call) -> Outcome {
    let outcome = app.router.again(ruling, call);
    let decision = outcome.answer.name();
    tracing::info!(call = call.id.as_str(), decision, "delivered again: the same answer");
    outcome
}

/// Reads a body that is not larger and not slower than it may be.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    start: Instant,
) -> Result<Bytes, HttpError> {
    let limits = &app.config.limits;
    // Refused before it is sent, when the sender says how long it is.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| length > limits.body)
    {
        return Err(HttpError::too_large(limits.body));
    }
    let whole = Limited::new(body, limits.body).collect();
    match timeout_at(start + limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(HttpError::too_large(limits.body)),
        Ok(Err(_)) => Err(HttpError::body_unreadable()),
        Err(_) => Err(HttpError::body_timeout()),
    }
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
    if matches!(outcome.answer, Answer::Reject { .. }) && answers.reject_sts_url.is_none() {
        tracing::warn!(
            call = call.id.as_str(),
            plugin,
            "rejected, but the platform cannot reject and no reject_sts_url is set: treated as a pass"
        );
    }
    tracing::info!(
        call = call.id.as_str(),
        platform = call.platform.name(),
        plugin,
        decision = outcome.answer.name(),
        cached = outcome.ruling.source == Source::Cached,
        failures = outcome.ruling.failures,
        took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        "decided"
    );
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

const OK: Status = Status { status: "ok" };

//! What platforms post.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

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
use crate::event::{Call, EventBody};
use crate::platform::avr;
use crate::router::{self, Answer, Outcome, Undecided};

/// RFC 9211. There is no cache that could have answered.
const CACHE_STATUS: (HeaderName, HeaderValue) =
    (HeaderName::from_static("cache-status"), HeaderValue::from_static("plugboard; fwd=bypass"));

/// The webhook listener's paths.
pub(super) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/events", post(events))
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
    let EventBody::Initiated = event.body else { return Ok(json(&OK)) };
    let outcome = decide(&app, &event.call, start).await;
    let mut response = json(&avr::render(&outcome.answer));
    let headers = response.headers_mut();
    let (name, value) = CACHE_STATUS;
    headers.insert(name, value);
    // In milliseconds. Digits and a point: always a header value.
    let us = start.elapsed().as_micros();
    let timing = format!("decide;dur={}.{:03}", us / 1_000, us % 1_000);
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        headers.insert(HeaderName::from_static("server-timing"), timing);
    }
    Ok(response)
}

/// Reads a body that is not larger and not slower than it may be.
async fn read(
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
    let answers = &app.config.answers;
    let deadline = start + app.config.limits.budget;
    let chain = router::decide(&app.generation, answers, call, deadline);
    // A panic would be a bug of ours, but must not be a lost call.
    let outcome = AssertUnwindSafe(chain).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(call = ?call.id, "the host panicked while it decided; please report it");
        let answer = Answer::fallback(answers, call, Undecided::Internal);
        Outcome { answer, by: None, failures: 0 }
    });
    log(answers, call, &outcome, start);
    outcome
}

/// The line that an operator looks for: which call, who decided, what, how fast.
/// Never numbers or URLs, which may carry them.
fn log(answers: &Answers, call: &Call, outcome: &Outcome, start: Instant) {
    let plugin = outcome.by.as_deref().unwrap_or("-");
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (decision, failures) = (outcome.answer.name(), outcome.failures);
    match &outcome.answer {
        Answer::Reject { .. } if answers.reject_sts_url.is_none() => tracing::warn!(
            call = ?call.id,
            platform = call.platform.name(),
            plugin,
            decision,
            failures,
            took_us,
            "rejected, but the platform cannot reject and no reject_sts_url is set: treated as a pass"
        ),
        _ => tracing::info!(
            call = ?call.id,
            platform = call.platform.name(),
            plugin,
            decision,
            failures,
            took_us,
            "decided"
        ),
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

const OK: Status = Status { status: "ok" };

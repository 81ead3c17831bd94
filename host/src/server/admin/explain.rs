//! `POST /explain`: why a call goes where it goes. Takes what the platform would
//! send, headers included, and does what a call would do: what the cache has is
//! taken from there, other plugins are asked, and their own side effects happen.
//! Nothing is counted, cached or set aside by it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::App;
use super::super::error::{HttpError, json};
use super::super::webhook;
use crate::event::Event;
use crate::platform::{Message, recognize};
use crate::router::{Explanation, Outcome, Ruling, Source, Step};
use crate::units::micros;

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, HttpError> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let bounds = app.dialects.iter().map(|dialect| dialect.bounds()).max_by_key(|it| it.body);
    let bounds = bounds.ok_or_else(HttpError::not_found)?;
    let body = webhook::read(&app.bodies, &bounds, &head.headers, body, start).await?;
    let (dialect, event) = recognize(&app.dialects, &head.headers, &body.bytes, start_of_call)?;
    let generation = app.registry.current();
    let deadline = start + app.config.limits.budget;
    let explanation = app.router.explain(&generation, &event.call, deadline).await;
    let Explanation { generation, steps, outcome } = explanation;
    let Outcome { answer, ruling: Ruling { by, source, failures, .. } } = &outcome;
    let told = String::from_utf8_lossy(&dialect.decision(answer).body).into_owned();
    // Not every platform's words are JSON.
    let told = serde_json::from_str(&told).unwrap_or(serde_json::Value::String(told));
    Ok(json(&Explained {
        generation,
        platform: event.call.platform.name,
        plugins: &steps,
        outcome: answer.name(),
        by: by.as_deref(),
        source: by.as_ref().map(|_| *source),
        failures: *failures,
        answer: told,
        took_us: micros(start.elapsed()),
    }))
}

/// The one thing that can be explained.
fn start_of_call(message: Message) -> Result<Event, String> {
    match message {
        Message::Decide(event) => Ok(event),
        _ => Err("expected the start of a call, the one request that is decided".to_owned()),
    }
}

#[derive(Serialize)]
struct Explained<'a> {
    generation: u64,
    platform: &'static str,
    plugins: &'a [Step],
    /// As in the log.
    outcome: &'static str,
    /// Who decided, or stopped the chain.
    by: Option<&'a str>,
    source: Option<Source>,
    failures: u32,
    /// What the platform would be answered.
    answer: serde_json::Value,
    took_us: u64,
}

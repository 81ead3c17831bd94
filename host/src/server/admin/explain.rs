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
use crate::event::EventBody;
use crate::platform::{BadRequest, avr};
use crate::router::{Explanation, Outcome, Ruling, Source, Step};

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, HttpError> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let body = webhook::read(&app, &head.headers, body, start).await?;
    let event = avr::parse(&head.headers, &body)?;
    let EventBody::Initiated = event.body else {
        let message = "`type`: expected call_initiated, the one event that is decided".to_owned();
        return Err(BadRequest { message }.into());
    };
    let generation = app.registry.current();
    let deadline = start + app.config.limits.budget;
    let explanation = app.router.explain(&generation, &event.call, deadline).await;
    let Explanation { generation, steps, outcome } = explanation;
    let Outcome { answer, ruling: Ruling { by, source, failures, .. } } = &outcome;
    Ok(json(&Explained {
        generation,
        platform: event.call.platform.name(),
        plugins: &steps,
        outcome: answer.name(),
        by: by.as_deref(),
        source: by.as_ref().map(|_| *source),
        failures: *failures,
        answer: avr::render(answer),
        took_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
    }))
}

#[derive(Serialize)]
struct Explained<'a, A> {
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
    answer: A,
    took_us: u64,
}

//! The dead-letter queue: `GET /events/dead` lists it, `POST /events/dead/retry` redrives
//! events, `DELETE /events/dead` purges them. All take `?observer=NAME` and `?id=N`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use super::super::app_state::AppState;
use super::super::error::{ErrorResponse, json_response};
use super::query::query_pairs;
use plugboard_platform::BadRequest;
use plugboard_store::{DeadLetter, DeadLetterFilter, DeadLetters, StoreFuture};

/// Number of dead letters in a response, by default and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// Maximum number of dead letters that one request redrives or purges, and that one step
/// handles, because other writes wait for a step.
const MAX_PER_REQUEST: u32 = 10_000;
const MAX_PER_STEP: u32 = 500;

#[derive(Serialize)]
struct DeadLetterListing<'a> {
    /// The number of dead letters of each observer.
    total: Vec<ObserverTotal<'a>>,
    /// The first dead letters; `?after=ID` continues.
    dead_letters: Vec<DeadLetterDocument<'a>>,
}

#[derive(Serialize)]
struct ObserverTotal<'a> {
    observer: &'a str,
    count: u64,
}

/// A dead letter without the content of its event.
#[derive(Serialize)]
struct DeadLetterDocument<'a> {
    id: i64,
    observer: &'a str,
    event: String,
    kind: &'static str,
    call: &'a str,
    accepted: Option<jiff::Timestamp>,
    dead_lettered: Option<jiff::Timestamp>,
    attempts: u32,
    error: &'a str,
}

pub(super) async fn list(
    State(app): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let selection = parse_selection(query.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let result = app.services.store.dead_letters(selection).await;
    let DeadLetters { letters, totals: total } =
        result.map_err(|error| ErrorResponse::from_store_error(&error))?;
    let total =
        total.iter().map(|(observer, count)| ObserverTotal { observer, count: *count }).collect();
    Ok(json_response(&DeadLetterListing {
        total,
        dead_letters: letters.iter().map(DeadLetterDocument::from).collect(),
    }))
}

pub(super) async fn redrive(
    State(app): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    #[derive(Serialize)]
    struct Redriven {
        redriven: u64,
    }
    let selection = parse_selection(query.as_deref(), MAX_PER_REQUEST, MAX_PER_REQUEST)?;
    let redriven =
        apply_in_steps(selection, |step| app.services.store.redrive_dead_letters(step)).await?;
    tracing::info!(events = redriven, "dead letters redriven");
    Ok(json_response(&Redriven { redriven }))
}

pub(super) async fn purge(
    State(app): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    #[derive(Serialize)]
    struct Purged {
        purged: u64,
    }
    let selection = parse_selection(query.as_deref(), MAX_PER_REQUEST, MAX_PER_REQUEST)?;
    let purged =
        apply_in_steps(selection, |step| app.services.store.purge_dead_letters(step)).await?;
    tracing::info!(events = purged, "dead letters purged");
    Ok(json_response(&Purged { purged }))
}

/// Applies `action` to the selected letters, step by step. A letter that it handled is not
/// selected again.
async fn apply_in_steps(
    selection: DeadLetterFilter,
    action: impl Fn(DeadLetterFilter) -> StoreFuture<u64>,
) -> Result<u64, ErrorResponse> {
    let mut applied = 0;
    loop {
        let remaining = u64::from(selection.limit).saturating_sub(applied);
        let most = MAX_PER_STEP.min(u32::try_from(remaining).unwrap_or(MAX_PER_STEP));
        let step = action(DeadLetterFilter { limit: most, ..selection.clone() }).await;
        let step = step.map_err(|error| ErrorResponse::from_store_error(&error))?;
        applied += step;
        if step < u64::from(MAX_PER_STEP) {
            return Ok(applied);
        }
    }
}

impl<'a> From<&'a DeadLetter> for DeadLetterDocument<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        let time = |ms| jiff::Timestamp::from_millisecond(ms).ok();
        Self {
            id: letter.id,
            observer: &letter.consumer,
            event: letter.event_id.to_string(),
            kind: letter.kind.name(),
            call: &letter.call,
            accepted: time(letter.accepted_at),
            dead_lettered: time(letter.dead_lettered_at),
            attempts: letter.attempts,
            error: &letter.error,
        }
    }
}

/// Parses the selection in the query.
fn parse_selection(
    query: Option<&str>,
    limit: u32,
    max_limit: u32,
) -> Result<DeadLetterFilter, ErrorResponse> {
    let mut selection = DeadLetterFilter { limit, ..DeadLetterFilter::default() };
    for (name, value) in query_pairs(query) {
        let number = |value: &Cow<'_, str>| {
            value
                .parse::<u32>()
                .map_err(|_| BadRequest { message: format!("query `{name}`: expected a number") })
        };
        match &*name {
            "observer" => selection.consumer = Some(value.into_owned()),
            "id" => selection.id = Some(number(&value)?.into()),
            "after" => selection.after_id = number(&value)?.into(),
            "limit" => selection.limit = number(&value)?.clamp(1, max_limit),
            _ => {
                let message = "query: expected `observer`, `id`, `after` or `limit`".to_owned();
                return Err(BadRequest { message }.into());
            }
        }
    }
    Ok(selection)
}

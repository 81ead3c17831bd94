//! `GET /events/dead`: what observers could not take; `POST /events/dead/retry`:
//! tells them once more; `DELETE /events/dead`: throws them away. All take `?observer=NAME` and `?id=N`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;

use super::super::App;
use super::super::error::{HttpError, json};
use crate::platform::BadRequest;
use crate::store::{DeadLetter, DeadLetters, Pending, Selection};

/// Dead letters in one answer, unless `limit` says otherwise; and the most that
/// it may say.
const LIMIT: u32 = 100;
const MOST: u32 = 1_000;

/// Dead letters that are told once more or thrown away in one request; and in one
/// step, as others wait for it.
const ALL: u32 = 10_000;
const STEP: u32 = 500;

#[derive(Serialize)]
struct Listing<'a> {
    /// How many there are of each observer.
    total: Vec<Total<'a>>,
    /// The first ones; `?after=ID` gives the next.
    dead: Vec<Letter<'a>>,
}

#[derive(Serialize)]
struct Total<'a> {
    observer: &'a str,
    count: u64,
}

/// Without what was said in the call: this is for whoever mends things.
#[derive(Serialize)]
struct Letter<'a> {
    id: i64,
    observer: &'a str,
    event: String,
    kind: &'static str,
    call: &'a str,
    accepted: Option<jiff::Timestamp>,
    given_up: Option<jiff::Timestamp>,
    attempts: u32,
    error: &'a str,
}

pub(super) async fn dead(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    let selection = selection(query.as_deref(), LIMIT, MOST)?;
    let found = app.store.dead(selection).await;
    let DeadLetters { letters, total } = found.map_err(|error| HttpError::not_kept(&error))?;
    let total = total.iter().map(|(observer, count)| Total { observer, count: *count }).collect();
    Ok(json(&Listing { total, dead: letters.iter().map(Letter::from).collect() }))
}

pub(super) async fn retry(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    #[derive(Serialize)]
    struct Retried {
        retried: u64,
    }
    let selection = selection(query.as_deref(), ALL, ALL)?;
    let retried = in_steps(selection, |step| app.store.revive(step)).await?;
    tracing::info!(events = retried, "dead letters are tried once more");
    Ok(json(&Retried { retried }))
}

pub(super) async fn discard(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    #[derive(Serialize)]
    struct Discarded {
        discarded: u64,
    }
    let selection = selection(query.as_deref(), ALL, ALL)?;
    let discarded = in_steps(selection, |step| app.store.discard(step)).await?;
    tracing::info!(events = discarded, "dead letters are thrown away");
    Ok(json(&Discarded { discarded }))
}

/// Does something with the selected letters, which are gone then, step by step.
async fn in_steps(
    selection: Selection,
    take: impl Fn(Selection) -> Pending<u64>,
) -> Result<u64, HttpError> {
    let mut taken = 0;
    loop {
        let left = u64::from(selection.most).saturating_sub(taken);
        let most = STEP.min(u32::try_from(left).unwrap_or(STEP));
        let step = take(Selection { most, ..selection.clone() }).await;
        let step = step.map_err(|error| HttpError::not_kept(&error))?;
        taken += step;
        if step < u64::from(STEP) {
            return Ok(taken);
        }
    }
}

impl<'a> From<&'a DeadLetter> for Letter<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        let time = |ms| jiff::Timestamp::from_millisecond(ms).ok();
        Self {
            id: letter.id,
            observer: &letter.observer,
            event: letter.identity.to_string(),
            kind: letter.kind.name(),
            call: &letter.call,
            accepted: time(letter.accepted),
            given_up: time(letter.at),
            attempts: letter.attempts,
            error: &letter.error,
        }
    }
}

/// Which ones the query means.
fn selection(query: Option<&str>, limit: u32, most: u32) -> Result<Selection, HttpError> {
    let mut selection = Selection { most: limit, ..Selection::default() };
    for (name, value) in super::pairs(query) {
        let number = |value: &Cow<'_, str>| {
            value
                .parse::<u32>()
                .map_err(|_| BadRequest { message: format!("query `{name}`: expected a number") })
        };
        match &*name {
            "observer" => selection.observer = Some(value.into_owned()),
            "id" => selection.id = Some(number(&value)?.into()),
            "after" => selection.after = number(&value)?.into(),
            "limit" => selection.most = number(&value)?.clamp(1, most),
            _ => {
                let message = "query: expected `observer`, `id`, `after` or `limit`".to_owned();
                return Err(BadRequest { message }.into());
            }
        }
    }
    Ok(selection)
}

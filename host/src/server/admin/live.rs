//! `GET /live`: what happened lately and what happens, as server-sent events; `GET /calls`:
//! the calls in progress; `GET /reloads`: what changed in the plugin folder. Callers'
//! numbers are hidden, unless it is asked with `?numbers=shown`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::time::Instant;

use super::super::App;
use super::super::error::{HttpError, json};
use super::super::listener::Peer;
use crate::live::{Message, Numbers, Reload};
use crate::platform::BadRequest;

/// How long the stream is silent at the most: less than the minute after which proxies
/// let go.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn live(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    let numbers = numbers(query.as_deref())?;
    let reader = app.live.read().await?;
    app.unlocks.tell(numbers, peer);
    let events = stream::unfold(reader, move |mut reader| async move {
        let Message { kind, data } = reader.next().await?.message(numbers);
        Some((Ok::<_, Infallible>(Event::default().event(kind).data(data)), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

pub(super) async fn calls(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    let numbers = numbers(query.as_deref())?;
    app.unlocks.tell(numbers, peer);
    let calls = app.live.calls().await;
    Ok(json(&calls.document(numbers)))
}

pub(super) async fn reloads(State(app): State<Arc<App>>) -> Response {
    #[derive(Serialize)]
    struct Reloads {
        reloads: Vec<Arc<Reload>>,
    }
    json(&Reloads { reloads: app.live.reloads().await })
}

fn numbers(query: Option<&str>) -> Result<Numbers, BadRequest> {
    let mut numbers = Numbers::Masked;
    for (name, value) in super::pairs(query) {
        match (&*name, &*value) {
            ("numbers", "shown") => numbers = Numbers::Shown,
            _ => return Err(BadRequest { message: "query: expected `numbers=shown`".to_owned() }),
        }
    }
    Ok(numbers)
}

/// How often it is told that the same operator sees numbers.
const AGAIN: Duration = Duration::from_secs(60);

/// Leaves behind who saw whose calls they are: once a minute, as a page that is open asks
/// every other second.
#[derive(Default)]
pub struct Unlocks(Mutex<Option<(IpAddr, Instant)>>);

impl Unlocks {
    fn tell(&self, numbers: Numbers, Peer(peer): Peer) {
        if numbers == Numbers::Masked {
            return;
        }
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|(of, at)| of != peer || now >= at + AGAIN) {
            *last = Some((peer, now));
            tracing::info!(%peer, "caller numbers are shown to an operator");
        }
    }
}

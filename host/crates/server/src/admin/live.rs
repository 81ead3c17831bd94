//! `GET /live`: the history and new activities as server-sent events. `GET /calls`: calls
//! in progress. `GET /reloads`: recent reloads. Callers' numbers are masked, unless the
//! query is `?numbers=shown`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::super::app_state::AppState;
use super::super::error::{ErrorResponse, json_response};
use super::super::listener::Peer;
use super::query::query_pairs;
use crate::live::{LiveMessage, Masking, ReloadSummary, SubscribeError};
use plugboard_platform::BadRequest;

/// Interval of keep-alive comments: proxies close a stream that is silent for a minute.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) async fn live(
    State(app): State<Arc<AppState>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let masking = parse_masking(query.as_deref())?;
    if app.stop.is_cancelled() {
        return Err(SubscribeError::Stopping.into());
    }
    let subscriber = app.services.live.subscribe().await?;
    app.unmask_audit.record(masking, peer);
    let events = stream::unfold(subscriber, move |mut reader| async move {
        let LiveMessage { kind, data } = reader.next().await?.message(masking);
        Some((Ok::<_, Infallible>(Event::default().event(kind).data(data)), reader))
    });
    // The stream does not end by itself, and the server drains before it stops the feed.
    let events = events.take_until(app.stop.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response())
}

pub(super) async fn calls(
    State(app): State<Arc<AppState>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let masking = parse_masking(query.as_deref())?;
    app.unmask_audit.record(masking, peer);
    let calls = app.services.live.calls().await;
    Ok(json_response(&calls.document(masking)))
}

pub(super) async fn reloads(State(app): State<Arc<AppState>>) -> Response {
    #[derive(Serialize)]
    struct Reloads {
        reloads: Vec<Arc<ReloadSummary>>,
    }
    json_response(&Reloads { reloads: app.services.live.reloads().await })
}

fn parse_masking(query: Option<&str>) -> Result<Masking, BadRequest> {
    let mut masking = Masking::Masked;
    for (name, value) in query_pairs(query) {
        match (&*name, &*value) {
            ("numbers", "shown") => masking = Masking::Unmasked,
            _ => return Err(BadRequest { message: "query: expected `numbers=shown`".to_owned() }),
        }
    }
    Ok(masking)
}

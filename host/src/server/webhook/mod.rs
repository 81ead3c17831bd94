//! What platforms post: bodies are read within bounds, senders judged, and what the
//! dialect makes of it is answered. Which platform it is, only the dialect knows.

mod body;
mod decision;
mod midcall;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{Instrument, Span};

pub(super) use self::body::{Bodies, read};
use super::App;
use super::error::{HttpError, json};
use crate::event::Event;
use crate::nesting;
use crate::platform::{BadRequest, Dialect, Message, Reply};
use crate::traces;
use crate::traces::webhook::Parent;

/// Bodies that are larger are read and judged off the threads that serve calls, in
/// bytes: it takes a millisecond.
const LARGE: usize = 128 << 10;

/// The webhook listener's paths.
pub(super) fn routes(app: Arc<App>) -> Router {
    let mut routes = Router::new().route("/health", get(health));
    for dialect in &app.dialects {
        let it = Arc::clone(dialect);
        let posted = move |State(app): State<Arc<App>>, request| {
            let it = Arc::clone(&it);
            async move { webhook(&app, &it, request).await }
        };
        routes = routes.route(dialect.path(), post(posted));
        if let Some(asked) = dialect.instructions() {
            let it = Arc::clone(dialect);
            let prompt = move |State(app): State<Arc<App>>, headers: HeaderMap| {
                let it = Arc::clone(&it);
                async move { instructions(&app, &*it, &headers).await }
            };
            routes = routes.route(asked.path(), get(prompt));
        }
    }
    routes
        .fallback(async || HttpError::not_found())
        .method_not_allowed_fallback(async || HttpError::method_not_allowed())
        .with_state(app)
}

async fn health() -> Response {
    json(&OK)
}

async fn webhook(
    app: &Arc<App>,
    dialect: &Arc<dyn Dialect>,
    request: Request<Body>,
) -> Result<Response, HttpError> {
    let (span, parent) = traces::webhook::begin(dialect.path(), request.headers());
    let answer = answer(app, dialect, request, &span, parent).instrument(span.clone()).await;
    let (status, refused) = match &answer {
        Ok(response) => (response.status().as_u16(), None),
        Err(error) => {
            let (status, code) = error.status_and_code();
            (status, Some(code))
        }
    };
    traces::webhook::answered(&span, status, refused);
    answer
}

async fn answer(
    app: &Arc<App>,
    dialect: &Arc<dyn Dialect>,
    request: Request<Body>,
    span: &Span,
    parent: Parent,
) -> Result<Response, HttpError> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    dialect.admit(&head.headers)?;
    let body = read(&app.bodies, &dialect.bounds(), &head.headers, body, start).await?;
    let message = understand(dialect, head, body.bytes.clone(), parent).await?;
    traces::webhook::understood(span, &message);
    Ok(match message {
        Message::Decide(event) => decision::decision(app, &**dialect, event, start, span).await,
        Message::Events(events) => accept(app, events).await?,
        Message::Tool(used) => midcall::tool(app, &**dialect, used, start, span).await,
        Message::Transfer(asked) => midcall::transfer(app, &**dialect, asked, start, span).await,
    })
}

/// What a request says, if it may say anything.
async fn understand(
    dialect: &Arc<dyn Dialect>,
    head: request::Parts,
    body: Bytes,
    parent: Parent,
) -> Result<Message, HttpError> {
    let is_large = body.len() > LARGE;
    let dialect = Arc::clone(dialect);
    let understand = move || {
        dialect.authenticate(&head.headers, &body)?;
        // Where everybody may send, nobody is known.
        if !dialect.is_open() {
            parent.believed();
        }
        nesting::check(&body).map_err(BadRequest::from)?;
        Ok(dialect.parse(&head.headers, &body)?)
    };
    if !is_large {
        return understand();
    }
    let understood = tokio::task::spawn_blocking(understand);
    understood.await.unwrap_or_else(|_| Err(HttpError::internal()))
}

/// Takes events.
async fn accept(app: &App, events: Vec<Event>) -> Result<Response, HttpError> {
    let mut notes = app.live.notes(&events);
    app.journal.accept(events).await.map_err(|error| {
        notes.withdraw();
        HttpError::not_kept(&error)
    })?;
    Ok(json(&OK))
}

/// What voice agents ask for: the prompt of a call.
async fn instructions(
    app: &App,
    dialect: &dyn Dialect,
    headers: &HeaderMap,
) -> Result<Response, HttpError> {
    let Some(asked) = dialect.instructions() else { return Err(HttpError::not_found()) };
    let (family, call) = asked.call(headers)?;
    match app.journal.prompt(family, call).await {
        Ok(Some(prompt)) => Ok(respond(asked.prompt(&prompt))),
        Ok(None) => Err(HttpError::no_instructions()),
        Err(error) => Err(HttpError::not_kept(&error)),
    }
}

fn respond(reply: Reply) -> Response {
    let Reply { status, content_type, body } = reply;
    let content_type = HeaderValue::from_static(content_type);
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

const OK: Status = Status { status: "ok" };

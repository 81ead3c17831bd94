//! The webhook listener's routes: read the body, authenticate, parse, answer. Everything
//! that depends on the platform is in its adapter.
//!
//! Nesting is limited by counting brackets before any recursive parser runs: the parser here,
//! the guests' libraries, and the platform's parser of the answers of tools and transfers.

mod decision;
mod mid_call;
mod reply;
mod span;

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, request};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use self::reply::reply_response;
use self::span::RemoteParent;
use super::app_state::AppState;
use super::body::read_body;
use super::error::{ErrorResponse, json_response};
use plugboard_core::event::Event;
use plugboard_core::json_depth;
use plugboard_platform::{BadRequest, PlatformAdapter, PlatformRequest};

/// Maximum size of a body that is parsed on an async worker thread, in bytes. A larger body
/// takes about a millisecond, and is parsed on the blocking pool.
const MAX_INLINE_PARSE_BYTES: usize = 128 << 10;

/// Returns the routes of the webhook listener.
pub(super) fn routes(app: Arc<AppState>) -> Router {
    let mut routes = Router::new().route("/health", get(health));
    for adapter in &app.adapters {
        let post_adapter = Arc::clone(adapter);
        let post_handler = move |State(app): State<Arc<AppState>>, request| {
            let post_adapter = Arc::clone(&post_adapter);
            async move { handle_webhook(&app, &post_adapter, request).await }
        };
        routes = routes.route(adapter.path(), post(post_handler));
        if let Some(prompt_endpoint) = adapter.prompt_endpoint() {
            let prompt_adapter = Arc::clone(adapter);
            let prompt_handler = move |State(app): State<Arc<AppState>>, headers: HeaderMap| {
                let prompt_adapter = Arc::clone(&prompt_adapter);
                async move { serve_prompt(&app, &*prompt_adapter, &headers).await }
            };
            routes = routes.route(prompt_endpoint.path(), get(prompt_handler));
        }
    }
    routes
        .fallback(async || ErrorResponse::not_found())
        .method_not_allowed_fallback(async || ErrorResponse::method_not_allowed())
        .with_state(app)
}

async fn health() -> Response {
    json_response(&OK)
}

async fn handle_webhook(
    app: &Arc<AppState>,
    adapter: &Arc<dyn PlatformAdapter>,
    request: Request<Body>,
) -> Result<Response, ErrorResponse> {
    let (span, parent) = span::begin(adapter.path(), request.headers());
    // Pinned in place: moving a large future costs more than the rest of this function.
    let handled = pin!(handle_request(app, adapter, request, &span, parent));
    let answer = handled.instrument(span.clone()).await;
    let (status, refused) = match &answer {
        Ok(response) => (response.status().as_u16(), None),
        Err(error) => {
            let (status, code) = error.status_and_code();
            (status, Some(code))
        }
    };
    span::record_response(&span, status, refused);
    answer
}

async fn handle_request(
    app: &Arc<AppState>,
    adapter: &Arc<dyn PlatformAdapter>,
    request: Request<Body>,
    span: &Span,
    parent: RemoteParent,
) -> Result<Response, ErrorResponse> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    adapter.check_headers(&head.headers)?;
    let body =
        read_body(&app.body_budget, &adapter.request_limits(), &head.headers, body, start).await?;
    let message = parse_request(adapter, head, body.bytes.clone(), parent).await?;
    span::record_request(span, &message);
    // Every request would reserve the space for the future of a tool or a transfer, and move it.
    // These are rare, and are boxed.
    Ok(match message {
        PlatformRequest::Decision(event) => {
            decision::respond_with_decision(app, &**adapter, event, start, span).await
        }
        PlatformRequest::Events(events) => accept_events(app, events).await?,
        PlatformRequest::Tool(tool_use) => {
            Box::pin(mid_call::respond_with_tool(app, &**adapter, tool_use, start, span)).await
        }
        PlatformRequest::Transfer(transfer_request) => {
            let transfer = transfer_request;
            Box::pin(mid_call::respond_with_transfer(app, &**adapter, transfer, start, span)).await
        }
    })
}

/// Authenticates and parses a request.
async fn parse_request(
    adapter: &Arc<dyn PlatformAdapter>,
    head: request::Parts,
    body: Bytes,
    parent: RemoteParent,
) -> Result<PlatformRequest, ErrorResponse> {
    let is_large = body.len() > MAX_INLINE_PARSE_BYTES;
    let adapter = Arc::clone(adapter);
    let parse = move || {
        adapter.authenticate(&head.headers, &body)?;
        // Without a secret, every sender is accepted, so none is authenticated.
        if !adapter.is_unauthenticated() {
            parent.trust();
        }
        json_depth::check(&body).map_err(BadRequest::from)?;
        Ok(adapter.parse(&head.headers, &body)?)
    };
    if !is_large {
        return parse();
    }
    let parsed = tokio::task::spawn_blocking(parse);
    parsed.await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
}

/// Stores events, and acknowledges them.
async fn accept_events(app: &AppState, events: Vec<Event>) -> Result<Response, ErrorResponse> {
    let mut activities = app.services.live.pending_activities(&events);
    app.services.journal.accept(events).await.map_err(|error| {
        activities.discard();
        ErrorResponse::from_store_error(&error)
    })?;
    Ok(json_response(&OK))
}

/// Returns the prompt of a call to its voice agent.
async fn serve_prompt(
    app: &AppState,
    adapter: &dyn PlatformAdapter,
    headers: &HeaderMap,
) -> Result<Response, ErrorResponse> {
    let Some(prompt_endpoint) = adapter.prompt_endpoint() else {
        return Err(ErrorResponse::not_found());
    };
    let call_id = prompt_endpoint.requested_call(headers)?;
    match app.services.journal.prompt(call_id).await {
        Ok(Some(prompt)) => Ok(reply_response(prompt_endpoint.prompt_reply(&prompt))),
        Ok(None) => Err(ErrorResponse::prompt_not_found()),
        Err(error) => Err(ErrorResponse::from_store_error(&error)),
    }
}

#[derive(Serialize)]
struct StatusBody {
    status: &'static str,
}

const OK: StatusBody = StatusBody { status: "ok" };

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of the future of a function in bytes.
    fn future_size<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn future_of_request_is_small() {
        type Adapter = &'static Arc<dyn PlatformAdapter>;
        let size = future_size::<&'static Arc<AppState>, Adapter, Request<Body>, &'static Span, _, _>(
            handle_request,
        );
        // It is moved several times for each request. At 58 KB, this was a tenth of the CPU time
        // of a cached decision.
        assert!(size <= 16 << 10, "{size} bytes");
    }
}

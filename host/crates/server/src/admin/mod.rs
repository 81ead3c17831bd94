//! The admin API and the operator page.

mod dead_letters;
mod erase;
mod explain;
mod guard;
mod live;
mod page;
mod plugins;
mod query;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Serialize;

use super::app_state::AppState;
use super::error::{ErrorResponse, json_response};

/// Maximum wait of a reload until the observers are adopted.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the routes of the admin listener. Probes and the page need no token.
pub(super) fn routes(app: Arc<AppState>) -> Router {
    let page = page::Page::embedded();
    Router::new()
        .route("/plugins", get(plugins::plugins))
        .route("/reload", post(reload))
        .route("/explain", post(explain::explain))
        .route("/events/dead", get(dead_letters::list).delete(dead_letters::purge))
        .route("/events/dead/retry", post(dead_letters::redrive))
        .route("/calls/{id}", delete(erase::erase))
        .route("/calls", get(live::calls))
        .route("/live", get(live::live))
        .route("/reloads", get(live::reloads))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), authenticate))
        // The page contains no data.
        .route("/", get(async move || page.response()))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), guard::reject_foreign_host))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || ErrorResponse::not_found())
        .method_not_allowed_fallback(async || ErrorResponse::method_not_allowed())
        .layer(middleware::from_fn(guard::reject_cross_site))
        .with_state(app)
}

async fn authenticate(
    State(app): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, ErrorResponse> {
    let Some(token) = &app.config.admin_token else { return Ok(next.run(request).await) };
    let bearer_token = request.headers().get(header::AUTHORIZATION);
    let bearer_token = bearer_token.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if bearer_token.is_some_and(|shown| token.matches(shown)) {
        Ok(next.run(request).await)
    } else {
        Err(ErrorResponse::unauthorized_admin())
    }
}

/// Answers the liveness probe: the process responds.
async fn livez() -> Response {
    json_response(&Readiness { status: "ok", broken: Vec::new() })
}

/// Answers the readiness probe with 503 while the server stops, or while a plugin is broken
/// that was broken at the start. A rollout then stops instead of routing calls wrongly. Calls
/// are answered in both cases. A plugin that breaks later does not change readiness, because
/// its last good version serves.
async fn readyz(State(app): State<Arc<AppState>>) -> Response {
    let generation = app.services.registry.current();
    let names = generation.broken().map(|entry| entry.name.as_str());
    let broken: Vec<&str> = names
        .filter(|name| app.broken_at_start.iter().any(|broken_name| broken_name == name))
        .collect();
    let status = match (app.stop.is_cancelled(), broken.is_empty()) {
        (true, _) => "stopping",
        (false, false) => "degraded",
        (false, true) => return json_response(&Readiness { status: "ok", broken }),
    };
    (StatusCode::SERVICE_UNAVAILABLE, json_response(&Readiness { status, broken })).into_response()
}

#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<&'a str>,
}

/// Reloads the certificate and the plugin folder. When it responds, the new generation decides
/// new calls and receives new events.
async fn reload(State(app): State<Arc<AppState>>) -> Result<Response, ErrorResponse> {
    if let Some(tls) = &app.services.tls {
        tls.reload(&app.metrics.network().certificate).await;
    }
    let report = app.services.reload.reload().await?;
    if !app.services.dispatcher.wait_until_adopted(report.generation, ADOPTION_TIMEOUT).await {
        tracing::warn!("observers do not receive events yet: the store is unavailable");
    }
    Ok(json_response(&*report))
}

/// Renders the metrics for Prometheus.
async fn metrics(State(app): State<Arc<AppState>>) -> Response {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    match app.metrics.render(&app.services) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

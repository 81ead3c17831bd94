//! What operators and probes ask.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::App;
use super::error::{HttpError, json};
use crate::plugin::stats::{Decisions, LastError, Latency};
use crate::plugin::{Hook, Plugin};
use crate::registry::{Broken, Disabled, Generation};

/// The admin listener's paths. Probes need no token.
pub(super) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/plugins", get(plugins))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), authenticate))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || HttpError::not_found())
        .method_not_allowed_fallback(async || HttpError::method_not_allowed())
        .with_state(app)
}

async fn authenticate(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    let Some(token) = &app.config.admin_token else { return Ok(next.run(request).await) };
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if shown.is_some_and(|shown| token.is(shown)) {
        Ok(next.run(request).await)
    } else {
        Err(HttpError::unauthorized_admin())
    }
}

/// The process answers.
async fn livez() -> Response {
    json(&Ready { status: "ok", broken: Vec::new() })
}

/// Whether all is as the operator wants it: 503 while stopping, and when a
/// plugin was broken at start, so that a rollout ends here and not in wrongly
/// routed calls. Calls are answered all the same.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let broken: Vec<&str> =
        app.generation.broken.iter().map(|broken| broken.name.as_str()).collect();
    let status = match (app.is_stopping(), broken.is_empty()) {
        (true, _) => "stopping",
        (false, false) => "degraded",
        (false, true) => return json(&Ready { status: "ok", broken }),
    };
    (StatusCode::SERVICE_UNAVAILABLE, json(&Ready { status, broken })).into_response()
}

#[derive(Serialize)]
struct Ready<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken: Vec<&'a str>,
}

async fn plugins(State(app): State<Arc<App>>) -> Response {
    json(&Listing::from(&*app.generation))
}

#[derive(Serialize)]
struct Listing<'a> {
    generation: u64,
    plugins: Vec<Row<'a>>,
}

/// One plugin, in the chain or not.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    file: &'a Path,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    exports: &'a [Hook],
    calls: u64,
    failures: u64,
    decisions: Decisions,
    latency_us: Latency,
    last_error: Option<LastError>,
}

impl<'a> From<&'a Generation> for Listing<'a> {
    fn from(generation: &'a Generation) -> Self {
        let chain = generation.chain.iter().map(|plugin| Row::from(&**plugin));
        let broken = generation.broken.iter().map(Row::from);
        let disabled = generation.disabled.iter().map(Row::from);
        let mut plugins: Vec<Row<'_>> = chain.chain(broken).chain(disabled).collect();
        plugins.sort_by_key(|row| row.file);
        Self { generation: generation.number, plugins }
    }
}

impl<'a> From<&'a Plugin> for Row<'a> {
    fn from(plugin: &'a Plugin) -> Self {
        let stats = plugin.stats.snapshot();
        Self {
            name: plugin.name(),
            file: &plugin.file,
            state: "active",
            digest: Some(&plugin.digest),
            size: Some(plugin.size),
            exports: &plugin.hooks,
            calls: stats.calls,
            failures: stats.failures,
            decisions: stats.decisions,
            latency_us: stats.latency_us,
            last_error: stats.last_error,
        }
    }
}

impl<'a> From<&'a Broken> for Row<'a> {
    fn from(broken: &'a Broken) -> Self {
        let last_error = Some(broken.error.clone());
        Self { last_error, ..Self::idle(&broken.name, &broken.file, "broken") }
    }
}

impl<'a> From<&'a Disabled> for Row<'a> {
    fn from(disabled: &'a Disabled) -> Self {
        Self::idle(&disabled.name, &disabled.file, "disabled")
    }
}

impl<'a> Row<'a> {
    /// A plugin that is not in the chain.
    fn idle(name: &'a str, file: &'a Path, state: &'static str) -> Self {
        Self {
            name,
            file,
            state,
            digest: None,
            size: None,
            exports: &[],
            calls: 0,
            failures: 0,
            decisions: Decisions::default(),
            latency_us: Latency::default(),
            last_error: None,
        }
    }
}

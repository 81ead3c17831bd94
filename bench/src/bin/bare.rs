//! The bare handler, which is the base of all ratios: axum with the same authentication, the
//! same parser and a response of the same kind, and nothing else.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use plugboard_config::{self as config, Flags};
use plugboard_core::outcome::Answer;
use plugboard_platform::{self as platform, PlatformAdapter, PlatformRequest};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = config::load(Flags::default(), std::env::vars())?.config;
    // AVR is the first platform, and enabled by default.
    let Some(adapter) = platform::adapters(&config).into_iter().next() else {
        anyhow::bail!("no platform is enabled");
    };
    let routes = Router::new().route(adapter.path(), post(events)).with_state(adapter);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn events(
    State(adapter): State<Arc<dyn PlatformAdapter>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if adapter.check_headers(&headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(request) = adapter.parse(&headers, &body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let PlatformRequest::Decision(event) = request else {
        return ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
            .into_response();
    };
    let sts_url = Some(format!("ws://avr-sts-openai:6030/?uuid={}", event.call.id));
    let reply = adapter.decision_reply(&Answer::Route { sts_url, prompt: None });
    ([(header::CONTENT_TYPE, reply.content_type)], reply.body).into_response()
}

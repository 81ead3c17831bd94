//! The bare server that the bench compares with: axum, the same authentication,
//! the same parser, an answer of the same kind, and nothing else.

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
    // AVR is the first one, and the one that is on.
    let Some(dialect) = platform::adapters(&config).into_iter().next() else {
        anyhow::bail!("no platform is switched on");
    };
    let routes = Router::new().route(dialect.path(), post(events)).with_state(dialect);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn events(
    State(dialect): State<Arc<dyn PlatformAdapter>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if dialect.check_headers(&headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(message) = dialect.parse(&headers, &body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let PlatformRequest::Decision(event) = message else {
        return ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
            .into_response();
    };
    let sts_url = Some(format!("ws://avr-sts-openai:6030/?uuid={}", event.call.id));
    let reply = dialect.decision_reply(&Answer::Route { sts_url, prompt: None });
    ([(header::CONTENT_TYPE, reply.content_type)], reply.body).into_response()
}

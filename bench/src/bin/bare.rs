//! The bare server that the bench compares with: axum, the same authentication,
//! the same parser, an answer of the same kind, and nothing else.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use plugboard::config::Secret;
use plugboard::event::EventBody;
use plugboard::platform::avr;
use plugboard::router::Answer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret: Secret = serde_json::from_value(std::env::var("WEBHOOK_SECRET")?.into())?;
    let routes = Router::new().route("/events", post(events)).with_state(secret);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn events(State(secret): State<Secret>, headers: HeaderMap, body: Bytes) -> Response {
    if avr::authenticate(Some(&secret), &headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(event) = avr::parse(&headers, &body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let EventBody::Initiated = event.body else {
        return ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
            .into_response();
    };
    let sts_url = Some(format!("ws://avr-sts-openai:6030/?uuid={}", event.call.id));
    let answer = Answer::Route { sts_url, prompt: None };
    match serde_json::to_vec(&avr::render(&answer)) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

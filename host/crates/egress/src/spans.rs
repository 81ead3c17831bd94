//! Tracing spans of a plugin's requests.

use std::fmt::Display;

use tracing::field::{Empty, display};
use tracing::{Level, Span, span};

use plugboard_core::span::CHILD_TARGET;

/// Creates the span of a plugin's request.
pub fn http_span() -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "http",
        otel.kind = "client",
        http.request.method = Empty,
        server.address = Empty,
        server.port = Empty,
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Records method, host and port of a request, without its path. The caller leaves out a
/// host that is not granted, because it may be any text.
pub fn record_request(span: &Span, method: &str, host: &dyn Display, port: u16) {
    if span.is_disabled() {
        return;
    }
    span.record("http.request.method", method);
    span.record("server.address", display(host));
    span.record("server.port", i64::from(port));
}

/// Records the response of a request. A status of 4xx or 5xx is not an error of the span:
/// the plugin interprets it.
pub fn record_response(span: &Span, status: u16) {
    span.record("http.response.status_code", i64::from(status));
}

//! Replies of platforms as HTTP responses.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use plugboard_platform::Reply;

pub(super) fn reply_response(reply: Reply) -> Response {
    let Reply { status, content_type, body } = reply;
    let content_type = HeaderValue::from_static(content_type);
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

//! Error responses: `{"error":{"code","message"}}`. The codes are part of the interface.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::erasure::ErasureError;
use crate::live::SubscribeError;
use plugboard_platform::{BadRequest, Unauthorized};
use plugboard_registry::reload::ReloadError;
use plugboard_store::StoreError;

/// `Retry-After` of 503 responses, in seconds. Short, because the order within a call
/// waits for the retry.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An error response with status, code and message.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The value of `Retry-After`, in seconds.
    retry_after: Option<u32>,
}

impl ErrorResponse {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "no resource at this path")
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "this path does not support the method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(super) fn too_large(most: usize, key: &str) -> Self {
        let message = format!("the body is larger than {most} bytes ({key})");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(super) fn body_timeout(key: &str) -> Self {
        // The status is not 408, because BlackBox never sends a report again after it.
        let message = format!("the body did not arrive within the time limit ({key})");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "body_timeout", message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }

    pub(super) fn too_many_large_bodies() -> Self {
        let message = "too many large request bodies at the moment";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }

    pub(super) fn internal() -> Self {
        tracing::error!("Plugboard panicked while it handled a request; please report it");
        let message = "internal error; the log has the details";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn body_unreadable() -> Self {
        let message = "the request body could not be read";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn ip_not_allowed() -> Self {
        let message = "the sender's address is not in ingress.allowed_networks";
        Self::new(StatusCode::FORBIDDEN, "ip_not_allowed", message)
    }

    /// Creates the response to a sender that exceeds its rate limit, and has budget again after
    /// `wait`.
    pub(super) fn too_many_requests(wait: Duration) -> Self {
        let message = "the sender exceeds its rate limit (ingress.rate_limit)";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        // The seconds are rounded up, so that the sender does not retry too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
        Self { retry_after: Some(seconds), ..error }
    }

    pub(super) fn https_expected() -> Self {
        let message = "this port accepts only HTTPS (tls.certificate)";
        Self::new(StatusCode::BAD_REQUEST, "https_expected", message)
    }

    /// Creates the response to a write or read that the store rejects. The sender should retry.
    pub(super) fn from_store_error(error: &StoreError) -> Self {
        let (code, message) = match error {
            // Operators find the details in the log.
            StoreError::Unavailable(_) => ("store_unavailable", "the store is unavailable"),
            StoreError::Full => ("store_full", "the store or its disk is full"),
            StoreError::Overloaded => ("overloaded", "the write queue of the store is full"),
            StoreError::Closed => ("stopping", "the server is stopping"),
        };
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }

    /// Creates the response to an erasure that failed or is incomplete. The operator should
    /// retry.
    pub(super) fn from_erasure_error(error: &ErasureError) -> Self {
        match error {
            ErasureError::Store(error) => Self::from_store_error(error),
            ErasureError::ErasureIncomplete => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "erasure_incomplete", error.to_string())
            }
        }
    }

    pub(super) fn prompt_not_found() -> Self {
        let message = "no prompt is stored for this call";
        Self::new(StatusCode::NOT_FOUND, "prompt_not_found", message)
    }

    /// Creates the response to a request that a page of another site sent with the operator's
    /// browser.
    pub(super) fn cross_site() -> Self {
        let message =
            "a browser sent the request from a page of another site (Origin, Sec-Fetch-Site)";
        Self::new(StatusCode::FORBIDDEN, "cross_site", message)
    }

    pub(super) fn host_not_allowed() -> Self {
        let message = "without an admin_token, the Host header must be an IP address or \
                       `localhost`";
        Self::new(StatusCode::FORBIDDEN, "host_not_allowed", message)
    }

    pub(super) fn unauthorized_admin() -> Self {
        let message = "expected the admin_token as `Authorization: Bearer`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Returns the status and the code, for a span.
    pub(super) fn status_and_code(&self) -> (u16, &'static str) {
        (self.status.as_u16(), self.code)
    }
}

impl From<ReloadError> for ErrorResponse {
    fn from(error: ReloadError) -> Self {
        let code = match error {
            ReloadError::Folder(_) => "folder_unreadable",
            ReloadError::Stopping => "stopping",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
    }
}

impl From<SubscribeError> for ErrorResponse {
    fn from(error: SubscribeError) -> Self {
        let (code, message) = match error {
            SubscribeError::TooMany => {
                ("too_many_subscribers", "the live feed has its maximum of subscribers")
            }
            SubscribeError::Stopping => ("stopping", "the server is stopping"),
        };
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..error }
    }
}

impl From<Unauthorized> for ErrorResponse {
    fn from(error: Unauthorized) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string())
    }
}

impl From<BadRequest> for ErrorResponse {
    fn from(error: BadRequest) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error.message)
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct ErrorBody<'a> {
            error: ErrorDetail<'a>,
        }
        #[derive(Serialize)]
        struct ErrorDetail<'a> {
            code: &'a str,
            message: &'a str,
        }
        // The message may quote text of the sender.
        tracing::debug!(status = self.status.as_u16(), message = ?self.message, "request rejected");
        let error = ErrorDetail { code: self.code, message: &self.message };
        let mut response = (self.status, json_response(&ErrorBody { error })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Renders a document as a JSON response.
pub(super) fn json_response(document: &impl Serialize) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    match serde_json::to_vec(document) {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => {
            // Serialization fails only for maps whose keys are not strings, and no document has
            // one.
            tracing::error!(%error, "cannot serialize a response");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Returns every error response as status, code and message, for the reference.
#[doc(hidden)]
pub fn all_error_responses() -> Vec<(u16, &'static str, String)> {
    [
        ErrorResponse::body_unreadable(),
        ErrorResponse::https_expected(),
        ErrorResponse::unauthorized_admin(),
        ErrorResponse::ip_not_allowed(),
        ErrorResponse::cross_site(),
        ErrorResponse::host_not_allowed(),
        ErrorResponse::not_found(),
        ErrorResponse::prompt_not_found(),
        ErrorResponse::method_not_allowed(),
        ErrorResponse::too_large(1 << 20, "limits.max_body"),
        ErrorResponse::too_many_requests(Duration::from_secs(1)),
        ErrorResponse::internal(),
        ErrorResponse::body_timeout("limits.body_timeout"),
        ErrorResponse::too_many_large_bodies(),
        ErrorResponse::from_store_error(&StoreError::Unavailable(std::sync::Arc::new(
            std::fmt::Error,
        ))),
        ErrorResponse::from_store_error(&StoreError::Full),
        ErrorResponse::from_store_error(&StoreError::Closed),
        SubscribeError::TooMany.into(),
        ErrorResponse::from_erasure_error(&ErasureError::ErasureIncomplete),
        ReloadError::Folder("the plugin folder cannot be read".to_owned()).into(),
    ]
    .map(|error| (error.status.as_u16(), error.code, error.message))
    .into()
}

//! HTTP requests of guests, to where the operator's grants allow and nowhere else.
//!
//! [`HttpGrants`] judges what a URL names, `egress` the addresses that names
//! lead to, and [`HttpClient`] sends what both allow, within [`HttpLimits`]; or a
//! [`HttpMock`] answers in the place of the network.

#![forbid(unsafe_code)]

mod address_policy;
mod client;
mod grants;
mod message;
mod mock;
mod resolver;
mod spans;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

pub use self::client::HttpClient;
pub use self::grants::HttpGrants;
pub use self::mock::{HttpMock, MockResponse};

/// Redirects that one request follows at most. To another host or port they carry
/// no `authorization` and no `cookie`, but all other headers.
pub const MAX_REDIRECTS: usize = 5;

/// What one plugin may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// For one exchange, from the lookup of the name to the end of the body.
    pub timeout: Duration,
    /// Longest request in bytes: URL, headers and body.
    pub max_request_size: usize,
    /// Longest response in bytes: headers and body.
    pub max_response_size: usize,
    /// Requests on the way at once, over all calls.
    pub concurrency: usize,
}

impl HttpLimits {
    /// The same as a semaphore can count it.
    fn max_concurrency(&self) -> usize {
        self.concurrency.min(Semaphore::MAX_PERMITS)
    }
}

/// What a guest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// In upper case.
    pub method: String,
    /// An http or https URL.
    pub url: String,
    /// In order; the same name may come again.
    pub headers: Vec<(String, String)>,
    /// Empty: none.
    pub body: Vec<u8>,
    /// None: the operator's bound. It cannot be longer than that.
    pub timeout: Option<Duration>,
}

/// What the other side said, after redirects. Any status is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The three digits.
    pub status: u16,
    /// Names in lower case. What is not UTF-8 in a value is replaced.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

/// Why there is no response. The messages go to the guest and to the operator's
/// log: they name hosts, ports and addresses, never a path or a query, where
/// callers' numbers may be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The settings do not grant this host and port.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The name leads only to addresses that the settings do not grant.
    #[error("address refused: {0}")]
    AddressRefused(String),
    /// The method, the URL or a header is none, or is the host's to set.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// The request or the response is longer than it may be.
    #[error("too large: {0}")]
    TooLarge(String),
    /// No whole response in time.
    #[error("no whole response in time")]
    Timeout,
    /// The plugin has too many requests on the way.
    #[error("too many requests on the way at once")]
    TooManyRequests,
    /// The other side could not be reached, or broke off.
    #[error("failed: {0}")]
    Failed(String),
}

impl HttpError {
    /// One word for it, for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotGranted(_) => "not_granted",
            Self::AddressRefused(_) => "address_refused",
            Self::InvalidRequest(_) => "invalid_request",
            Self::TooLarge(_) => "too_large",
            Self::Timeout => "timeout",
            Self::TooManyRequests => "too_many",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether the plugin asked for what it may not do, rather than something going
    /// wrong on the way.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Failed(_))
    }
}

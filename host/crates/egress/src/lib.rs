//! HTTP requests of plugins: only to where the operator's grants allow.
//!
//! A request passes three checks:
//!
//! 1. `message`: it is a valid HTTP request, with nothing in it that could hide another one.
//! 2. [`HttpGrants`]: the URL's host and port are granted, as the URL standard reads them
//!    (`0x7f.1` is 127.0.0.1).
//! 3. `address_policy`: the address to connect to is public, or granted as an address (SSRF
//!    protection). The resolver of the connection itself asks, so a name cannot resolve to
//!    another address afterwards. An IPv4 address within IPv6 counts as IPv4.
//!
//! A redirect passes all of them again. [`HttpClient`] sends the request within [`HttpLimits`], or
//! a [`HttpMock`] answers instead of the network. Each version of a plugin has a client of its own,
//! so that a connection that one version was granted never serves another.

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

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

/// The most redirects that one request follows. To another host or port they carry no
/// `authorization` and no `cookie`, but all other headers.
pub const MAX_REDIRECTS: usize = 5;

/// The limits of one plugin's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Time for one exchange, from the lookup of the name to the end of the body.
    pub timeout: Duration,
    /// Largest request in bytes: URL, headers and body.
    pub max_request_size: usize,
    /// Largest response in bytes: headers and body.
    pub max_response_size: usize,
    /// Concurrent requests of the plugin, over all calls.
    pub concurrency: usize,
}

impl HttpLimits {
    /// Returns the concurrency, limited to what a semaphore can count.
    fn max_concurrency(&self) -> usize {
        self.concurrency.min(Semaphore::MAX_PERMITS)
    }
}

/// A plugin's request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, in upper case.
    pub method: String,
    /// An http or https URL.
    pub url: String,
    /// The headers, in order; a name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// The body; empty: none.
    pub body: Vec<u8>,
    /// Time for the whole response. None: the operator's limit, which is also the maximum.
    pub timeout: Option<Duration>,
}

/// The response after redirects. Any status is a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The headers, with names in lower case. Bytes that are not UTF-8 are replaced in
    /// values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no response. The messages go to the plugin and to the operator's log. They
/// name hosts, ports and addresses, never a path or a query, which may contain callers'
/// numbers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The settings do not grant this host and port.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The name leads only to addresses that the settings do not grant.
    #[error("address refused: {0}")]
    AddressRefused(String),
    /// The method, the URL or a header is invalid, or the header is set by the host.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// The request or the response exceeds its limit.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The response was not complete in time.
    #[error("no whole response in time")]
    Timeout,
    /// The plugin has too many concurrent requests.
    #[error("too many requests on the way at once")]
    TooManyRequests,
    /// The server could not be reached, or closed the connection.
    #[error("failed: {0}")]
    Failed(String),
}

impl HttpError {
    /// Returns the label for metrics and logs.
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

    /// Returns whether the plugin requested what it may not do, as opposed to a failure on
    /// the way.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Failed(_))
    }
}

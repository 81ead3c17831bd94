//! HTTP requests of plugins, limited to the hosts that the operator grants.
//!
//! A request passes three checks:
//!
//! 1. `message`: the request is valid HTTP, and no header can smuggle a second request.
//! 2. [`HttpGrants`]: the URL's host and port are granted, as the URL standard reads them
//!    (`0x7f.1` is 127.0.0.1).
//! 3. `address_policy`: the address to connect to is public, or granted as an address (SSRF
//!    protection). The check runs in the resolver of the connection itself, so a name cannot
//!    resolve to another address afterwards (DNS rebinding). An IPv4 address within IPv6
//!    counts as IPv4.
//!
//! The URL of each redirect passes the checks again. [`HttpClient`] sends the request within
//! [`HttpLimits`], or a [`HttpMock`] answers instead of the network. Each version of a plugin
//! has its own client, so that a connection granted to one version never serves another.

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

/// Maximum number of redirects that one request follows. A redirect to another host or port
/// drops `authorization` and `cookie`, and keeps all other headers.
pub const MAX_REDIRECTS: usize = 5;

/// Limits of one plugin's requests.
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
    /// Returns the concurrency, at most the maximum of a semaphore.
    fn max_concurrency(&self) -> usize {
        self.concurrency.min(Semaphore::MAX_PERMITS)
    }
}

/// An HTTP request of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// HTTP method, in upper case.
    pub method: String,
    /// An http or https URL.
    pub url: String,
    /// Headers, in order; a name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// Body; empty if the request has none.
    pub body: Vec<u8>,
    /// Time limit for the whole response. `None`: the operator's limit, which is also the
    /// maximum.
    pub timeout: Option<Duration>,
}

/// The response after redirects. Any status is a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code of the response.
    pub status: u16,
    /// Headers, with names in lower case. Values replace bytes that are not UTF-8.
    pub headers: Vec<(String, String)>,
    /// Whole body, without its transfer encoding.
    pub body: Vec<u8>,
}

/// Reason for the absence of a response. The messages go to the plugin and to the operator's
/// log. They name hosts, ports and addresses, never a path or a query, which may contain
/// callers' numbers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The settings do not grant this host and port.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The name resolves only to addresses that the settings do not grant.
    #[error("address refused: {0}")]
    AddressRefused(String),
    /// The method, the URL or a header is invalid, or the header is set by the host.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// The request or the response exceeds its limit.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The response was not complete in time.
    #[error("no complete response in time")]
    Timeout,
    /// The plugin has too many concurrent requests.
    #[error("too many concurrent requests")]
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

    /// Returns whether the host refused the request, as opposed to a failure of the network
    /// or the server.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Failed(_))
    }
}

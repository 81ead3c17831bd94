//! HTTP requests to other services. The settings grant the destinations:
//! `[grants] http = ["crm.example.com:443"]`.
//!
//! ```no_run
//! # use plugboard_sdk::prelude::*;
//! # fn example() -> Result<()> {
//! let answer = http::get("https://crm.example.com/limits")
//!     .header("Accept", "application/json")
//!     .timeout(Duration::from_millis(500))
//!     .send()?
//!     .ok()?;
//! let limits: Vec<u32> = answer.json()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{self, Error as AnyError};
use crate::host;

/// The error of a request that got no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant this host and port.
    NotGranted(String),
    /// The name resolves to an address that the settings do not grant.
    AddressRefused(String),
    /// The method, the URL or a header is invalid.
    InvalidRequest(String),
    /// The request or the response exceeds its size limit.
    TooLarge(String),
    /// The response was not complete within the time limit.
    Timeout,
    /// The plugin has too many requests in flight.
    TooMany,
    /// The connection failed or was closed early.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(target) => {
                write!(f, "http: not granted by `[grants] http` in the plugin's settings: {target}")
            }
            Self::AddressRefused(target) => write!(f, "http: address refused: {target}"),
            Self::InvalidRequest(why) => write!(f, "http: invalid request: {why}"),
            Self::TooLarge(why) => write!(f, "http: too large: {why}"),
            Self::Timeout => f.write_str("http: timed out before the response was complete"),
            Self::TooMany => f.write_str("http: the plugin has too many requests in flight"),
            Self::Failed(why) => write!(f, "http: failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A request, created by [`get`], [`post`] or [`request`]. [`Request::send`] sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request has no effect until it is sent"]
pub struct Request {
    /// HTTP method, such as `GET` or `POST`.
    pub method: String,
    /// An http or https URL.
    pub url: String,
    /// Names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// Content of the request, empty by default.
    pub body: Vec<u8>,
    /// Time limit for the whole response. None: the operator's `http.timeout`.
    pub timeout: Option<Duration>,
}

/// Creates a GET request for a URL.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// Creates a POST request for a URL.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// Creates a request with any method.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: None,
    }
}

impl Request {
    /// Adds a header to the request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body of the request.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to this value as JSON, and the header `Content-Type`.
    ///
    /// # Errors
    ///
    /// If the value cannot be serialized as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> error::Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("Content-Type", "application/json").body(body))
    }

    /// Sets the time limit for the whole response. It can shorten the operator's
    /// `http.timeout` and the time left for the call, not extend them.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends the request once, and waits for the whole response.
    ///
    /// # Errors
    ///
    /// If there is no response. A response with an error status is a response; see
    /// [`Response::ok`].
    pub fn send(self) -> Result<Response, Error> {
        host::http_send(self)
    }

    /// Returns the first value of a header, for assertions in tests. Upper and lower case
    /// of the name are equal.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the status code, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns whether the status is between 200 and 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the response if its status is between 200 and 299.
    ///
    /// # Errors
    ///
    /// If it is not. The message has the status, and nothing of the body.
    pub fn ok(self) -> error::Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        Err(AnyError::new(format_args!("http: the response has status {}, not 2xx", self.status)))
    }

    /// Returns the first value of a header. Upper and lower case of the name are equal.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// Returns the body as bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body as text.
    ///
    /// # Errors
    ///
    /// If the body is not UTF-8.
    pub fn text(&self) -> error::Result<&str> {
        str::from_utf8(&self.body).map_err(|_| AnyError::new("http: the body is not UTF-8"))
    }

    /// Deserializes the body from JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON that matches `T`.
    pub fn json<T: DeserializeOwned>(&self) -> error::Result<T> {
        // Without serde's message, which quotes the body: it can have a caller's data, and
        // the host logs errors.
        serde_json::from_slice(&self.body).map_err(|_| {
            AnyError::new(format_args!(
                "http: the body does not match the type {}",
                std::any::type_name::<T>()
            ))
        })
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

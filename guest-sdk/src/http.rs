//! Requests to other services. The settings grant each of them:
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

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant this host and port.
    NotGranted(String),
    /// The name leads to an address that the settings do not grant.
    AddressRefused(String),
    /// The method, the URL or a header is none.
    InvalidRequest(String),
    /// The request or the response is longer than it may be.
    TooLarge(String),
    /// No whole response in time.
    Timeout,
    /// The plugin has too many requests on the way.
    TooMany,
    /// The other side could not be reached, or broke off.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(what) => {
                write!(f, "http: not granted by `[grants] http` in the plugin's settings: {what}")
            }
            Self::AddressRefused(what) => write!(f, "http: address refused: {what}"),
            Self::InvalidRequest(what) => write!(f, "http: invalid request: {what}"),
            Self::TooLarge(what) => write!(f, "http: too large: {what}"),
            Self::Timeout => f.write_str("http: no whole response in time"),
            Self::TooMany => f.write_str("http: too many requests of this plugin are on the way"),
            Self::Failed(why) => write!(f, "http: failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A request that is being made: by [`get`], [`post`] or [`request`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request is made when it is sent"]
pub struct Request {
    /// `GET`, `POST`...
    pub method: String,
    /// An http or https URL.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// How long to wait for the whole response. None: the operator's bound.
    pub timeout: Option<Duration>,
}

/// A GET request.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A POST request.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A request.
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
    /// The same request with one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same request with this body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The same request with this value as its body, written as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> error::Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("Content-Type", "application/json").body(body))
    }

    /// The same request, which waits no longer than this for the whole response.
    /// The operator's bound applies, too.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends it, and waits for the whole response.
    ///
    /// # Errors
    ///
    /// When there is no response. One that says that something went wrong is a
    /// response: see [`Response::ok`].
    pub fn send(self) -> Result<Response, Error> {
        host::http_send(self)
    }

    /// The first value of a header, whatever the case of its name: for tests to
    /// look at.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The status, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The response, if it is a success.
    ///
    /// # Errors
    ///
    /// When it is not; names the status, and nothing of the body.
    pub fn ok(self) -> error::Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        Err(AnyError::new(format_args!("http: the answer was {}, not 2xx", self.status)))
    }

    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub fn text(&self) -> error::Result<&str> {
        str::from_utf8(&self.body).map_err(|_| AnyError::new("http: the body is no text"))
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> error::Result<T> {
        // Not serde's message, which quotes the body: it may tell of a caller, and
        // errors stand in the log.
        serde_json::from_slice(&self.body).map_err(|_| {
            AnyError::new(format_args!("http: the body is no {}", std::any::type_name::<T>()))
        })
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

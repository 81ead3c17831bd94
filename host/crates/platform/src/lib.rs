//! Adapters for the voice platforms, one file each.
//!
//! A [`PlatformAdapter`] authenticates a request on its raw bytes, before anything is
//! parsed, parses it into a [`PlatformRequest`], and renders the answer. This crate knows
//! neither WebAssembly nor sockets.
//!
//! No other code compares platforms. It asks for properties instead
//! ([`PlatformInfo`](plugboard_core::platforms::PlatformInfo)), so that a new platform is not
//! forgotten in a comparison, and two platforms with the same properties are treated the same.
//! The exceptions are the configuration, which has a table for each platform, and the command
//! `run`, which switches all of them on.
//!
//! A new platform is a constant in `plugboard_core::platforms`, a file here with its adapter,
//! and a line in `ADAPTERS`. Its path, the setting `platforms = [...]`, the log, `/explain` and
//! the counters follow from these. `toy.rs` is the smallest adapter; a test of the server serves
//! it from end to end.

#![forbid(unsafe_code)]

mod avr;
mod blackbox;
#[cfg(test)]
mod fuzz;
mod json;
#[cfg(feature = "toy-platform")]
mod toy;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use plugboard_config::Config;
pub use plugboard_config::credentials::Unauthorized;
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::event::Event;
use plugboard_core::json_depth::{self, TooDeep};
use plugboard_core::outcome::Answer;

/// Makes an adapter from the configuration. None: the platform is switched off.
type AdapterFactory = fn(&Config) -> Option<Arc<dyn PlatformAdapter>>;

/// The factories of all adapters.
const ADAPTERS: &[AdapterFactory] = &[
    avr::adapter,
    blackbox::adapter,
    #[cfg(feature = "toy-platform")]
    toy::adapter,
];

/// Returns the adapters of the platforms that are switched on.
pub fn adapters(config: &Config) -> Vec<Arc<dyn PlatformAdapter>> {
    ADAPTERS.iter().filter_map(|make| make(config)).collect()
}

/// Finds the platform of a request: the first adapter that parses it and whose request
/// `accept` takes.
///
/// # Errors
///
/// When there is none; the message has the reason of each adapter.
pub fn recognize<'a, T>(
    adapters: &'a [Arc<dyn PlatformAdapter>],
    headers: &HeaderMap,
    body: &[u8],
    accept: impl Fn(PlatformRequest) -> Result<T, String>,
) -> Result<(&'a dyn PlatformAdapter, T), BadRequest> {
    json_depth::check(body)?;
    let mut reasons = Vec::new();
    for adapter in adapters {
        let request = adapter.parse(headers, body).map_err(|error| error.message);
        match request.and_then(&accept) {
            Ok(accepted) => return Ok((&**adapter, accepted)),
            Err(reason) => reasons.push(format!("as {}: {reason}", adapter.name())),
        }
    }
    Err(BadRequest { message: reasons.join("; ") })
}

/// The webhook of one platform, on a path of its own.
///
/// `name`, `path`, `request_limits`, `is_unauthenticated`, `check_headers`, `parse` and
/// `decision_reply` are required. `authenticate` is for credentials that cover the body,
/// `tool_reply` and `transfer_reply` for platforms with `supports_mid_call`, and
/// `prompt_endpoint` for platforms whose voice agents fetch their prompt.
pub trait PlatformAdapter: Send + Sync {
    /// The name of the platform in messages and settings.
    fn name(&self) -> &'static str;

    /// The path to which its requests are posted.
    fn path(&self) -> &'static str;

    /// The limits of a request.
    fn request_limits(&self) -> RequestLimits;

    /// Returns whether no credentials are configured, so that every sender is accepted.
    fn is_unauthenticated(&self) -> bool;

    /// Rejects a sender by the head of its request, before the body is read.
    ///
    /// # Errors
    ///
    /// When no body could make this request acceptable.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized>;

    /// Authenticates a request by its raw body, after [`Self::check_headers`].
    ///
    /// # Errors
    ///
    /// When the credentials do not match the body.
    fn authenticate(&self, _headers: &HeaderMap, _body: &[u8]) -> Result<(), Unauthorized> {
        Ok(())
    }

    /// Parses a request. The call of an accepted request has a non-empty id within its
    /// length limit; the events of [`PlatformRequest::Events`] share one `Call`, and there
    /// is at least one of them.
    ///
    /// # Errors
    ///
    /// When the body is not JSON, or a field is missing or mistyped; the message names it.
    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<PlatformRequest, BadRequest>;

    /// Renders the answer to [`PlatformRequest::Decision`].
    fn decision_reply(&self, answer: &Answer) -> Reply;

    /// Renders the answer to [`PlatformRequest::Tool`].
    fn tool_reply(&self, _answer: &ToolAnswer) -> Reply {
        Reply::json(&EmptyObject {})
    }

    /// Renders the answer to [`PlatformRequest::Transfer`]. None: no plugin answered.
    fn transfer_reply(&self, answer: Option<&RawValue>) -> Reply {
        answer.map_or_else(|| Reply::json(&EmptyObject {}), Reply::json)
    }

    /// The endpoint at which its voice agents fetch their prompt, if they do.
    fn prompt_endpoint(&self) -> Option<&dyn PromptEndpoint> {
        None
    }
}

/// A request by which a voice agent asks what it shall say in a call.
pub trait PromptEndpoint: Send + Sync {
    /// Where it is asked with GET.
    fn path(&self) -> &'static str;

    /// Returns the call that the request is about.
    ///
    /// # Errors
    ///
    /// When the request does not name a call.
    fn requested_call(&self, headers: &HeaderMap) -> Result<CallId, BadRequest>;

    /// The answer.
    fn prompt_reply(&self, prompt: &str) -> Reply;
}

/// What a request of a dialect may have.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Largest body in bytes.
    pub max_body: usize,
    /// The key that says so, for whoever wants to change it.
    pub max_body_key: &'static str,
    /// The key of the next one.
    pub body_timeout_key: &'static str,
    /// For the body to arrive.
    pub body_timeout: Duration,
    /// For a tool to be answered, from the head of the request.
    pub tool_timeout: Duration,
}

/// What a platform says.
pub enum PlatformRequest {
    /// A call is being set up: where does it go?
    Decision(Event),
    /// A voice agent uses a tool.
    Tool(ToolUse),
    /// A call is about to be transferred.
    Transfer(Transfer),
    /// Something happened, in this order; there is nothing to answer.
    Events(Vec<Event>),
}

/// A tool that a voice agent uses.
pub struct ToolUse {
    /// In which call.
    pub call: Arc<Call>,
    /// When.
    pub timestamp: jiff::Timestamp,
    /// What the delivery is known by. None: it is not told from others.
    pub delivery_id: Option<Arc<str>>,
    /// Which tool.
    pub name: String,
    /// What for: JSON, untouched.
    pub arguments: Box<RawValue>,
}

/// A transfer that a platform asks about.
pub struct Transfer {
    /// Of which call.
    pub call: Arc<Call>,
    /// When.
    pub timestamp: jiff::Timestamp,
    /// What the delivery is known by. None: it is not told from others.
    pub delivery_id: Option<Arc<str>>,
    /// The platform's name for such a document.
    pub kind: String,
    /// Its document, untouched.
    pub request: Box<RawValue>,
}

/// What a voice agent gets for using a tool.
#[derive(Clone, Debug)]
pub enum ToolAnswer {
    /// The tool's result: JSON, untouched.
    Value(Arc<RawValue>),
    /// The tool's own error.
    Error {
        /// In words that the agent can use.
        message: Arc<str>,
        /// A word for programs.
        code: Option<Arc<str>>,
    },
    /// No plugin could run it.
    Failed(ToolFailure),
    /// No plugin has a tool of this name.
    Unknown,
}

/// Why no plugin could run a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFailure {
    /// It did not answer in time.
    TimedOut,
    /// There was no room to run it.
    Busy,
    /// It crashed, keeps crashing, or gave rubbish.
    Failed,
}

/// An answer in a platform's words.
#[derive(Debug)]
pub struct Reply {
    /// What the platform goes by.
    pub status: StatusCode,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// 200 with a document.
    pub fn json(document: &(impl Serialize + ?Sized)) -> Self {
        // Only maps with keys that are not text fail, and there are none.
        let body = serde_json::to_vec(document).unwrap_or_default();
        Self { status: StatusCode::OK, content_type: "application/json", body }
    }
}

/// `{}`.
#[derive(Serialize)]
struct EmptyObject {}

/// The body is not what the platform sends.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct BadRequest {
    /// Names the field. It may quote what stood there, so it is for the sender
    /// and not for the log.
    pub message: String,
}

impl From<TooDeep> for BadRequest {
    fn from(error: TooDeep) -> Self {
        Self { message: format!("the body cannot be read: {error}") }
    }
}

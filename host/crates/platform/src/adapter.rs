//! The interface of an adapter: the requests of a platform and the replies to them.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use plugboard_config::credentials::Unauthorized;
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::event::Event;
use plugboard_core::json_depth::TooDeep;
use plugboard_core::outcome::Answer;

/// The webhook of one platform, on a path of its own.
///
/// `name`, `path`, `request_limits`, `is_unauthenticated`, `check_headers`, `parse` and
/// `decision_reply` are required. `authenticate` is for credentials that cover the body,
/// `tool_reply` and `transfer_reply` for platforms with `supports_mid_call`, and
/// `prompt_endpoint` for platforms whose voice agents fetch their prompt.
pub trait PlatformAdapter: Send + Sync {
    /// Returns the name of the platform in messages and settings.
    fn name(&self) -> &'static str;

    /// Returns the path to which the platform posts requests.
    fn path(&self) -> &'static str;

    /// Returns the limits of a request.
    fn request_limits(&self) -> RequestLimits;

    /// Returns whether no credentials are configured, so that every sender is accepted.
    fn is_unauthenticated(&self) -> bool;

    /// Rejects a sender by the head of its request, before the body is read.
    ///
    /// # Errors
    ///
    /// Fails if no body could make this request acceptable.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized>;

    /// Authenticates a request by its raw body, after [`Self::check_headers`].
    ///
    /// # Errors
    ///
    /// Fails if the credentials do not match the body.
    fn authenticate(&self, _headers: &HeaderMap, _body: &[u8]) -> Result<(), Unauthorized> {
        Ok(())
    }

    /// Parses a request. The call of an accepted request has a non-empty id within its
    /// length limit; the events of [`PlatformRequest::Events`] share one `Call`, and there
    /// is at least one of them.
    ///
    /// # Errors
    ///
    /// Fails if the body is not JSON, or a field is missing or mistyped; the message names it.
    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<PlatformRequest, BadRequest>;

    /// Renders the answer to [`PlatformRequest::Decision`].
    fn decision_reply(&self, answer: &Answer) -> Reply;

    /// Renders the answer to [`PlatformRequest::Tool`].
    fn tool_reply(&self, _answer: &ToolAnswer) -> Reply {
        Reply::json(&EmptyObject {})
    }

    /// Renders the answer to [`PlatformRequest::Transfer`]. `None`: no plugin answered.
    fn transfer_reply(&self, answer: Option<&RawValue>) -> Reply {
        answer.map_or_else(|| Reply::json(&EmptyObject {}), Reply::json)
    }

    /// Returns the endpoint at which voice agents fetch their prompt, if the platform has one.
    fn prompt_endpoint(&self) -> Option<&dyn PromptEndpoint> {
        None
    }
}

/// The endpoint where a voice agent fetches the prompt of a call.
pub trait PromptEndpoint: Send + Sync {
    /// Returns the path for GET requests.
    fn path(&self) -> &'static str;

    /// Returns the call that the request names.
    ///
    /// # Errors
    ///
    /// Fails if the request does not name a call.
    fn requested_call(&self, headers: &HeaderMap) -> Result<CallId, BadRequest>;

    /// Renders the answer with the prompt.
    fn prompt_reply(&self, prompt: &str) -> Reply;
}

/// The limits of a platform's requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Largest body, in bytes.
    pub max_body: usize,
    /// The configuration key of `max_body`, for messages.
    pub max_body_key: &'static str,
    /// The configuration key of `body_timeout`, for messages.
    pub body_timeout_key: &'static str,
    /// Time limit for the arrival of the body.
    pub body_timeout: Duration,
    /// Time limit for the answer to a tool call, from the arrival of the headers.
    pub tool_timeout: Duration,
}

/// A parsed request of a platform.
pub enum PlatformRequest {
    /// A call is being set up; the answer decides it.
    Decision(Event),
    /// A voice agent calls a tool; the answer is the tool's result.
    Tool(ToolUse),
    /// A call is about to be transferred; the answer may control the transfer.
    Transfer(Transfer),
    /// Events, in order of occurrence; they are acknowledged only.
    Events(Vec<Event>),
}

/// A tool call of a voice agent.
pub struct ToolUse {
    /// The phone call of the tool use.
    pub call: Arc<Call>,
    /// The time of the request by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// The platform's id of the delivery. `None`: redeliveries are not recognized.
    pub delivery_id: Option<Arc<str>>,
    /// The name of the tool.
    pub name: String,
    /// The arguments, as JSON, unchanged.
    pub arguments: Box<RawValue>,
}

/// A transfer request of a platform.
pub struct Transfer {
    /// The phone call of the transfer.
    pub call: Arc<Call>,
    /// The time of the request by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// The platform's id of the delivery. `None`: redeliveries are not recognized.
    pub delivery_id: Option<Arc<str>>,
    /// The platform's type name of the document.
    pub kind: String,
    /// The platform's document, unchanged.
    pub request: Box<RawValue>,
}

/// The answer to a tool call.
#[derive(Clone, Debug)]
pub enum ToolAnswer {
    /// The tool's result, as JSON, unchanged.
    Value(Arc<RawValue>),
    /// The error that the tool returned.
    Error {
        /// The message for the voice agent.
        message: Arc<str>,
        /// The machine-readable code of the error.
        code: Option<Arc<str>>,
    },
    /// A plugin has the tool, but could not run it.
    Failed(ToolFailure),
    /// No plugin has a tool of this name.
    Unknown,
}

/// The reason why no plugin could run a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFailure {
    /// The plugin exceeded its time limit.
    TimedOut,
    /// The concurrency limit was reached.
    Busy,
    /// The plugin trapped, its circuit breaker is open, or its result was invalid.
    Failed,
}

/// An HTTP answer in a platform's format.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body of the answer.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns a reply with status 200 and a JSON document.
    pub fn json(document: &(impl Serialize + ?Sized)) -> Self {
        // Serialization fails only for maps with keys other than text, and no reply has one.
        let body = serde_json::to_vec(document).unwrap_or_default();
        Self { status: StatusCode::OK, content_type: "application/json", body }
    }
}

/// The empty JSON document `{}`.
#[derive(Serialize)]
pub(super) struct EmptyObject {}

/// A request that is not in the platform's format.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct BadRequest {
    /// The reason, which names the field. It may quote the request, so the sender receives it
    /// and the log does not.
    pub message: String,
}

impl From<TooDeep> for BadRequest {
    fn from(error: TooDeep) -> Self {
        Self { message: format!("the body cannot be read: {error}") }
    }
}

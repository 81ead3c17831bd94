//! Conversions between the types that wit-bindgen generates from the contract and the types
//! of this crate. Native tests use only the latter.

use std::time::Duration;

use super::bindings::plugboard::plugin;
use super::bindings::plugboard::plugin::types;
use super::tools::exports::plugboard::plugin::tools;
use crate::decision::{Cache, Verdict};
use crate::event::{CallOutcome, Ending, Event, EventBody, Role, Routing};
use crate::log::Level;
use crate::{Call, Decision, ToolError, http, kv, metrics};

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<Level> for plugin::log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

impl From<types::Call> for Call {
    fn from(call: types::Call) -> Self {
        let types::Call { id, platform, agent, from, to, metadata } = call;
        Self { id, platform, agent, from, to, metadata }
    }
}

impl From<Decision> for types::Decision {
    fn from(decision: Decision) -> Self {
        let verdict = match decision.verdict {
            Verdict::Pass => types::Verdict::Pass,
            Verdict::Route { sts_url, prompt } => {
                types::Verdict::Route(types::Route { sts_url, prompt })
            }
            Verdict::Reject { reason } => types::Verdict::Reject(types::Rejection { reason }),
        };
        Self { verdict, cache: decision.cache.map(Into::into) }
    }
}

impl From<Cache> for types::Cache {
    fn from(cache: Cache) -> Self {
        Self { ttl: milliseconds(cache.ttl), vary: cache.vary }
    }
}

impl From<ToolError> for tools::ToolError {
    fn from(error: ToolError) -> Self {
        let ToolError { message, code, .. } = error;
        Self { message, code }
    }
}

impl From<types::Verdict> for Verdict {
    fn from(verdict: types::Verdict) -> Self {
        match verdict {
            types::Verdict::Pass => Self::Pass,
            types::Verdict::Route(types::Route { sts_url, prompt }) => {
                Self::Route { sts_url, prompt }
            }
            types::Verdict::Reject(types::Rejection { reason }) => Self::Reject { reason },
        }
    }
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Self {
        let types::Event { id, call, timestamp, unix_time, body } = event;
        Self { id, call: call.into(), timestamp, unix_ms: unix_time, body: body.into() }
    }
}

impl From<types::EventBody> for EventBody {
    fn from(body: types::EventBody) -> Self {
        match body {
            types::EventBody::Initiated => Self::Initiated,
            types::EventBody::Routed(types::Routing { verdict, by, sts_url }) => {
                Self::Routed(Routing { verdict: verdict.into(), by, sts_url })
            }
            types::EventBody::Started => Self::Started,
            types::EventBody::Transcription(types::Transcription { role, text }) => {
                Self::Transcription { role: role.into(), text }
            }
            types::EventBody::Interruption => Self::Interruption,
            types::EventBody::DtmfDigit(digit) => Self::DtmfDigit(digit),
            types::EventBody::ToolInvoked(types::ToolInvocation { name, arguments, outcome }) => {
                Self::ToolInvoked { name, arguments, outcome }
            }
            types::EventBody::Ended(ending) => Self::Ended(ending.into()),
            types::EventBody::Error(message) => Self::Error(message),
            types::EventBody::Other(types::OtherEvent { kind, payload }) => {
                Self::Other { kind, payload }
            }
        }
    }
}

impl From<types::Role> for Role {
    fn from(role: types::Role) -> Self {
        match role {
            types::Role::User => Self::User,
            types::Role::Agent => Self::Agent,
        }
    }
}

impl From<types::Ending> for Ending {
    fn from(ending: types::Ending) -> Self {
        let types::Ending { outcome, reason, duration, report } = ending;
        let outcome = match outcome {
            types::CallOutcome::Unknown => CallOutcome::Unknown,
            types::CallOutcome::Completed => CallOutcome::Completed,
            types::CallOutcome::Failed => CallOutcome::Failed,
            types::CallOutcome::Canceled => CallOutcome::Canceled,
        };
        Self { outcome, reason, duration: duration.map(Duration::from_millis), report }
    }
}

impl From<plugin::kv::Error> for kv::Error {
    fn from(error: plugin::kv::Error) -> Self {
        match error {
            plugin::kv::Error::NotGranted => Self::NotGranted,
            plugin::kv::Error::TooLarge(why) => Self::TooLarge(why),
            plugin::kv::Error::Quota(why) => Self::Quota(why),
            plugin::kv::Error::NotANumber => Self::NotANumber,
            plugin::kv::Error::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<http::Request> for plugin::http::Request {
    fn from(request: http::Request) -> Self {
        let http::Request { method, url, headers, body, timeout } = request;
        Self { method, url, headers, body, timeout: timeout.map(milliseconds) }
    }
}

impl From<plugin::http::Response> for http::Response {
    fn from(response: plugin::http::Response) -> Self {
        let plugin::http::Response { status, headers, body } = response;
        Self { status, headers, body }
    }
}

impl From<plugin::http::Error> for http::Error {
    fn from(error: plugin::http::Error) -> Self {
        match error {
            plugin::http::Error::NotGranted(target) => Self::NotGranted(target),
            plugin::http::Error::AddressRefused(target) => Self::AddressRefused(target),
            plugin::http::Error::InvalidRequest(why) => Self::InvalidRequest(why),
            plugin::http::Error::TooLarge(why) => Self::TooLarge(why),
            plugin::http::Error::Timeout => Self::Timeout,
            plugin::http::Error::TooMany => Self::TooMany,
            plugin::http::Error::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<plugin::metrics::Error> for metrics::Error {
    fn from(error: plugin::metrics::Error) -> Self {
        match error {
            plugin::metrics::Error::NotGranted => Self::NotGranted,
            plugin::metrics::Error::Invalid(why) => Self::Invalid(why),
            plugin::metrics::Error::TooMany => Self::TooMany,
        }
    }
}

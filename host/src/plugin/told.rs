//! What a guest is told: our calls and events as the contract's, borrowed.

use super::bindings::plugboard::plugin::types;
use crate::decision::Kind;
use crate::event::{Call, CallOutcome, Event, EventBody, Role, Routing};
use crate::store::Identity;

/// Tells of a call.
pub(super) async fn call<T>(call: &Call, tell: impl AsyncFnOnce(types::Call<'_>) -> T) -> T {
    let metadata = metadata(call);
    tell(as_call(call, &metadata)).await
}

/// Tells of an event.
pub(super) async fn event<T>(
    event: &Event,
    id: Identity,
    tell: impl AsyncFnOnce(types::Event<'_>) -> T,
) -> T {
    let (metadata, id, timestamp) = (metadata(&event.call), id.to_string(), event.timestamp_text());
    let told = types::Event {
        id: &id,
        call: as_call(&event.call, &metadata),
        timestamp: &timestamp,
        unix_time: u64::try_from(event.timestamp.as_millisecond()).unwrap_or(0),
        body: body(&event.body),
    };
    tell(told).await
}

fn metadata(call: &Call) -> Vec<(&str, &str)> {
    call.metadata.iter().map(|(name, value)| (name.as_str(), value.get())).collect()
}

fn as_call<'a>(call: &'a Call, metadata: &'a [(&'a str, &'a str)]) -> types::Call<'a> {
    types::Call {
        id: &call.id,
        platform: call.platform.name,
        agent: call.agent.as_deref(),
        from: call.from.as_deref(),
        to: call.to.as_deref(),
        metadata,
    }
}

fn body(body: &EventBody) -> types::EventBody<'_> {
    match body {
        EventBody::Initiated => types::EventBody::Initiated,
        EventBody::Routed(it) => types::EventBody::Routed(routing(it)),
        EventBody::Started => types::EventBody::Started,
        EventBody::Transcription { role, text } => {
            let role = match role {
                Role::User => types::Role::User,
                Role::Agent => types::Role::Agent,
            };
            types::EventBody::Transcription(types::Transcription { role, text })
        }
        EventBody::Interruption => types::EventBody::Interruption,
        EventBody::DtmfDigit(digit) => types::EventBody::DtmfDigit(digit),
        EventBody::ToolInvoked { name, arguments, outcome } => {
            let outcome = outcome.as_ref().map(|json| json.get()).map_err(String::as_str);
            let arguments = arguments.get();
            types::EventBody::ToolInvoked(types::ToolInvocation { name, arguments, outcome })
        }
        EventBody::Ended(ending) => types::EventBody::Ended(types::Ending {
            outcome: match ending.outcome {
                CallOutcome::Unknown => types::CallOutcome::Unknown,
                CallOutcome::Completed => types::CallOutcome::Completed,
                CallOutcome::Failed => types::CallOutcome::Failed,
                CallOutcome::Canceled => types::CallOutcome::Canceled,
            },
            reason: ending.reason.as_deref(),
            duration: ending.duration,
            report: ending.report.get(),
        }),
        EventBody::Error(message) => types::EventBody::Error(message),
        EventBody::Other { kind, payload } => {
            types::EventBody::Other(types::OtherEvent { kind, payload: payload.get() })
        }
    }
}

fn routing(routing: &Routing) -> types::Routing<'_> {
    let sts_url = routing.sts_url.as_deref();
    let verdict = match routing.verdict {
        Kind::Pass => types::VerdictParam::Pass,
        Kind::Route => types::VerdictParam::Route(types::RouteParam {
            sts_url,
            prompt: routing.prompt.as_deref(),
        }),
        Kind::Reject => types::VerdictParam::Reject(types::RejectionParam {
            reason: routing.reason.as_deref().unwrap_or_default(),
        }),
    };
    types::Routing { verdict, by: routing.by.as_deref(), sts_url }
}

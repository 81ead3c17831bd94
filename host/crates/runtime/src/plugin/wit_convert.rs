//! Conversion of calls and events to the borrowed types of the contract.

use super::bindings::plugboard::plugin::types;
use plugboard_core::call::Call;
use plugboard_core::event::{CallOutcome, Event, EventBody, Role, Routing};
use plugboard_core::event_id::EventId;
use plugboard_core::verdict::VerdictKind;

/// Passes a call to the callback, in the types of the contract.
pub(super) async fn with_wit_call<T>(
    call: &Call,
    callback: impl AsyncFnOnce(types::Call<'_>) -> T,
) -> T {
    let metadata = metadata_pairs(call);
    callback(to_wit_call(call, &metadata)).await
}

/// Passes an event to the callback, in the types of the contract.
pub(super) async fn with_wit_event<T>(
    event: &Event,
    id: EventId,
    callback: impl AsyncFnOnce(types::Event<'_>) -> T,
) -> T {
    let (metadata, id, timestamp) =
        (metadata_pairs(&event.call), id.to_string(), event.timestamp_text());
    let wit_event = types::Event {
        id: &id,
        call: to_wit_call(&event.call, &metadata),
        timestamp: &timestamp,
        unix_time: u64::try_from(event.timestamp.as_millisecond()).unwrap_or(0),
        body: to_wit_body(&event.body),
    };
    callback(wit_event).await
}

fn metadata_pairs(call: &Call) -> Vec<(&str, &str)> {
    call.metadata.iter().map(|(name, value)| (name.as_str(), value.get())).collect()
}

fn to_wit_call<'a>(call: &'a Call, metadata: &'a [(&'a str, &'a str)]) -> types::Call<'a> {
    types::Call {
        id: &call.id,
        platform: call.platform.name,
        agent: call.agent.as_deref(),
        from: call.from.as_deref(),
        to: call.to.as_deref(),
        metadata,
    }
}

fn to_wit_body(body: &EventBody) -> types::EventBody<'_> {
    match body {
        EventBody::Initiated => types::EventBody::Initiated,
        EventBody::Routed(call_routing) => types::EventBody::Routed(to_wit_routing(call_routing)),
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

fn to_wit_routing(routing: &Routing) -> types::Routing<'_> {
    let sts_url = routing.sts_url.as_deref();
    let verdict = match routing.verdict {
        VerdictKind::Pass => types::VerdictParam::Pass,
        VerdictKind::Route => types::VerdictParam::Route(types::RouteParam {
            sts_url,
            prompt: routing.prompt.as_deref(),
        }),
        VerdictKind::Reject => types::VerdictParam::Reject(types::RejectionParam {
            reason: routing.reason.as_deref().unwrap_or_default(),
        }),
    };
    types::Routing { verdict, by: routing.by.as_deref(), sts_url }
}

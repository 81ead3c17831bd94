//! Dasha BlackBox: one document for each webhook, with the kind in its `type`.
//!
//! **The report of an ended call** is one delivery of many events. It has a `transcription` for
//! each entry that can be parsed, at most [`MAX_TRANSCRIPT_ENTRIES`], and `ended` with the
//! unchanged document. Observers therefore receive the same events whether a platform sends the
//! transcript at once or entry by entry. A report is not sent again, so its invalid details are
//! left out ([`Lenient`]). In requests that wait for an answer, invalid details are rejected by
//! name.
//!
//! **The identity of a delivery** within its call is the type with the delivery's id. Without
//! an id, it is the type with the status, for types that occur once per status (start,
//! reports). For all other types it is the type with a hash of the document. Each transcript
//! entry adds its place in the document. Tools and transfers without an id have no identity,
//! because the same tool may be used twice on purpose, and then runs twice.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::adapter::{
    BadRequest, EmptyObject, PlatformAdapter, PlatformRequest, Reply, RequestLimits, ToolAnswer,
    ToolFailure, ToolUse, Transfer,
};
use super::json::{
    BoundedList, JsonObject, Lenient, MAX_NAME, PhoneNumber, check_name, parse_json,
};
use plugboard_config::credentials::Unauthorized;
use plugboard_config::{BlackBoxConfig, BlackBoxFallback, Config};
use plugboard_core::call::{Call, TextRef};
use plugboard_core::event::{CallEnding, CallOutcome, Event, EventBody, Role};
use plugboard_core::outcome::Answer;
use plugboard_core::platforms::BLACKBOX;

const DELIVERY_ID_HEADER: &str = "x-blackbox-delivery-id";

/// Maximum length of a delivery id, in bytes. Real ids are UUIDs.
const MAX_DELIVERY_ID: usize = 256;

/// Maximum number of transcript entries that become events: ten hours of talk. Further entries
/// are in the report only.
const MAX_TRANSCRIPT_ENTRIES: usize = 10_000;

/// Creates the adapter from the configuration.
pub(super) fn adapter(config: &Config) -> Option<Arc<dyn PlatformAdapter>> {
    let config = &config.blackbox;
    config.enabled.then(|| Arc::new(BlackBoxAdapter(config.clone())) as Arc<_>)
}

struct BlackBoxAdapter(BlackBoxConfig);

impl PlatformAdapter for BlackBoxAdapter {
    fn name(&self) -> &'static str {
        BLACKBOX.name
    }

    fn path(&self) -> &'static str {
        "/blackbox"
    }

    fn request_limits(&self) -> RequestLimits {
        let BlackBoxConfig { max_body, body_timeout, tool_timeout, .. } = self.0;
        RequestLimits {
            max_body,
            max_body_key: "blackbox.max_body",
            body_timeout,
            body_timeout_key: "blackbox.body_timeout",
            tool_timeout,
        }
    }

    fn is_unauthenticated(&self) -> bool {
        self.0.credentials.is_unauthenticated()
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        self.0.credentials.check_headers(headers)
    }

    fn authenticate(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unauthorized> {
        self.0.credentials.authenticate(headers, body)
    }

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<PlatformRequest, BadRequest> {
        let id = headers.get(DELIVERY_ID_HEADER).and_then(|id| id.to_str().ok());
        let id = id.filter(|id| (1..=MAX_DELIVERY_ID).contains(&id.len()));
        parse_json::<WebhookDocument<'_>>(body, "")?.into_request(id, body)
    }

    fn decision_reply(&self, answer: &Answer) -> Reply {
        Reply::json(&match answer {
            Answer::Route { prompt, .. } => StartReply::accept(prompt.as_deref()),
            Answer::Reject { reason, .. } => StartReply::reject(reason),
            Answer::Fallback { .. } => match &self.0.fallback {
                BlackBoxFallback::Accept { prompt } => StartReply::accept(prompt.as_deref()),
                BlackBoxFallback::Reject { reason } => StartReply::reject(reason),
            },
        })
    }

    /// An agent can use every answer. The status 404 helps to find a wrong name in its configuration.
    fn tool_reply(&self, answer: &ToolAnswer) -> Reply {
        let (error, code) = match answer {
            ToolAnswer::Value(value) => return Reply::json(&**value),
            ToolAnswer::Error { message, code } => {
                (&**message, code.as_deref().unwrap_or("TOOL_ERROR"))
            }
            ToolAnswer::Failed(ToolFailure::TimedOut) => {
                ("The tool takes too long at the moment.", "TOOL_TIMEOUT")
            }
            ToolAnswer::Failed(ToolFailure::Busy) => {
                ("The tool is too busy at the moment.", "TOOL_BUSY")
            }
            ToolAnswer::Failed(ToolFailure::Failed) => {
                ("The tool does not work at the moment.", "TOOL_FAILED")
            }
            ToolAnswer::Unknown => ("There is no tool of this name.", "UNKNOWN_TOOL"),
        };
        let reply = Reply::json(&ToolErrorReply { error, code });
        match answer {
            ToolAnswer::Unknown => Reply { status: StatusCode::NOT_FOUND, ..reply },
            _ => reply,
        }
    }
}

/// The answer to the start of a call. The platform validates it against a schema without
/// other fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartReply<'a> {
    accept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_message: Option<&'a str>,
}

impl<'a> StartReply<'a> {
    fn accept(custom_prompt: Option<&'a str>) -> Self {
        Self { accept: true, custom_prompt, reason_message: None }
    }

    fn reject(reason: &'a str) -> Self {
        Self { accept: false, custom_prompt: None, reason_message: Some(reason) }
    }
}

#[derive(Serialize)]
struct ToolErrorReply<'a> {
    error: &'a str,
    #[serde(rename = "errorCode")]
    code: &'a str,
}

/// The fields of all types of documents that the adapter reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebhookDocument<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<TextRef<'a>>,
    /// The type's field in older examples.
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    call_id: TextRef<'a>,
    #[serde(default)]
    status: Lenient<String>,
    #[serde(default)]
    agent_id: Lenient<String>,
    #[serde(borrow)]
    endpoint: Option<&'a RawValue>,
    #[serde(borrow)]
    sip: Option<&'a RawValue>,
    #[serde(borrow)]
    call_type: Option<&'a RawValue>,
    #[serde(borrow)]
    org_id: Option<&'a RawValue>,
    #[serde(borrow)]
    server_job_id: Option<&'a RawValue>,
    #[serde(borrow)]
    call_additional_data: Option<&'a RawValue>,
    #[serde(borrow)]
    agent_additional_data: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_arguments: Option<&'a RawValue>,
    #[serde(default)]
    timestamp: Lenient<Timestamp>,
    #[serde(default)]
    created_time: Lenient<Timestamp>,
    #[serde(default)]
    completed_time: Lenient<Timestamp>,
    #[serde(default)]
    duration_seconds: Lenient<f64>,
    #[serde(default)]
    error_message: Lenient<String>,
    #[serde(default)]
    reason_message: Lenient<String>,
    #[serde(default)]
    result: Lenient<CallResult>,
    #[serde(borrow)]
    transcription: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult {
    #[serde(default)]
    finish_reason: Lenient<String>,
}

/// Caller and callee of a SIP call.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sip {
    from_user: Option<PhoneNumber>,
    to_user: Option<PhoneNumber>,
}

/// An entry of the transcript.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TranscriptEntry {
    speaker: String,
    text: String,
    #[serde(default)]
    start_time: Lenient<Timestamp>,
}

impl WebhookDocument<'_> {
    fn into_request(
        self,
        delivery_id: Option<&str>,
        body: &[u8],
    ) -> Result<PlatformRequest, BadRequest> {
        check_name("callId", &self.call_id.0)?;
        let kind = match (&self.kind, self.event_type) {
            (Some(kind), _) => kind.0.to_string(),
            (None, Some(kind)) => parse_text(kind, "eventType")?,
            // The older form of a tool request has no type.
            (None, None) if self.tool_name.is_some() => TOOL.to_owned(),
            (None, None) => return Err(missing_field("type")),
        };
        check_name("type", &kind)?;
        // A report is sent once and stored completely, so invalid details do not reject it.
        // They reject requests that wait for an answer.
        let strict = matches!(&*kind, START | TOOL | TRANSFER);
        let call = Arc::new(self.parse_call(strict)?);
        let delivery_id = delivery_id.map(|id| format!("{kind}/{id}"));
        // A call has at most one of these documents in each status, and any number of other
        // documents.
        let singleton_id = || {
            let status = self.status.0.as_deref().filter(|status| status.len() <= MAX_NAME);
            let status = status.unwrap_or_default();
            Some(delivery_id.clone().unwrap_or_else(|| format!("{kind}/{status}")).into())
        };
        let event = |body, timestamp, delivery_id| {
            let call = Arc::clone(&call);
            Event { call, timestamp, body, delivery_id }
        };
        Ok(match &*kind {
            START => {
                let timestamp = first_timestamp([&self.timestamp, &self.created_time]);
                PlatformRequest::Decision(event(EventBody::Initiated, timestamp, singleton_id()))
            }
            TOOL => {
                let name = parse_text(
                    self.tool_name.ok_or_else(|| missing_field("toolName"))?,
                    "toolName",
                )?;
                check_name("toolName", &name)?;
                let arguments = self.arguments.or(self.tool_arguments);
                PlatformRequest::Tool(ToolUse {
                    name,
                    arguments: arguments.map_or_else(empty_arguments, ToOwned::to_owned),
                    timestamp: first_timestamp([&self.timestamp]),
                    delivery_id: delivery_id.map(Into::into),
                    call,
                })
            }
            TRANSFER => PlatformRequest::Transfer(Transfer {
                timestamp: first_timestamp([&self.timestamp]),
                delivery_id: delivery_id.map(Into::into),
                request: raw_document(body)?,
                kind,
                call,
            }),
            COMPLETED | FAILED | DEADLINE => {
                let timestamp = first_timestamp([&self.completed_time, &self.timestamp]);
                let report_id = singleton_id();
                let mut events = self.transcript_events(&call, timestamp, report_id.as_deref());
                let ending = EventBody::Ended(self.into_ending(&kind, raw_document(body)?));
                events.push(event(ending, timestamp, report_id));
                PlatformRequest::Events(events)
            }
            _ => {
                let timestamp = first_timestamp([&self.timestamp, &self.completed_time]);
                // A call may have one of these documents or many.
                let delivery_id = delivery_id.unwrap_or_else(|| content_id(&kind, body));
                let other = EventBody::Other { kind, payload: raw_document(body)? };
                PlatformRequest::Events(vec![event(other, timestamp, Some(delivery_id.into()))])
            }
        })
    }

    fn parse_call(&self, strict: bool) -> Result<Call, BadRequest> {
        let sip: Option<Sip> = parse_part(self.sip, "sip", strict)?;
        let Sip { from_user, to_user } = sip.unwrap_or_default();
        let [mut from, mut to] =
            [from_user, to_user].map(|party| party.and_then(|number| number.0));
        // The number of the remote party is the callee of an outbound call, or else the caller.
        let outbound =
            self.call_type.is_some_and(|call_type| call_type.get().starts_with("\"Outbound"));
        let remote_number = if outbound { &mut to } else { &mut from };
        let PhoneNumber(endpoint) = parse_part(self.endpoint, "endpoint", strict)?;
        if remote_number.is_none() {
            *remote_number = endpoint;
        }
        let call_data: JsonObject<'_> =
            parse_part(self.call_additional_data, "callAdditionalData", strict)?;
        let agent_data: JsonObject<'_> =
            parse_part(self.agent_additional_data, "agentAdditionalData", strict)?;
        let platform_fields = [
            ("endpoint", self.endpoint),
            ("callType", self.call_type),
            ("orgId", self.org_id),
            ("serverJobId", self.server_job_id),
            ("sip", self.sip),
        ];
        // The platform's fields come first, then those of the call, then those of the agent,
        // because a lookup by name finds the first one.
        let platform_fields =
            platform_fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let custom_fields = call_data.0.iter().chain(&agent_data.0);
        let data = custom_fields.map(|(name, value)| (&**name, *value));
        let metadata =
            platform_fields.chain(data).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Call {
            id: (&*self.call_id.0).into(),
            platform: BLACKBOX,
            agent: self.agent_id.0.clone(),
            from,
            to,
            metadata: metadata.collect(),
        })
    }

    /// Returns the transcript as events.
    fn transcript_events(
        &self,
        call: &Arc<Call>,
        ended_at: Timestamp,
        delivery_id: Option<&str>,
    ) -> Vec<Event> {
        let Some(transcription) = self.transcription else { return Vec::new() };
        let Lenient(entries) = serde_json::from_str(transcription.get()).unwrap_or_default();
        let Some(BoundedList { entries, total }): Option<
            BoundedList<Lenient<TranscriptEntry>, MAX_TRANSCRIPT_ENTRIES>,
        > = entries
        else {
            return Vec::new();
        };
        if total > MAX_TRANSCRIPT_ENTRIES {
            tracing::warn!(
                call = &*call.id,
                entries = total,
                limit = MAX_TRANSCRIPT_ENTRIES,
                "transcript exceeds the limit of transcription events; the report has all entries"
            );
        }
        let event = |(place, entry): (usize, Lenient<TranscriptEntry>)| {
            let TranscriptEntry { speaker, text, start_time } = entry.0?;
            let role = match speaker.as_str() {
                "user" | "customer" | "caller" | "human" => Role::User,
                "assistant" | "agent" | "ai" | "bot" => Role::Agent,
                _ => return None,
            };
            Some(Event {
                call: Arc::clone(call),
                timestamp: start_time.0.unwrap_or(ended_at),
                body: EventBody::Transcription { role, text },
                delivery_id: delivery_id.map(|delivery| format!("{delivery}/{place}").into()),
            })
        };
        (0..).zip(entries).filter_map(event).collect()
    }

    fn into_ending(self, kind: &str, report: Box<RawValue>) -> CallEnding {
        let (outcome, reason) = match kind {
            FAILED => (CallOutcome::Failed, self.error_message.0),
            DEADLINE => (CallOutcome::Canceled, self.reason_message.0),
            _ => (CallOutcome::Completed, self.result.0.and_then(|result| result.finish_reason.0)),
        };
        CallEnding {
            outcome,
            reason,
            duration: self.duration_seconds.0.and_then(milliseconds),
            report,
        }
    }
}

fn missing_field(field: &str) -> BadRequest {
    BadRequest { message: format!("missing field `{field}`") }
}

fn parse_text(json: &RawValue, field: &str) -> Result<String, BadRequest> {
    parse_json(json.get().as_bytes(), field)
}

/// Parses a part of the document. An absent part is the default, and so is an invalid one
/// unless `strict`.
fn parse_part<'a, T: Default + Deserialize<'a>>(
    json: Option<&'a RawValue>,
    name: &str,
    strict: bool,
) -> Result<T, BadRequest> {
    let Some(json) = json else { return Ok(T::default()) };
    match parse_json(json.get().as_bytes(), name) {
        Err(error) if strict => Err(error),
        part => Ok(part.unwrap_or_default()),
    }
}

const START: &str = "StartWebHookPayload";
const TOOL: &str = "ToolWebHookPayload";
const TRANSFER: &str = "TransferWebHookPayload";
const COMPLETED: &str = "CompletedWebHookPayload";
const FAILED: &str = "FailedWebHookPayload";
const DEADLINE: &str = "CallDeadLineWebHookPayload";

/// Returns the first timestamp that is present, else the current time.
fn first_timestamp<const N: usize>(times: [&Lenient<Timestamp>; N]) -> Timestamp {
    times.into_iter().find_map(|time| time.0).unwrap_or_else(Timestamp::now)
}

/// Returns the document as it was sent.
fn raw_document(body: &[u8]) -> Result<Box<RawValue>, BadRequest> {
    parse_json::<&RawValue>(body, "").map(ToOwned::to_owned)
}

/// Returns an id derived from the content of a document.
fn content_id(kind: &str, body: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("{kind}/{}", hex::encode(Sha256::digest(body)))
}

fn empty_arguments() -> Box<RawValue> {
    serde_json::value::to_raw_value(&EmptyObject {}).unwrap_or_default()
}

/// Converts seconds to milliseconds, if they are valid.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
fn milliseconds(seconds: f64) -> Option<u64> {
    (0.0..1e12).contains(&seconds).then(|| (seconds * 1e3).round() as u64)
}

#[cfg(test)]
mod tests;

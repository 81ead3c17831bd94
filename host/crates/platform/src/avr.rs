//! AVR Core and its rebrand DSAI: one format, two brands of headers, which deployments mix.
//!
//! AVR numbers neither its events nor its retries, so time and content distinguish its events.

use std::sync::Arc;

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::adapter::{
    BadRequest, PlatformAdapter, PlatformRequest, PromptEndpoint, Reply, RequestLimits,
};
use super::json::{PhoneNumber, check_name, object, parse_json};
use plugboard_config::credentials::Unauthorized;
use plugboard_config::{Config, ServerLimits};
use plugboard_core::call::{Call, TextRef};
use plugboard_core::call_id::CallId;
use plugboard_core::event::{CallEnding, CallOutcome, Event, EventBody, Role};
use plugboard_core::outcome::Answer;
use plugboard_core::platforms::Platform;
use plugboard_core::platforms::{AVR, DSAI};
use plugboard_core::secret::Secret;

const SECRET_HEADERS: [&str; 2] = ["x-avr-webhook-secret", DSAI_SECRET_HEADER];
const DSAI_SECRET_HEADER: &str = "x-dsai-webhook-secret";
const CALL_ID_HEADERS: [&str; 2] = ["x-avr-uuid", "x-dsai-uuid"];
const AGENT_ID_HEADERS: [&str; 2] = ["x-avr-agent-id", DSAI_AGENT_ID_HEADER];
const DSAI_AGENT_ID_HEADER: &str = "x-dsai-agent-id";

/// Creates the adapter from the configuration.
pub(super) fn adapter(config: &Config) -> Option<Arc<dyn PlatformAdapter>> {
    let Config { avr, secret, limits, .. } = config;
    avr.enabled
        .then(|| Arc::new(AvrAdapter { secret: secret.clone(), limits: limits.clone() }) as Arc<_>)
}

struct AvrAdapter {
    secret: Option<Secret>,
    limits: ServerLimits,
}

impl PlatformAdapter for AvrAdapter {
    fn name(&self) -> &'static str {
        AVR.name
    }

    fn path(&self) -> &'static str {
        "/events"
    }

    fn request_limits(&self) -> RequestLimits {
        let ServerLimits { max_body, body_timeout, decision_timeout, .. } = self.limits;
        RequestLimits {
            max_body,
            max_body_key: "limits.max_body",
            body_timeout,
            body_timeout_key: "limits.body_timeout",
            tool_timeout: decision_timeout,
        }
    }

    fn is_unauthenticated(&self) -> bool {
        self.secret.is_none()
    }

    /// Checks the shared secret. The header of either brand is sufficient; if both are sent,
    /// both must match. An empty header counts as absent, because a platform without a secret
    /// sends one.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let mut has_secret = false;
        for name in SECRET_HEADERS {
            for value in headers.get_all(name).iter().filter(|value| !value.is_empty()) {
                if !secret.matches(value.as_bytes()) {
                    return Err(Unauthorized("the webhook secret is wrong"));
                }
                has_secret = true;
            }
        }
        if has_secret { Ok(()) } else { Err(Unauthorized("the webhook secret is missing")) }
    }

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<PlatformRequest, BadRequest> {
        let event = parse_event(headers, body)?;
        Ok(match event.body {
            EventBody::Initiated => PlatformRequest::Decision(event),
            _ => PlatformRequest::Events(vec![event]),
        })
    }

    /// AVR reads only `sts_url`; without it, it uses its static URL. It cannot reject.
    fn decision_reply(&self, answer: &Answer) -> Reply {
        #[derive(Serialize)]
        struct DecisionBody<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            sts_url: Option<&'a str>,
        }
        let (Answer::Route { sts_url, .. }
        | Answer::Reject { sts_url, .. }
        | Answer::Fallback { sts_url, .. }) = answer;
        Reply::json(&DecisionBody { sts_url: sts_url.as_deref() })
    }

    fn prompt_endpoint(&self) -> Option<&dyn PromptEndpoint> {
        Some(self)
    }
}

/// The prompt endpoint of speech-to-speech services. They authenticate only by the call's
/// id, which cannot be guessed.
impl PromptEndpoint for AvrAdapter {
    fn path(&self) -> &'static str {
        "/instructions"
    }

    fn requested_call(&self, headers: &HeaderMap) -> Result<CallId, BadRequest> {
        let call = CALL_ID_HEADERS.into_iter().find_map(|name| headers.get(name)?.to_str().ok());
        match call.filter(|call| check_name("", call).is_ok()) {
            Some(call) => Ok(CallId::new(AVR, call)),
            None => {
                let message = "header X-AVR-UUID: expected the call's uuid".to_owned();
                Err(BadRequest { message })
            }
        }
    }

    fn prompt_reply(&self, prompt: &str) -> Reply {
        #[derive(Serialize)]
        struct PromptBody<'a> {
            system: &'a str,
        }
        Reply::json(&PromptBody { system: prompt })
    }
}

fn parse_event(headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let envelope: Envelope<'_> = parse_json(body, "")?;
    let id = envelope.uuid.0;
    check_name("uuid", &id)?;
    let mut call = Call {
        id: id.into(),
        platform: detect_brand(headers),
        agent: agent_id(headers),
        from: None,
        to: None,
        metadata: Vec::new(),
    };
    let payload = envelope.payload.get().as_bytes();
    let body = match &*envelope.kind.0 {
        "call_initiated" => {
            let payload: CallPayload = parse_json(payload, "payload")?;
            (call.from, call.to, call.metadata) = (payload.from, payload.to, payload.metadata);
            EventBody::Initiated
        }
        "call_started" => EventBody::Started,
        "call_ended" => EventBody::Ended(unknown_ending()),
        "interruption" => EventBody::Interruption,
        "transcription" => {
            let TranscriptionPayload { role, text } = parse_json(payload, "payload")?;
            EventBody::Transcription { role, text }
        }
        "dtmf_digit" => EventBody::DtmfDigit(parse_json::<DtmfPayload>(payload, "payload")?.digit),
        "error" => EventBody::Error(parse_json::<ErrorPayload>(payload, "payload")?.message),
        // A newer core may send types that are unknown here; the reference receiver accepts
        // them, too.
        kind => EventBody::Other { kind: kind.to_owned(), payload: envelope.payload.to_owned() },
    };
    Ok(Event { call: Arc::new(call), timestamp: envelope.timestamp, body, delivery_id: None })
}

/// Returns the ending of an AVR call: the event has no details.
fn unknown_ending() -> CallEnding {
    let report = RawValue::NULL.to_owned();
    CallEnding { outcome: CallOutcome::Unknown, reason: None, duration: None, report }
}

/// Returns DSAI if only its own headers are present, else AVR.
fn detect_brand(headers: &HeaderMap) -> Platform {
    let has = |names: [&str; 2]| names.into_iter().any(|name| headers.contains_key(name));
    let [avr_secret, dsai_secret] = SECRET_HEADERS;
    let [avr_agent, dsai_agent] = AGENT_ID_HEADERS;
    if has([dsai_secret, dsai_agent]) && !has([avr_secret, avr_agent]) { DSAI } else { AVR }
}

fn agent_id(headers: &HeaderMap) -> Option<String> {
    AGENT_ID_HEADERS.into_iter().find_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        (!value.is_empty()).then(|| value.to_owned())
    })
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    uuid: TextRef<'a>,
    #[serde(borrow, rename = "type")]
    kind: TextRef<'a>,
    timestamp: Timestamp,
    #[serde(borrow, deserialize_with = "object")]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct TranscriptionPayload {
    #[serde(deserialize_with = "role")]
    role: Role,
    text: String,
}

#[derive(Deserialize)]
struct DtmfPayload {
    digit: String,
}

#[derive(Deserialize)]
struct ErrorPayload {
    message: String,
}

/// The dialplan's fields, of which `from` and `to` have a meaning.
struct CallPayload {
    from: Option<String>,
    to: Option<String>,
    metadata: Vec<(String, Box<RawValue>)>,
}

impl<'de> Deserialize<'de> for CallPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CallPayloadVisitor;
        impl<'de> Visitor<'de> for CallPayloadVisitor {
            type Value = CallPayload;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CallPayload, A::Error> {
                let mut payload = CallPayload { from: None, to: None, metadata: Vec::new() };
                while let Some(name) = map.next_key::<TextRef<'de>>()? {
                    match &*name.0 {
                        "from" => payload.from = map.next_value::<PhoneNumber>()?.0,
                        "to" => payload.to = map.next_value::<PhoneNumber>()?.0,
                        _ => payload.metadata.push((name.0.into_owned(), map.next_value()?)),
                    }
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_map(CallPayloadVisitor)
    }
}

/// Parses a role. A derived parser would report an enum that is not text as a syntax error.
fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    match &*TextRef::deserialize(deserializer)?.0 {
        "user" => Ok(Role::User),
        "agent" => Ok(Role::Agent),
        _ => Err(D::Error::custom("unknown role: expected `user` or `agent`")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn error(body: &str) -> String {
        match parse_event(&HeaderMap::new(), body.as_bytes()) {
            Ok(_) => panic!("{body} was accepted"),
            Err(error) => error.message,
        }
    }

    fn event(kind: &str, payload: &str) -> Event {
        let body = format!(
            r#"{{"uuid":"u","type":"{kind}","timestamp":"2026-01-01T12:00:00.000Z",
            "payload":{payload},"more":1}}"#
        );
        parse_event(&HeaderMap::new(), body.as_bytes())
            .unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn call_metadata_keeps_order() {
        let call = event(
            "call_initiated",
            r#"{"z":{"a":[1,null]},"from":"+39 02","recording":false,"to":5001}"#,
        )
        .call;
        assert_eq!(call.from.as_deref(), Some("+39 02"));
        assert_eq!(call.to.as_deref(), Some("5001"));
        let metadata: Vec<_> =
            call.metadata.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
        assert_eq!(metadata, [("z", r#"{"a":[1,null]}"#), ("recording", "false")]);
        assert_eq!(event("call_initiated", r#"{"from":null}"#).call.from, None);
    }

    #[test]
    fn every_event_kind_is_parsed() {
        let transcription = event("transcription", r#"{"role":"user","text":"a\nb"}"#);
        assert!(matches!(transcription.body,
            EventBody::Transcription { role: Role::User, text } if text == "a\nb"));
        assert!(matches!(event("dtmf_digit", r#"{"digit":"1"}"#).body,
            EventBody::DtmfDigit(digit) if digit == "1"));
        assert!(matches!(event("error", r#"{"message":"m"}"#).body,
            EventBody::Error(message) if message == "m"));
        assert!(matches!(event("call_started", "{}").body, EventBody::Started));
        assert!(matches!(event("call_ended", "{}").body, EventBody::Ended(_)));
        assert!(matches!(event("interruption", "{}").body, EventBody::Interruption));
        assert!(matches!(event("novelty", r#"{"a":1}"#).body,
            EventBody::Other { kind, payload } if kind == "novelty" && payload.get() == r#"{"a":1}"#));
    }

    #[test]
    fn bad_body_error_names_field() {
        let good = serde_json::json!({
            "uuid": "u", "type": "transcription", "timestamp": "2026-01-01T12:00:00.000Z",
            "payload": {"role": "user", "text": "t"},
        });
        for field in ["uuid", "type", "timestamp", "payload"] {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(field);
            assert_eq!(error(&body.to_string()), format!("missing field `{field}`"));
            body[field] = serde_json::json!(true);
            let error = error(&body.to_string());
            assert!(error.starts_with(&format!("`{field}`: ")), "{error}");
        }
        for field in ["role", "text"] {
            let mut body = good.clone();
            body["payload"].as_object_mut().unwrap().remove(field);
            assert_eq!(error(&body.to_string()), format!("`payload`: missing field `{field}`"));
            body["payload"][field] = serde_json::json!(5);
            let error = error(&body.to_string());
            assert!(error.starts_with(&format!("`payload.{field}`: ")), "{error}");
        }
        let mut body = good.clone();
        body["timestamp"] = serde_json::json!("yesterday");
        assert!(error(&body.to_string()).starts_with("`timestamp`: "));
        body = good.clone();
        body["type"] = serde_json::json!("call_initiated");
        body["payload"] = serde_json::json!({"from": ["x"]});
        assert!(error(&body.to_string()).starts_with("`payload.from`: "));
        body = good;
        body["uuid"] = serde_json::json!("");
        assert!(error(&body.to_string()).starts_with("`uuid`: "));
    }

    #[test]
    fn non_json_body_is_reported() {
        for body in ["", "{", "hello", "{\"uuid\":}", "\u{0}"] {
            assert!(error(body).starts_with("the body is not JSON"), "{body:?}: {}", error(body));
        }
        assert!(error("[]").contains("invalid"), "{}", error("[]"));
    }

    #[test]
    fn secrets_of_both_brands_must_match() {
        let avr = |secret| AvrAdapter { secret, limits: ServerLimits::default() };
        let adapter = avr(Secret::from_header_value("s"));
        let is_accepted = |pairs: &[_]| adapter.check_headers(&headers(pairs)).is_ok();
        assert!(is_accepted(&[("x-avr-webhook-secret", "s")]));
        assert!(is_accepted(&[("x-dsai-webhook-secret", "s")]));
        assert!(is_accepted(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "s")]));
        assert!(is_accepted(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "")]));
        assert!(!is_accepted(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "t")]));
        assert!(!is_accepted(&[("x-avr-webhook-secret", "t"), ("x-dsai-webhook-secret", "s")]));
        assert!(!is_accepted(&[("x-avr-webhook-secret", "")]));
        assert!(!is_accepted(&[]));
        let mut twice = headers(&[("x-avr-webhook-secret", "s")]);
        twice.append("x-avr-webhook-secret", HeaderValue::from_static("t"));
        assert!(adapter.check_headers(&twice).is_err());
        assert!(avr(None).check_headers(&headers(&[("x-avr-webhook-secret", "any")])).is_ok());
    }

    #[test]
    fn brand_and_agent_come_from_headers() {
        assert_eq!(detect_brand(&headers(&[])), AVR);
        assert_eq!(detect_brand(&headers(&[("x-dsai-webhook-secret", "s")])), DSAI);
        assert_eq!(detect_brand(&headers(&[("x-dsai-agent-id", "a")])), DSAI);
        let mixed = headers(&[("x-avr-webhook-secret", "s"), ("x-dsai-agent-id", "a")]);
        assert_eq!(detect_brand(&mixed), AVR);
        assert_eq!(agent_id(&mixed).as_deref(), Some("a"));
        assert_eq!(agent_id(&headers(&[("x-avr-agent-id", "")])), None);
    }
}

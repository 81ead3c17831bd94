//! AVR Core, and its rebrand DSAI: one envelope, two brands of headers, which
//! deployments mix.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::json::{Party, check_name, object, read};
use super::{BadRequest, Bounds, Dialect, Instructions, Message, Reply, Unauthorized};
use crate::config::{Config, Secret, ServerLimits};
use crate::event::{Call, CallOutcome, Ending, Event, EventBody, Platform, Role, TextRef, Traits};
use crate::router::Answer;

/// Agent Voice Response Core.
pub(crate) const AVR: Platform = Platform::new(&Traits { name: "avr", ..BRAND });
/// DSAI Core, a rebrand of AVR.
pub(crate) const DSAI: Platform = Platform::new(&Traits { name: "dsai", ..BRAND });

const BRAND: Traits = Traits {
    name: "",
    family: "avr",
    takes_url: true,
    can_reject: false,
    asks_for_prompt: true,
    comes_back: false,
    // At once, if at all (WEBHOOK_RETRY), within WEBHOOK_TIMEOUT each.
    retries: Duration::from_secs(30),
};

const SECRETS: [&str; 2] = ["x-avr-webhook-secret", DSAI_SECRET];
const DSAI_SECRET: &str = "x-dsai-webhook-secret";
const CALLS: [&str; 2] = ["x-avr-uuid", "x-dsai-uuid"];
const AGENTS: [&str; 2] = ["x-avr-agent-id", DSAI_AGENT];
const DSAI_AGENT: &str = "x-dsai-agent-id";

/// Made of the configuration.
pub(super) fn dialect(config: &Config) -> Option<Arc<dyn Dialect>> {
    let Config { avr, secret, limits, .. } = config;
    avr.enabled.then(|| Arc::new(Avr { secret: secret.clone(), limits: limits.clone() }) as Arc<_>)
}

struct Avr {
    secret: Option<Secret>,
    limits: ServerLimits,
}

impl Dialect for Avr {
    fn name(&self) -> &'static str {
        AVR.name
    }

    fn path(&self) -> &'static str {
        "/events"
    }

    fn bounds(&self) -> Bounds {
        let ServerLimits { body, body_timeout, budget, .. } = self.limits;
        Bounds {
            body,
            body_key: "limits.body",
            body_timeout,
            body_timeout_key: "limits.body_timeout",
            tool_timeout: budget,
        }
    }

    fn is_open(&self) -> bool {
        self.secret.is_none()
    }

    /// Checks the shared secret. Either brand's header will do; when both are sent,
    /// both must be right. An empty header is what a platform without a secret
    /// sends: as good as none.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let mut shown = false;
        for name in SECRETS {
            for value in headers.get_all(name).iter().filter(|value| !value.is_empty()) {
                if !secret.is(value.as_bytes()) {
                    return Err(Unauthorized("the webhook secret is wrong"));
                }
                shown = true;
            }
        }
        if shown { Ok(()) } else { Err(Unauthorized("the webhook secret is missing")) }
    }

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Message, BadRequest> {
        let event = parse(headers, body)?;
        Ok(match event.body {
            EventBody::Initiated => Message::Decide(event),
            _ => Message::Events(vec![event]),
        })
    }

    /// AVR reads `sts_url` and nothing else; without it, it keeps its static one. It
    /// cannot reject.
    fn decision(&self, answer: &Answer) -> Reply {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            sts_url: Option<&'a str>,
        }
        let (Answer::Route { sts_url, .. }
        | Answer::Reject { sts_url, .. }
        | Answer::Fallback { sts_url, .. }) = answer;
        Reply::json(&Body { sts_url: sts_url.as_deref() })
    }

    fn instructions(&self) -> Option<&dyn Instructions> {
        Some(self)
    }
}

/// What speech-to-speech services ask for. They show nothing but the call's name,
/// which nobody can guess.
impl Instructions for Avr {
    fn path(&self) -> &'static str {
        "/instructions"
    }

    fn call<'a>(&self, headers: &'a HeaderMap) -> Result<(&'static str, &'a str), BadRequest> {
        let call = CALLS.into_iter().find_map(|name| headers.get(name)?.to_str().ok());
        match call.filter(|call| check_name("", call).is_ok()) {
            Some(call) => Ok((AVR.family, call)),
            None => {
                let message = "header X-AVR-UUID: expected the call's uuid".to_owned();
                Err(BadRequest { message })
            }
        }
    }

    fn prompt(&self, prompt: &str) -> Reply {
        #[derive(Serialize)]
        struct Body<'a> {
            system: &'a str,
        }
        Reply::json(&Body { system: prompt })
    }
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Event, BadRequest> {
    let envelope: Envelope<'_> = read(body, "")?;
    let id = envelope.uuid.0;
    check_name("uuid", &id)?;
    let mut call = Call {
        id: id.into_owned(),
        platform: platform(headers),
        agent: agent(headers),
        from: None,
        to: None,
        metadata: Vec::new(),
    };
    let payload = envelope.payload.get().as_bytes();
    let body = match &*envelope.kind.0 {
        "call_initiated" => {
            let payload: CallPayload = read(payload, "payload")?;
            (call.from, call.to, call.metadata) = (payload.from, payload.to, payload.metadata);
            EventBody::Initiated
        }
        "call_started" => EventBody::Started,
        "call_ended" => EventBody::Ended(ending()),
        "interruption" => EventBody::Interruption,
        "transcription" => {
            let Transcription { role, text } = read(payload, "payload")?;
            EventBody::Transcription { role, text }
        }
        "dtmf_digit" => EventBody::DtmfDigit(read::<Dtmf>(payload, "payload")?.digit),
        "error" => EventBody::Error(read::<Failure>(payload, "payload")?.message),
        // A newer core may tell more than we know; the reference receiver takes
        // it, too.
        kind => EventBody::Other { kind: kind.to_owned(), payload: envelope.payload.to_owned() },
    };
    Ok(Event { call: Arc::new(call), timestamp: envelope.timestamp, body, delivery: None })
}

/// AVR says that a call is over, and nothing more.
fn ending() -> Ending {
    let report = RawValue::NULL.to_owned();
    Ending { outcome: CallOutcome::Unknown, reason: None, duration: None, report }
}

/// DSAI's own headers tell it from AVR, unless both brands' are there.
fn platform(headers: &HeaderMap) -> Platform {
    let has = |names: [&str; 2]| names.into_iter().any(|name| headers.contains_key(name));
    let [avr_secret, dsai_secret] = SECRETS;
    let [avr_agent, dsai_agent] = AGENTS;
    if has([dsai_secret, dsai_agent]) && !has([avr_secret, avr_agent]) { DSAI } else { AVR }
}

fn agent(headers: &HeaderMap) -> Option<String> {
    AGENTS.into_iter().find_map(|name| {
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
struct Transcription {
    #[serde(deserialize_with = "role")]
    role: Role,
    text: String,
}

#[derive(Deserialize)]
struct Dtmf {
    digit: String,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

/// What the dialplan sends along: anything, of which `from` and `to` have a
/// meaning.
struct CallPayload {
    from: Option<String>,
    to: Option<String>,
    metadata: Vec<(String, Box<RawValue>)>,
}

impl<'de> Deserialize<'de> for CallPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = CallPayload;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CallPayload, A::Error> {
                let mut payload = CallPayload { from: None, to: None, metadata: Vec::new() };
                while let Some(name) = map.next_key::<TextRef<'de>>()? {
                    match &*name.0 {
                        "from" => payload.from = map.next_value::<Party>()?.0,
                        "to" => payload.to = map.next_value::<Party>()?.0,
                        _ => payload.metadata.push((name.0.into_owned(), map.next_value()?)),
                    }
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Not derived: serde_json calls an enum that is no text a syntax error.
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
        match parse(&HeaderMap::new(), body.as_bytes()) {
            Ok(_) => panic!("{body} was taken"),
            Err(error) => error.message,
        }
    }

    fn event(kind: &str, payload: &str) -> Event {
        let body = format!(
            r#"{{"uuid":"u","type":"{kind}","timestamp":"2026-01-01T12:00:00.000Z",
            "payload":{payload},"more":1}}"#
        );
        parse(&HeaderMap::new(), body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn a_call_is_read_with_its_metadata_in_order() {
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
    fn every_kind_of_event_is_understood() {
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
    fn a_bad_body_is_told_by_the_name_of_the_field() {
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
    fn what_is_not_json_is_called_so() {
        for body in ["", "{", "hello", "{\"uuid\":}", "\u{0}"] {
            assert!(error(body).starts_with("the body is not JSON"), "{body:?}: {}", error(body));
        }
        assert!(error("[]").contains("invalid"), "{}", error("[]"));
    }

    #[test]
    fn secrets_of_both_brands_are_taken_and_both_must_be_right() {
        let avr = |secret| Avr { secret, limits: ServerLimits::default() };
        let dialect = avr(Secret::with_spaces("s"));
        let shown = |pairs: &[_]| dialect.admit(&headers(pairs)).is_ok();
        assert!(shown(&[("x-avr-webhook-secret", "s")]));
        assert!(shown(&[("x-dsai-webhook-secret", "s")]));
        assert!(shown(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "s")]));
        assert!(shown(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "")]));
        assert!(!shown(&[("x-avr-webhook-secret", "s"), ("x-dsai-webhook-secret", "t")]));
        assert!(!shown(&[("x-avr-webhook-secret", "t"), ("x-dsai-webhook-secret", "s")]));
        assert!(!shown(&[("x-avr-webhook-secret", "")]));
        assert!(!shown(&[]));
        let mut twice = headers(&[("x-avr-webhook-secret", "s")]);
        twice.append("x-avr-webhook-secret", HeaderValue::from_static("t"));
        assert!(dialect.admit(&twice).is_err());
        assert!(avr(None).admit(&headers(&[("x-avr-webhook-secret", "any")])).is_ok());
    }

    #[test]
    fn the_brand_and_the_agent_come_from_the_headers() {
        assert_eq!(platform(&headers(&[])), AVR);
        assert_eq!(platform(&headers(&[("x-dsai-webhook-secret", "s")])), DSAI);
        assert_eq!(platform(&headers(&[("x-dsai-agent-id", "a")])), DSAI);
        let mixed = headers(&[("x-avr-webhook-secret", "s"), ("x-dsai-agent-id", "a")]);
        assert_eq!(platform(&mixed), AVR);
        assert_eq!(agent(&mixed).as_deref(), Some("a"));
        assert_eq!(agent(&headers(&[("x-avr-agent-id", "")])), None);
    }
}

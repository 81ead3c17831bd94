//! Copies events to the webhook of avr-app, in AVR's format.
//!
//! avr-app accepts exactly `uuid`, `type`, `timestamp` and `payload`, and rejects anything
//! else with 400. Events that AVR itself does not send are therefore not copied.

use plugboard_sdk::prelude::*;
use serde_json::{Map, Value, json};

struct AvrAppTee;

impl Observer for AvrAppTee {
    fn on_event(event: &Event) -> Result<()> {
        let call = event.call();
        if !matches!(call.platform(), "avr" | "dsai") {
            return Ok(());
        }
        let Some((name, payload)) = to_avr_event(event)? else { return Ok(()) };
        if !is_uuid(call.id()) || !payload.is_object() {
            log::debug(
                "event not sent: the call's id is not a UUID, or the payload is not an object",
            );
            return Ok(());
        }
        let body = json!({
            "uuid": call.id(),
            "type": name,
            "timestamp": event.timestamp(),
            "payload": payload,
        });
        let mut request = http::post(config::require("url")?).json(&body)?;
        if let Some(secret) = config::get("secret") {
            request = request.header("X-AVR-WEBHOOK-SECRET", secret);
        }
        let response = request.send()?;
        match response.status() {
            // A retry would fail too, and delay the later events of the call.
            status @ 400..500 if status != 408 && status != 429 => {
                log::warn(format_args!("avr-app rejected a `{}` event: {status}", event.kind()));
                Ok(())
            }
            _ => response.ok().map(drop),
        }
    }
}

/// Returns the event's type and payload as AVR sends them. None: AVR has no such event.
fn to_avr_event(event: &Event) -> Result<Option<(&str, Value)>> {
    Ok(Some(match event.body() {
        EventBody::Initiated => ("call_initiated", metadata(event.call())?),
        EventBody::Started => ("call_started", json!({})),
        EventBody::Ended(_) => ("call_ended", json!({})),
        EventBody::Interruption => ("interruption", json!({})),
        EventBody::Transcription { role, text } => {
            ("transcription", json!({ "role": role.name(), "text": text }))
        }
        EventBody::DtmfDigit(digit) => ("dtmf_digit", json!({ "digit": digit })),
        EventBody::Error(message) => ("error", json!({ "message": message })),
        EventBody::Other { kind, payload } => (kind, parse(payload)?),
        EventBody::Routed(_) | EventBody::ToolInvoked { .. } => return Ok(None),
    }))
}

/// Returns the call's details as AVR sent them.
fn metadata(call: &Call) -> Result<Value> {
    let mut payload = Map::new();
    for (name, value) in [("from", call.from()), ("to", call.to())] {
        if let Some(value) = value {
            payload.insert(name.to_owned(), value.into());
        }
    }
    for name in call.metadata_names() {
        let value = parse(call.metadata_json(name).unwrap_or_default())?;
        payload.insert(name.to_owned(), value);
    }
    Ok(payload.into())
}

fn parse(json: &str) -> Result<Value> {
    // Without serde's message, which can quote the document.
    serde_json::from_str(json).map_err(|_| Error::new("the platform's document is not JSON"))
}

/// Returns whether the id has groups of 8-4-4-4-12 hexadecimal digits.
fn is_uuid(id: &str) -> bool {
    let lengths = id.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

plugboard_sdk::export!(AvrAppTee: Observer);

#[cfg(test)]
mod tests {
    use plugboard_sdk::log::Level;
    use plugboard_sdk::testing::Host;
    use plugboard_sdk::{Ending, Role, Routing, Verdict};

    use super::*;

    const URL: &str = "http://avr-app:3001/webhooks";
    const ID: &str = "935652e3-7c59-4edc-b17f-9646a9c2a265";

    fn host_with_response(status: u16) -> Host {
        Host::new().with_config("url", URL).with_response("POST", URL, status, "")
    }

    fn event(body: EventBody) -> Event {
        Event::new(Call::new(ID).with_from("2000").with_to("5001"), body)
    }

    fn sent(host: &Host) -> Vec<Value> {
        let bodies = host.requests().into_iter();
        bodies.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    }

    #[test]
    fn events_are_sent_in_avr_format() {
        let text = |text: &str| text.to_owned();
        let payload = text(r#"{"a":[1,null]}"#);
        for (body, kind, payload) in [
            (EventBody::Started, "call_started", json!({})),
            (EventBody::Ended(Ending::default()), "call_ended", json!({})),
            (EventBody::Interruption, "interruption", json!({})),
            (
                EventBody::Transcription { role: Role::User, text: text("Hello") },
                "transcription",
                json!({"role": "user", "text": "Hello"}),
            ),
            (EventBody::DtmfDigit(text("1")), "dtmf_digit", json!({"digit": "1"})),
            (EventBody::Error(text("lost")), "error", json!({"message": "lost"})),
            (EventBody::Other { kind: text("new"), payload }, "new", json!({"a": [1, null]})),
        ] {
            let host = host_with_response(201);
            host.observe::<AvrAppTee>(&event(body)).unwrap();
            let timestamp = "2026-01-01T00:00:00.000Z";
            let expected =
                json!({"uuid": ID, "type": kind, "timestamp": timestamp, "payload": payload});
            assert_eq!(sent(&host), [expected]);
        }
    }

    #[test]
    fn first_event_has_details_of_call() {
        let call = Call::new(ID).with_platform("dsai").with_from("x\"\r\n").with_to("5001");
        let call = call.with_metadata("recording", false).with_metadata("n", json!({"a": 1.5}));
        let host = host_with_response(201).with_config("secret", "s3cret");
        host.observe::<AvrAppTee>(&Event::new(call, EventBody::Initiated)).unwrap();
        let payload = json!({"from": "x\"\r\n", "to": "5001", "recording": false, "n": {"a": 1.5}});
        assert_eq!(sent(&host)[0]["payload"], payload);
        assert_eq!(host.requests()[0].header_value("x-avr-webhook-secret"), Some("s3cret"));
        assert_eq!(host.requests()[0].header_value("content-type"), Some("application/json"));
    }

    #[test]
    fn unsupported_events_are_not_sent() {
        let text = str::to_owned;
        let routing = Routing { verdict: Verdict::Pass, by: None, sts_url: None };
        let tool = EventBody::ToolInvoked {
            name: text("t"),
            arguments: text("{}"),
            outcome: Ok(text("{}")),
        };
        let list = EventBody::Other { kind: text("new"), payload: text("[]") };
        let host = Host::new();
        for event in [
            event(EventBody::Routed(routing)),
            event(tool),
            event(list),
            Event::new(Call::new("no-uuid"), EventBody::Started),
            Event::new(Call::new(ID.replace('e', "g")), EventBody::Started),
            Event::new(Call::new(ID).with_platform("blackbox"), EventBody::Started),
        ] {
            host.observe::<AvrAppTee>(&event).unwrap();
        }
        assert!(host.requests().is_empty());
    }

    #[test]
    fn only_retryable_responses_are_errors() {
        let event = event(EventBody::Started);
        for status in [400, 401, 404, 422] {
            let host = host_with_response(status);
            host.observe::<AvrAppTee>(&event).unwrap();
            let line = format!("avr-app rejected a `started` event: {status}");
            assert_eq!(host.log(), [(Level::Warn, line)]);
        }
        for status in [302, 408, 429, 500, 503] {
            host_with_response(status).observe::<AvrAppTee>(&event).unwrap_err();
        }
        let broken = Host::new().with_config("url", URL);
        let broken = broken.with_http_error("POST", URL, http::Error::Timeout);
        broken.observe::<AvrAppTee>(&event).unwrap_err();
        let error = Host::new().observe::<AvrAppTee>(&event).unwrap_err().to_string();
        assert_eq!(error, "[config] has no `url`");
    }
}

//! Observer with a configurable behaviour. Setting `do`: `collect` (sends each event to
//! `url` as JSON, with the setting `tag`), `nothing`, `error`, `trap`, `sleep` or `spin`.
//!
//! `fail_percent`: share of events that fail, half of them before the request and half
//! after it. `delay_ms`: pause after the request. `poison`: text of a transcription that
//! always fails. `report = 'measured'`: sends only the length and the checksum of reports.
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::SystemTime;

use plugboard_sdk::Verdict;
use plugboard_sdk::prelude::*;
use serde_json::{Map, Value, json};

struct Guest;

impl Observer for Guest {
    fn on_event(event: &Event) -> Result<()> {
        if let (EventBody::Transcription { text, .. }, Some(poison)) =
            (event.body(), config::get("poison"))
            && *text == poison
        {
            return Err(Error::new("poison"));
        }
        match config::get("do").as_deref().unwrap_or("collect") {
            "collect" => collect(event),
            "nothing" => Ok(()),
            "error" => Err(Error::new("failed as configured")),
            "trap" => std::process::abort(),
            "sleep" => {
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            "spin" => loop {
                std::hint::black_box(event);
            },
            other => Err(Error::new(format_args!("cannot do `{other}`"))),
        }
    }
}

fn collect(event: &Event) -> Result<()> {
    let fail_percent = config::parse::<u64>("fail_percent")?.unwrap_or_default();
    let random = RandomState::new().hash_one(SystemTime::now());
    let fails = random % 100 < fail_percent;
    let early = (random / 100).is_multiple_of(2);
    if fails && early {
        return Err(Error::new("failed before the request"));
    }
    http::post(config::require("url")?).json(&event_json(event))?.send()?.ok()?;
    if let Some(delay) = config::parse("delay_ms")? {
        std::thread::sleep(Duration::from_millis(delay));
    }
    if fails { Err(Error::new("failed after the request")) } else { Ok(()) }
}

fn event_json(event: &Event) -> Value {
    let call = event.call();
    let metadata: Map<String, Value> = call
        .metadata_names()
        .map(|name| (name.to_owned(), parse_json(call.metadata_json(name).unwrap_or_default())))
        .collect();
    json!({
        "observer": config::get("tag").unwrap_or_default(),
        "id": event.id(),
        "call": call.id(),
        "platform": call.platform(),
        "kind": event.kind(),
        "timestamp": event.timestamp(),
        "unix_ms": event.unix_ms(),
        "from": call.from(),
        "to": call.to(),
        "agent": call.agent(),
        "metadata": metadata,
        "detail": detail(event.body()),
    })
}

fn detail(body: &EventBody) -> Value {
    match body {
        EventBody::Initiated | EventBody::Started | EventBody::Interruption => json!({}),
        EventBody::Routed(routing) => {
            let (verdict, prompt) = match &routing.verdict {
                Verdict::Pass => ("pass", None),
                Verdict::Route { prompt, .. } => ("route", prompt.as_deref()),
                Verdict::Reject { .. } => ("reject", None),
            };
            let (by, sts_url) = (&routing.by, &routing.sts_url);
            json!({ "verdict": verdict, "prompt": prompt, "by": by, "sts_url": sts_url })
        }
        EventBody::Transcription { role, text } => json!({ "role": role.name(), "text": text }),
        EventBody::DtmfDigit(digit) => json!({ "digit": digit }),
        EventBody::ToolInvoked { name, arguments, outcome } => {
            let outcome = match outcome {
                Ok(result) => json!({ "ok": parse_json(result) }),
                Err(message) => json!({ "error": message }),
            };
            json!({ "name": name, "arguments": parse_json(arguments), "outcome": outcome })
        }
        EventBody::Ended(ending) => json!({
            "outcome": ending.outcome.name(),
            "reason": ending.reason,
            "duration_ms": ending.duration.map(|duration| duration.as_millis() as u64),
            "report": report(&ending.report),
        }),
        EventBody::Error(message) => json!({ "message": message }),
        EventBody::Other { kind, payload } => {
            json!({ "kind": kind, "payload": parse_json(payload) })
        }
    }
}

fn report(json: &str) -> Value {
    match config::get("report").as_deref() {
        // FNV-1a, which needs no crate.
        Some("measured") => json!({
            "length": json.len(),
            "checksum": json.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            }),
        }),
        _ => parse_json(json),
    }
}

/// Parses JSON of the host. Returns invalid JSON as a string.
fn parse_json(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

plugboard_sdk::export!(Guest: Observer);

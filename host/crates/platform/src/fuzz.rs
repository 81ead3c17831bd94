//! Fuzz targets for the parsers of all adapters.
//!
//! A target changes real documents, field by field and byte by byte. Every body is parsed or
//! rejected without a panic. An accepted body has the properties that
//! [`PlatformAdapter::parse`] guarantees.
//!
//! The targets run for a few seconds with the tests. To run them longer:
//!
//! ```text
//! PLUGBOARD_FUZZ_SECONDS=600 cargo test --release -p plugboard-platform fuzz
//! ```

use std::cell::Cell;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::Value;

use super::tests::all_adapters;
use super::*;
use plugboard_core::call::Call;
use plugboard_core::json_depth;
use plugboard_core::platforms;

/// Real documents of the platforms.
const SEEDS: [&str; 16] = [
    include_str!("../../../../tests/fixtures/avr/call_ended.json"),
    include_str!("../../../../tests/fixtures/avr/call_initiated.json"),
    include_str!("../../../../tests/fixtures/avr/call_initiated_hostile_caller.json"),
    include_str!("../../../../tests/fixtures/avr/call_initiated_recording.json"),
    include_str!("../../../../tests/fixtures/avr/call_started.json"),
    include_str!("../../../../tests/fixtures/avr/dtmf_digit.json"),
    include_str!("../../../../tests/fixtures/avr/error.json"),
    include_str!("../../../../tests/fixtures/avr/interruption.json"),
    include_str!("../../../../tests/fixtures/avr/transcription.json"),
    include_str!("../../../../tests/fixtures/blackbox/completed.json"),
    include_str!("../../../../tests/fixtures/blackbox/deadline.json"),
    include_str!("../../../../tests/fixtures/blackbox/failed.json"),
    include_str!("../../../../tests/fixtures/blackbox/start.json"),
    include_str!("../../../../tests/fixtures/blackbox/tool.json"),
    include_str!("../../../../tests/fixtures/blackbox/tool_untyped.json"),
    include_str!("../../../../tests/fixtures/blackbox/transfer.json"),
];

fn adapter(name: &str) -> Arc<dyn PlatformAdapter> {
    all_adapters().into_iter().find(|adapter| adapter.name() == name).unwrap()
}

fn seed() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SEEDS.as_slice())
}

/// Generates any JSON of limited size.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z".prop_map(Value::from),
        seed().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name =
            prop_oneof![Just("fromUser"), Just("speaker"), Just("text"), Just("finishReason")];
        let name = prop_oneof![name.prop_map(str::to_owned), ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Generates a real document with some fields changed, removed or added.
fn mutant() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), prop::option::of(json()));
    (seed(), prop::collection::vec(change, 0..4)).prop_map(|(seed, changes)| {
        let mut document: Value = serde_json::from_str(seed).unwrap();
        for (selector, value) in changes {
            // The changed object is the document, or one of its objects.
            let fields = document.as_object_mut().unwrap();
            let names: Vec<String> = fields.keys().cloned().collect();
            let Some(name) = names.get(selector.index(names.len().max(1))) else { continue };
            match (&mut fields[name], value) {
                (Value::Object(inner), Some(value)) if !inner.is_empty() => {
                    let names: Vec<String> = inner.keys().cloned().collect();
                    inner.insert(names[selector.index(names.len())].clone(), value);
                }
                (old, Some(value)) => *old = value,
                (_, None) => {
                    fields.remove(name);
                }
            }
        }
        document.to_string().into_bytes()
    })
}

/// Generates a real document with some bytes changed.
fn corrupted() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    (seed(), prop::collection::vec(change, 1..8)).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (selector, byte, operation) in changes {
            let position = selector.index(bytes.len());
            match operation {
                0 => bytes[position] = byte,
                1 => bytes.insert(position, byte),
                _ => bytes.truncate(position.max(1)),
            }
        }
        bytes
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => mutant(),
        2 => corrupted(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => json().prop_map(|document| document.to_string().into_bytes()),
    ]
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(
        ["x-avr-agent-id", "x-dsai-agent-id", "x-blackbox-delivery-id", "x-avr-uuid"].as_slice(),
    );
    let header = (name, prop::collection::vec(0x20_u8..=0xff, 0..20));
    prop::collection::vec(header, 0..4).prop_map(|pairs| {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
        pairs
            .iter()
            .filter_map(|(name, bytes)| Some((name.parse().unwrap(), value(bytes)?)))
            .collect()
    })
}

/// Checks the properties that the code after the parser relies on.
fn check_request(message: PlatformRequest) {
    let is_call = |call: &Call| {
        assert!((1..=128).contains(&call.id.len()));
        assert!(platforms::all().contains(&call.platform));
        for (_, value) in &call.metadata {
            serde_json::from_str::<Value>(value.get()).unwrap();
        }
    };
    match message {
        PlatformRequest::Decision(event) => {
            assert!(matches!(event.body, plugboard_core::event::EventBody::Initiated));
            is_call(&event.call);
        }
        PlatformRequest::Events(events) => {
            let first = Arc::clone(&events.first().expect("at least one event").call);
            is_call(&first);
            for event in events {
                assert!(Arc::ptr_eq(&event.call, &first));
                serde_json::to_string(&event.body).unwrap();
                assert!(event.delivery_id.is_none_or(|name| name.len() < 1_000));
            }
        }
        PlatformRequest::Tool(ToolUse { call, arguments, .. }) => {
            is_call(&call);
            serde_json::from_str::<Value>(arguments.get()).unwrap();
        }
        PlatformRequest::Transfer(Transfer { call, request, .. }) => {
            is_call(&call);
            serde_json::from_str::<Value>(request.get()).unwrap();
        }
    }
}

fn fuzz(name: &str) {
    let seconds = std::env::var("PLUGBOARD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(4));
    let adapter = adapter(name);
    let (cases, accepted) = (Cell::new(0_u32), Cell::new(0_u32));
    while Instant::now() < end {
        let config = Cases { cases: 200, failure_persistence: None, ..Cases::default() };
        let result = TestRunner::new(config).run(&(headers(), body()), |(headers, body)| {
            cases.set(cases.get() + 1);
            if json_depth::check(&body).is_err() {
                return Ok(());
            }
            match adapter.parse(&headers, &body) {
                Ok(message) => {
                    accepted.set(accepted.get() + 1);
                    check_request(message);
                }
                Err(error) => prop_assert!(!error.message.is_empty()),
            }
            if let Some(endpoint) = adapter.prompt_endpoint() {
                _ = endpoint.requested_call(&headers);
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
    let (cases, accepted) = (cases.get(), accepted.get());
    eprintln!("{name}: {cases} cases, {accepted} accepted");
    assert!(accepted > 0 && accepted < cases, "{name}: {accepted} of {cases} accepted");
}

#[test]
fn avr_parser_never_panics() {
    fuzz("avr");
}

#[test]
fn blackbox_parser_never_panics() {
    fuzz("blackbox");
}

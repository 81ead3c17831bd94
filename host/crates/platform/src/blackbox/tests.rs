use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use plugboard_config::{Flags, load};

fn config(settings: &[(&str, &str)]) -> Config {
    let pairs = settings.iter().chain(&[("PLUGBOARD_BLACKBOX_ENABLED", "true")]);
    let pairs = pairs.map(|(name, value)| (name.to_string(), value.to_string()));
    load(Flags::default(), pairs).unwrap().config
}

fn parse(document: &Value) -> Result<PlatformRequest, BadRequest> {
    parse_with(&HeaderMap::new(), document)
}

fn parse_with(headers: &HeaderMap, document: &Value) -> Result<PlatformRequest, BadRequest> {
    adapter(&config(&[])).unwrap().parse(headers, document.to_string().as_bytes())
}

fn fixture(name: &str) -> Value {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/blackbox");
    serde_json::from_str(&std::fs::read_to_string(path.join(name)).unwrap()).unwrap()
}

fn start(document: &Value) -> Event {
    match parse(document) {
        Ok(PlatformRequest::Decision(event)) => event,
        _ => panic!("no start"),
    }
}

fn events(document: &Value) -> Vec<Event> {
    match parse(document) {
        Ok(PlatformRequest::Events(events)) => events,
        _ => panic!("no events"),
    }
}

fn ending(event: &Event) -> &CallEnding {
    match &event.body {
        EventBody::Ended(ending) => ending,
        _ => panic!("no ending"),
    }
}

fn metadata(call: &Call) -> Vec<(&str, Value)> {
    let value = |json: &RawValue| serde_json::from_str(json.get()).unwrap();
    call.metadata.iter().map(|(name, json)| (name.as_str(), value(json))).collect()
}

#[test]
fn start_has_numbers_and_metadata() {
    let event = start(&fixture("start.json"));
    let call = &event.call;
    assert_eq!(&*call.id, "call_abc123def456");
    assert_eq!(call.agent.as_deref(), Some("agent_xyz789"));
    assert_eq!(call.from.as_deref(), Some("+14155551234"));
    assert_eq!(call.to.as_deref(), Some("agent-line"));
    assert_eq!(call.metadata("customField").as_deref(), Some("value"));
    assert_eq!(call.metadata("orgId").as_deref(), Some("org_123abc"));
    assert_eq!(event.delivery_id.as_deref(), Some("StartWebHookPayload/Queued"));
}

#[test]
fn endpoint_fills_remote_number() {
    let numbers = |more: Value| {
        let mut document = json!({"type": START, "callId": "c", "endpoint": "+39"});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let call = Arc::clone(&start(&document).call);
        (call.from.clone(), call.to.clone())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(numbers(json!({})), (some("+39"), None));
    assert_eq!(numbers(json!({"callType": "OutboundAudio"})), (None, some("+39")));
    assert_eq!(numbers(json!({"sip": {"toUser": "100"}})), (some("+39"), some("100")));
    assert_eq!(numbers(json!({"sip": {"fromUser": 5, "toUser": null}})), (some("5"), None));
    assert_eq!(numbers(json!({"sip": null, "endpoint": null})), (None, None));
}

#[test]
fn platform_metadata_precedes_custom_data() {
    let call = start(&json!({
        "type": START, "callId": "c", "orgId": "o", "agentAdditionalData": {"a": 1, "b": 2},
        "callAdditionalData": {"orgId": "x", "b": [1]},
    }))
    .call;
    assert_eq!(call.metadata("orgId").as_deref(), Some("o"));
    assert_eq!(call.metadata("b").as_deref(), Some("[1]"));
    let names: Vec<&str> = metadata(&call).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["orgId", "b", "orgId", "a", "b"]);
}

#[test]
fn report_becomes_transcript_and_end() {
    let document = fixture("completed.json");
    let events = events(&document);
    let transcript: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Transcription { role, text } => {
                Some((*role, text.as_str(), event.timestamp_text()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        transcript,
        [
            (
                Role::Agent,
                "Hello! How can I help you today?",
                "2025-10-20T15:30:05.000Z".to_owned()
            ),
            (
                Role::User,
                "I'd like to schedule an appointment.",
                "2025-10-20T15:30:09.000Z".to_owned()
            ),
        ]
    );
    let last = events.last().unwrap();
    assert_eq!(last.timestamp_text(), "2025-10-20T15:35:00.000Z");
    assert_eq!(last.call.to.as_deref(), Some("+14155551234"));
    let CallEnding { outcome, reason, duration, report } = ending(last);
    assert_eq!((*outcome, *duration), (CallOutcome::Completed, Some(312_000)));
    assert_eq!(reason.as_deref(), Some("user_hangup"));
    assert_eq!(serde_json::from_str::<Value>(report.get()).unwrap(), document);
    // Each entry is one event, also when the report is delivered again.
    let event_ids: std::collections::BTreeSet<_> =
        events.iter().map(|event| (event.body.kind() as u8, event.delivery_id.clone())).collect();
    assert_eq!(event_ids.len(), 3);
}

#[test]
fn failed_and_canceled_calls_end() {
    let failed = events(&fixture("failed.json"));
    let CallEnding { outcome, reason, .. } = ending(&failed[0]);
    assert_eq!(*outcome, CallOutcome::Failed);
    assert_eq!(reason.as_deref(), Some("Call was not answered within timeout period"));
    let deadline = events(&fixture("deadline.json"));
    let CallEnding { outcome, reason, .. } = ending(&deadline[0]);
    assert_eq!(*outcome, CallOutcome::Canceled);
    assert_eq!(reason.as_deref(), Some("Call deadline expired before execution"));
    assert_eq!(deadline[0].call.metadata("campaignId").as_deref(), Some("Q4_outreach"));
}

#[test]
fn report_with_invalid_details_is_accepted() {
    let odd = events(&json!({
        "type": COMPLETED, "callId": "c", "durationSeconds": "long", "completedTime": 5,
        "result": [], "sip": "x", "endpoint": {}, "callAdditionalData": 7, "agentId": {},
        "transcription": [{"speaker": "user", "text": "a"}, 5, {"speaker": "radio", "text": "b"},
            {"speaker": "assistant"}, {"speaker": "agent", "text": "c", "startTime": "noon"}],
    }));
    assert_eq!(odd.len(), 3);
    let CallEnding { duration, reason, .. } = ending(&odd[2]);
    assert_eq!((*duration, reason.as_deref()), (None, None));
    assert_eq!(odd[0].timestamp, odd[2].timestamp);
    assert_eq!(events(&json!({"type": FAILED, "callId": "c", "transcription": {}})).len(), 1);
}

#[test]
fn both_tool_request_formats_are_parsed() {
    for (name, arguments) in [("tool.json", "arguments"), ("tool_untyped.json", "toolArguments")] {
        let document = fixture(name);
        let Ok(PlatformRequest::Tool(tool_use)) = parse(&document) else { panic!("{name}") };
        assert_eq!(tool_use.name, "check_availability");
        let arguments_sent: Value = serde_json::from_str(tool_use.arguments.get()).unwrap();
        assert_eq!(arguments_sent, document[arguments]);
        assert_eq!(&*tool_use.call.id, "call_abc123def456");
        // The same tool may be used twice with the same arguments.
        assert!(tool_use.delivery_id.is_none());
    }
    let Ok(PlatformRequest::Tool(tool_use)) = parse(&json!({"callId": "c", "toolName": "t"}))
    else {
        panic!("no tool");
    };
    assert_eq!(tool_use.arguments.get(), "{}");
}

#[test]
fn unknown_documents_are_accepted_and_distinguished() {
    let document = json!({"type": "UnknownWebHookPayload", "status": "Running", "callId": "c"});
    let delivery_id = |document: &Value| events(document)[0].delivery_id.clone();
    assert_eq!(delivery_id(&document), delivery_id(&document));
    let mut other = document.clone();
    other["more"] = json!(1);
    assert_ne!(delivery_id(&document), delivery_id(&other));
    let EventBody::Other { kind, payload } = &events(&other)[0].body else { panic!("known") };
    assert_eq!(kind, "UnknownWebHookPayload");
    assert_eq!(serde_json::from_str::<Value>(payload.get()).unwrap(), other);
    // Older examples have this field.
    assert!(matches!(
        parse(&json!({"eventType": START, "callId": "c"})),
        Ok(PlatformRequest::Decision(_))
    ));
    assert!(matches!(
        parse(&json!({"eventType": "Other", "type": START, "callId": "c"})),
        Ok(PlatformRequest::Decision(_))
    ));
}

#[test]
fn delivery_id_comes_from_header() {
    let mut headers = HeaderMap::new();
    headers.insert(DELIVERY_ID_HEADER, "d-1".parse().unwrap());
    let Ok(PlatformRequest::Tool(tool_use)) = parse_with(&headers, &fixture("tool.json")) else {
        panic!("no tool");
    };
    assert_eq!(tool_use.delivery_id.as_deref(), Some("ToolWebHookPayload/d-1"));
    let Ok(PlatformRequest::Decision(event)) = parse_with(&headers, &fixture("start.json")) else {
        panic!("no start");
    };
    assert_eq!(event.delivery_id.as_deref(), Some("StartWebHookPayload/d-1"));
}

#[test]
fn error_names_invalid_field() {
    let error = |document: Value| match parse(&document) {
        Ok(_) => panic!("{document} was accepted"),
        Err(error) => error.message,
    };
    assert_eq!(error(json!({"type": START})), "missing field `callId`");
    assert_eq!(error(json!({"callId": "c"})), "missing field `type`");
    assert_eq!(error(json!({"callId": "c", "type": TOOL})), "missing field `toolName`");
    for name in [json!({}), json!(""), json!("x".repeat(129))] {
        let error = error(json!({"callId": "c", "type": TOOL, "toolName": name}));
        assert!(error.starts_with("`toolName`: "), "{error}");
    }
    // Fields that a document does not use are not checked.
    assert!(parse(&json!({"callId": "c", "type": FAILED, "toolName": {}, "eventType": 5})).is_ok());
    for (field, value) in [
        ("callId", json!(5)),
        ("callId", json!("")),
        ("callId", json!("x".repeat(129))),
        ("type", json!(["x"])),
        ("type", json!("x".repeat(129))),
        ("sip", json!("x")),
        ("endpoint", json!([])),
        ("callAdditionalData", json!("x")),
        ("agentAdditionalData", json!([1])),
    ] {
        let mut document = json!({"type": START, "callId": "c"});
        document[field] = value;
        let error = error(document);
        assert!(error.starts_with(&format!("`{field}`: ")), "{error}");
    }
    let message = |text: &str| {
        adapter(&config(&[]))
            .unwrap()
            .parse(&HeaderMap::new(), text.as_bytes())
            .err()
            .unwrap()
            .message
    };
    assert_eq!(message(r#"{"type":"a","type":"b","callId":"c"}"#), "duplicate field `type`");
    assert!(message("{").starts_with("the body is not JSON"));
}

#[test]
fn long_transcript_is_parsed_quickly() {
    let entry = json!({"speaker": "user", "text": "yes"});
    let document = json!({"type": COMPLETED, "callId": "c", "transcription": vec![entry; MAX_TRANSCRIPT_ENTRIES + 5]});
    let start = Instant::now();
    assert_eq!(events(&document).len(), MAX_TRANSCRIPT_ENTRIES + 1);
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn decision_replies_have_only_known_fields() {
    let body = |settings: &[(&str, &str)], answer: &Answer| -> Value {
        let reply = adapter(&config(settings)).unwrap().decision_reply(answer);
        assert_eq!(reply.status, StatusCode::OK);
        serde_json::from_slice(&reply.body).unwrap()
    };
    let route = |prompt: Option<&str>| Answer::Route {
        sts_url: Some("ws://sts".to_owned()),
        prompt: prompt.map(Into::into),
    };
    assert_eq!(body(&[], &route(None)), json!({"accept": true}));
    assert_eq!(body(&[], &route(Some("p"))), json!({"accept": true, "customPrompt": "p"}));
    let reject = Answer::Reject { reason: "no".into(), sts_url: None };
    assert_eq!(body(&[], &reject), json!({"accept": false, "reasonMessage": "no"}));
    let fallback_answer = Answer::Fallback {
        sts_url: None,
        reason: plugboard_core::outcome::FallbackReason::NoDecision,
    };
    assert_eq!(body(&[], &fallback_answer), json!({"accept": true}));
    let (fallback, prompt, reason) = (
        "PLUGBOARD_BLACKBOX_FALLBACK",
        "PLUGBOARD_BLACKBOX_FALLBACK_PROMPT",
        "PLUGBOARD_BLACKBOX_FALLBACK_REASON",
    );
    assert_eq!(
        body(&[(prompt, "hi")], &fallback_answer),
        json!({"accept": true, "customPrompt": "hi"})
    );
    assert_eq!(
        body(&[(fallback, "reject"), (reason, "later")], &fallback_answer),
        json!({"accept": false, "reasonMessage": "later"})
    );
}

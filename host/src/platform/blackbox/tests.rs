use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::config::{Flags, load};

fn config(settings: &[(&str, &str)]) -> Config {
    let pairs = settings.iter().chain(&[("PLUGBOARD_BLACKBOX_ENABLED", "true")]);
    let pairs = pairs.map(|(name, value)| (name.to_string(), value.to_string()));
    load(Flags::default(), pairs).unwrap().config
}

fn parse(document: &Value) -> Result<Message, BadRequest> {
    read_with(&HeaderMap::new(), document)
}

fn read_with(headers: &HeaderMap, document: &Value) -> Result<Message, BadRequest> {
    dialect(&config(&[])).unwrap().parse(headers, document.to_string().as_bytes())
}

fn fixture(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/blackbox");
    serde_json::from_str(&std::fs::read_to_string(path.join(name)).unwrap()).unwrap()
}

fn start(document: &Value) -> Event {
    match parse(document) {
        Ok(Message::Decide(event)) => event,
        _ => panic!("no start"),
    }
}

fn events(document: &Value) -> Vec<Event> {
    match parse(document) {
        Ok(Message::Events(events)) => events,
        _ => panic!("no events"),
    }
}

fn ending(event: &Event) -> &Ending {
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
fn the_start_of_a_call_has_its_numbers_and_all_that_is_told() {
    let event = start(&fixture("start.json"));
    let call = &event.call;
    assert_eq!(call.id, "call_abc123def456");
    assert_eq!(call.agent.as_deref(), Some("agent_xyz789"));
    assert_eq!(call.from.as_deref(), Some("+14155551234"));
    assert_eq!(call.to.as_deref(), Some("agent-line"));
    assert_eq!(call.metadata("customField").as_deref(), Some("value"));
    assert_eq!(call.metadata("orgId").as_deref(), Some("org_123abc"));
    assert_eq!(event.delivery.as_deref(), Some("StartWebHookPayload/Queued"));
}

#[test]
fn the_number_is_the_other_ends() {
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
fn what_the_platform_says_comes_before_what_others_told_it() {
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
fn a_report_is_what_was_said_and_the_end_of_the_call() {
    let document = fixture("completed.json");
    let events = events(&document);
    let said: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Transcription { role, text } => {
                Some((*role, text.as_str(), event.timestamp_text()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
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
    let Ending { outcome, reason, duration, report } = ending(last);
    assert_eq!((*outcome, *duration), (CallOutcome::Completed, Some(312_000)));
    assert_eq!(reason.as_deref(), Some("user_hangup"));
    assert_eq!(serde_json::from_str::<Value>(report.get()).unwrap(), document);
    // Each is an event of its own, also when the delivery comes again.
    let names: std::collections::BTreeSet<_> =
        events.iter().map(|event| (event.body.kind() as u8, event.delivery.clone())).collect();
    assert_eq!(names.len(), 3);
}

#[test]
fn calls_that_were_not_held_end_as_well() {
    let failed = events(&fixture("failed.json"));
    let Ending { outcome, reason, .. } = ending(&failed[0]);
    assert_eq!(*outcome, CallOutcome::Failed);
    assert_eq!(reason.as_deref(), Some("Call was not answered within timeout period"));
    let deadline = events(&fixture("deadline.json"));
    let Ending { outcome, reason, .. } = ending(&deadline[0]);
    assert_eq!(*outcome, CallOutcome::Canceled);
    assert_eq!(reason.as_deref(), Some("Call deadline expired before execution"));
    assert_eq!(deadline[0].call.metadata("campaignId").as_deref(), Some("Q4_outreach"));
}

#[test]
fn a_report_is_taken_whatever_its_details_are() {
    let odd = events(&json!({
        "type": COMPLETED, "callId": "c", "durationSeconds": "long", "completedTime": 5,
        "result": [], "sip": "x", "endpoint": {}, "callAdditionalData": 7, "agentId": {},
        "transcription": [{"speaker": "user", "text": "a"}, 5, {"speaker": "radio", "text": "b"},
            {"speaker": "assistant"}, {"speaker": "agent", "text": "c", "startTime": "noon"}],
    }));
    assert_eq!(odd.len(), 3);
    let Ending { duration, reason, .. } = ending(&odd[2]);
    assert_eq!((*duration, reason.as_deref()), (None, None));
    assert_eq!(odd[0].timestamp, odd[2].timestamp);
    assert_eq!(events(&json!({"type": FAILED, "callId": "c", "transcription": {}})).len(), 1);
}

#[test]
fn tools_come_in_two_shapes() {
    for (name, arguments) in [("tool.json", "arguments"), ("tool_untyped.json", "toolArguments")] {
        let document = fixture(name);
        let Ok(Message::Tool(used)) = parse(&document) else { panic!("{name}") };
        assert_eq!(used.name, "check_availability");
        let asked: Value = serde_json::from_str(used.arguments.get()).unwrap();
        assert_eq!(asked, document[arguments]);
        assert_eq!(used.call.id, "call_abc123def456");
        // It may be used twice for the same.
        assert!(used.delivery.is_none());
    }
    let Ok(Message::Tool(used)) = parse(&json!({"callId": "c", "toolName": "t"})) else {
        panic!("no tool");
    };
    assert_eq!(used.arguments.get(), "{}");
}

#[test]
fn what_is_new_is_taken_and_told_apart() {
    let document = json!({"type": "UnknownWebHookPayload", "status": "Running", "callId": "c"});
    let names = |document: &Value| events(document)[0].delivery.clone();
    assert_eq!(names(&document), names(&document));
    let mut other = document.clone();
    other["more"] = json!(1);
    assert_ne!(names(&document), names(&other));
    let EventBody::Other { kind, payload } = &events(&other)[0].body else { panic!("known") };
    assert_eq!(kind, "UnknownWebHookPayload");
    assert_eq!(serde_json::from_str::<Value>(payload.get()).unwrap(), other);
    // What older examples have.
    assert!(matches!(parse(&json!({"eventType": START, "callId": "c"})), Ok(Message::Decide(_))));
    assert!(matches!(
        parse(&json!({"eventType": "Other", "type": START, "callId": "c"})),
        Ok(Message::Decide(_))
    ));
}

#[test]
fn a_delivery_has_the_platforms_name_for_it() {
    let mut headers = HeaderMap::new();
    headers.insert(DELIVERY, "d-1".parse().unwrap());
    let Ok(Message::Tool(used)) = read_with(&headers, &fixture("tool.json")) else {
        panic!("no tool");
    };
    assert_eq!(used.delivery.as_deref(), Some("ToolWebHookPayload/d-1"));
    let Ok(Message::Decide(event)) = read_with(&headers, &fixture("start.json")) else {
        panic!("no start");
    };
    assert_eq!(event.delivery.as_deref(), Some("StartWebHookPayload/d-1"));
}

#[test]
fn mistakes_are_told_by_the_name_of_the_field() {
    let error = |document: Value| match parse(&document) {
        Ok(_) => panic!("{document} was taken"),
        Err(error) => error.message,
    };
    assert_eq!(error(json!({"type": START})), "missing field `callId`");
    assert_eq!(error(json!({"callId": "c"})), "missing field `type`");
    assert_eq!(error(json!({"callId": "c", "type": TOOL})), "missing field `toolName`");
    for name in [json!({}), json!(""), json!("x".repeat(129))] {
        let error = error(json!({"callId": "c", "type": TOOL, "toolName": name}));
        assert!(error.starts_with("`toolName`: "), "{error}");
    }
    // What a document does not need is none of its business.
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
        dialect(&config(&[]))
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
fn a_long_transcript_is_read_quickly() {
    let entry = json!({"speaker": "user", "text": "yes"});
    let document =
        json!({"type": COMPLETED, "callId": "c", "transcription": vec![entry; MAX_ENTRIES + 5]});
    let start = Instant::now();
    assert_eq!(events(&document).len(), MAX_ENTRIES + 1);
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn answers_have_nothing_but_what_the_platform_knows() {
    let body = |settings: &[(&str, &str)], answer: &Answer| -> Value {
        let reply = dialect(&config(settings)).unwrap().decision(answer);
        assert_eq!(reply.status, StatusCode::OK);
        serde_json::from_slice(&reply.body).unwrap()
    };
    let route = |prompt: Option<&str>| Answer::Route {
        sts_url: Some("ws://nobody".to_owned()),
        prompt: prompt.map(Into::into),
    };
    assert_eq!(body(&[], &route(None)), json!({"accept": true}));
    assert_eq!(body(&[], &route(Some("p"))), json!({"accept": true, "customPrompt": "p"}));
    let reject = Answer::Reject { reason: "no".into(), sts_url: None };
    assert_eq!(body(&[], &reject), json!({"accept": false, "reasonMessage": "no"}));
    let nobody = Answer::Fallback { sts_url: None, because: crate::router::Undecided::Passed };
    assert_eq!(body(&[], &nobody), json!({"accept": true}));
    let (fallback, prompt, reason) = (
        "PLUGBOARD_BLACKBOX_FALLBACK",
        "PLUGBOARD_BLACKBOX_FALLBACK_PROMPT",
        "PLUGBOARD_BLACKBOX_FALLBACK_REASON",
    );
    assert_eq!(body(&[(prompt, "hi")], &nobody), json!({"accept": true, "customPrompt": "hi"}));
    assert_eq!(
        body(&[(fallback, "reject"), (reason, "later")], &nobody),
        json!({"accept": false, "reasonMessage": "later"})
    );
}

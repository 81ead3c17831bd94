//! Documents of Dasha BlackBox through the real program: responses and observer events.

mod admin;
mod calls;
mod cross_platform;
mod redelivery;
mod signatures;
mod start;
mod transfers;

use serde_json::{Value, json};
use tests::{Collector, PluginFolder, ServerBuilder, blackbox_document, blackbox_fixture};

/// Expected response and events of a fixture document.
struct Expected {
    file: &'static str,
    answer: Value,
    from: Value,
    to: Value,
    metadata: Value,
    /// Kind, timestamp and detail of each event. An empty timestamp is not checked.
    events: Vec<(&'static str, &'static str, Value)>,
}

const NUMBER: &str = "+14155551234";

fn expected() -> Vec<Expected> {
    let document = |file| serde_json::from_str::<Value>(&blackbox_fixture(file)).unwrap();
    let arguments = json!({"date": "2025-10-25", "service": "consultation"});
    let known = json!({"endpoint": NUMBER, "orgId": "org_123abc"});
    let outbound = json!({"endpoint": NUMBER, "callType": "OutboundAudio", "orgId": "org_123abc"});
    let echo = |from: Value, metadata: &Value| {
        json!({
            "tool": "check_availability",
            "call": "call_abc123def456",
            "platform": "blackbox",
            "from": from,
            "to": null,
            "agent": "agent_xyz789",
            "metadata": metadata,
            "arguments": arguments,
        })
    };
    let tool_detail = |answer: &Value| json!({"name": "check_availability", "arguments": arguments, "outcome": {"ok": answer}});
    let end_detail = |outcome: &str, reason: &str, duration: Value, file| {
        json!({
            "outcome": outcome, "reason": reason, "duration_ms": duration, "report": document(file),
        })
    };
    let (typed, untyped) = (echo(json!(NUMBER), &known), echo(json!(null), &json!({})));
    let ok = json!({"status": "ok"});
    let start = document("start.json");
    vec![
        Expected {
            file: "start.json",
            answer: json!({"accept": true}),
            from: json!(NUMBER),
            to: json!("agent-line"),
            metadata: json!({
                "endpoint": NUMBER, "orgId": "org_123abc", "sip": start["sip"],
                "customField": "value",
            }),
            events: vec![
                ("initiated", "", json!({})),
                (
                    "routed",
                    "",
                    json!({"verdict": "route", "prompt": null, "by": "10-good", "sts_url": null}),
                ),
            ],
        },
        Expected {
            file: "tool.json",
            answer: typed.clone(),
            from: json!(NUMBER),
            to: json!(null),
            metadata: known.clone(),
            events: vec![("tool_invoked", "", tool_detail(&typed))],
        },
        Expected {
            file: "tool_untyped.json",
            answer: untyped.clone(),
            from: json!(null),
            to: json!(null),
            metadata: json!({}),
            events: vec![("tool_invoked", "2025-10-20T15:30:15.000Z", tool_detail(&untyped))],
        },
        Expected {
            file: "transfer.json",
            answer: json!({"accept": true, "seen": document("transfer.json")}),
            from: json!(NUMBER),
            to: json!(null),
            metadata: known,
            events: vec![(
                "other",
                "",
                json!({"kind": "TransferWebHookPayload", "payload": document("transfer.json")}),
            )],
        },
        Expected {
            file: "completed.json",
            answer: ok.clone(),
            from: json!(null),
            to: json!(NUMBER),
            metadata: outbound.clone(),
            events: vec![
                (
                    "transcription",
                    "2025-10-20T15:30:05.000Z",
                    json!({"role": "agent", "text": "Hello! How can I help you today?"}),
                ),
                (
                    "transcription",
                    "2025-10-20T15:30:09.000Z",
                    json!({"role": "user", "text": "I'd like to schedule an appointment."}),
                ),
                (
                    "ended",
                    "2025-10-20T15:35:00.000Z",
                    end_detail("completed", "user_hangup", json!(312_000), "completed.json"),
                ),
            ],
        },
        Expected {
            file: "failed.json",
            answer: ok.clone(),
            from: json!(null),
            to: json!(NUMBER),
            metadata: outbound,
            events: vec![(
                "ended",
                "2025-10-20T15:31:00.000Z",
                end_detail(
                    "failed",
                    "Call was not answered within timeout period",
                    json!(null),
                    "failed.json",
                ),
            )],
        },
        Expected {
            file: "deadline.json",
            answer: ok,
            from: json!(null),
            to: json!(NUMBER),
            metadata: json!({
                "endpoint": NUMBER, "callType": "OutboundAudio", "orgId": "org_123abc",
                "campaignId": "Q4_outreach",
            }),
            events: vec![(
                "ended",
                "2025-10-20T18:00:00.000Z",
                end_detail(
                    "canceled",
                    "Call deadline expired before execution",
                    json!(null),
                    "deadline.json",
                ),
            )],
        },
    ]
}

/// Each fixture goes to a new server that has no earlier data of the call.
#[tokio::test]
async fn every_fixture_gets_expected_response_and_events() {
    let expected = expected();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/blackbox");
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".schema.json"));
    assert_eq!(names.len(), expected.len(), "{names:?}");
    for Expected { file, answer, from, to, metadata, events } in expected {
        let collector = Collector::start().await;
        let folder = PluginFolder::with_every_hook(&collector, "");
        let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
        let answered = server.post_blackbox(blackbox_fixture(file)).await;
        assert_eq!((answered.status, &answered.body), (200, &answer), "{file}");
        assert_eq!(answered.headers["content-type"], "application/json");
        let delivered = collector.wait_for(|delivered| delivered.len() >= events.len()).await;
        server.stop();
        assert_eq!(collector.events().len(), events.len(), "{file}: {delivered:?}");
        for (event, (kind, timestamp, detail)) in delivered.iter().zip(events) {
            assert_eq!((&event["kind"], &event["detail"]), (&json!(kind), &detail), "{file}");
            if !timestamp.is_empty() {
                assert_eq!(event["timestamp"], timestamp, "{file} {kind}");
            }
            assert_eq!(event["call"], "call_abc123def456", "{file}");
            assert_eq!(event["platform"], "blackbox");
            assert_eq!(event["agent"], "agent_xyz789");
            assert_eq!((&event["from"], &event["to"]), (&from, &to), "{file} {kind}");
            assert_eq!(event["metadata"], metadata, "{file} {kind}");
        }
    }
}

/// Unknown documents are acknowledged and delivered unchanged.
#[tokio::test]
async fn unknown_types_and_fields_are_accepted() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let long = "x".repeat(128);
    let kinds =
        ["UnknownWebHookPayload", "RecordingReadyWebHookPayload", "startwebhookpayload", &*long];
    for kind in kinds {
        let mut document = blackbox_document("failed.json", "unknown");
        document["type"] = json!(kind);
        document["new"] = json!({"deep": [1, {"a": null}]});
        let answer = server.post_blackbox(document.to_string()).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})), "{kind}");
        let events =
            collector.wait_for(|events| events.iter().any(|it| it["detail"]["kind"] == kind));
        let event = events.await.pop().unwrap();
        assert_eq!(event["kind"], "other");
        assert_eq!(event["detail"], json!({"kind": kind, "payload": document}));
    }
    // A type has 1 to 128 characters.
    for kind in ["", &*"x".repeat(129)] {
        let mut document = blackbox_document("failed.json", "unknown");
        document["type"] = json!(kind);
        let answer = server.post_blackbox(document.to_string()).await;
        assert_eq!(answer.status, 400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("`type`"), "{message}");
    }
    // The older field `eventType` applies only without `type`.
    let mut document = blackbox_document("start.json", "older");
    document["eventType"] = json!("CompletedWebHookPayload");
    assert_eq!(server.post_blackbox(document.to_string()).await.body, json!({"accept": true}));
    let mut document = blackbox_document("start.json", "older-2");
    document["eventType"] = document["type"].take();
    assert_eq!(server.post_blackbox(document.to_string()).await.body, json!({"accept": true}));
    for (file, answer) in [
        ("start.json", json!({"accept": true})),
        ("completed.json", json!({"status": "ok"})),
        ("failed.json", json!({"status": "ok"})),
    ] {
        let mut document = blackbox_document(file, &format!("new fields in {file}"));
        document["a new field"] = json!([[["x"]], 1e3, null]);
        document["result"]["new"] = json!({"x": 1});
        let answered = server.post_blackbox(document.to_string()).await;
        assert_eq!((answered.status, answered.body), (200, answer), "{file}");
    }
}

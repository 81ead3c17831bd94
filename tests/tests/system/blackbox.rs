//! BlackBox's own documents, through the real program: what is answered, and what
//! observers are told.

mod admin;
mod again;
mod both;
mod calls;
mod signatures;
mod start;
mod transfers;

use serde_json::{Value, json};
use tests::{Collector, PluginFolder, ServerBuilder, blackbox_document, blackbox_fixture};

/// What becomes of a fixture.
struct Expected {
    file: &'static str,
    answer: Value,
    from: Value,
    to: Value,
    metadata: Value,
    /// Kind, time and detail of each; no time: now.
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
    let used = |answer: &Value| json!({"name": "check_availability", "arguments": arguments, "outcome": {"ok": answer}});
    let ended = |outcome: &str, reason: &str, duration: Value, file| {
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
            events: vec![("tool_invoked", "", used(&typed))],
        },
        Expected {
            file: "tool_untyped.json",
            answer: untyped.clone(),
            from: json!(null),
            to: json!(null),
            metadata: json!({}),
            events: vec![("tool_invoked", "2025-10-20T15:30:15.000Z", used(&untyped))],
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
                    ended("completed", "user_hangup", json!(312_000), "completed.json"),
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
                ended(
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
                ended(
                    "canceled",
                    "Call deadline expired before execution",
                    json!(null),
                    "deadline.json",
                ),
            )],
        },
    ]
}

/// Each to a program that knows nothing of its call.
#[tokio::test]
async fn every_fixture_is_answered_and_told_field_by_field() {
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
        let told = collector.wait_for(|told| told.len() >= events.len()).await;
        server.stop();
        assert_eq!(collector.events().len(), events.len(), "{file}: {told:?}");
        for (told, (kind, timestamp, detail)) in told.iter().zip(events) {
            assert_eq!((&told["kind"], &told["detail"]), (&json!(kind), &detail), "{file}");
            if !timestamp.is_empty() {
                assert_eq!(told["timestamp"], timestamp, "{file} {kind}");
            }
            assert_eq!(told["call"], "call_abc123def456", "{file}");
            assert_eq!(told["platform"], "blackbox");
            assert_eq!(told["agent"], "agent_xyz789");
            assert_eq!((&told["from"], &told["to"]), (&from, &to), "{file} {kind}");
            assert_eq!(told["metadata"], metadata, "{file} {kind}");
        }
    }
}

/// What is new to us is acknowledged, and told as it stands.
#[tokio::test]
async fn unknown_types_and_fields_are_taken() {
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
        let told = collector.wait_for(|told| told.iter().any(|it| it["detail"]["kind"] == kind));
        let told = told.await.pop().unwrap();
        assert_eq!(told["kind"], "other");
        assert_eq!(told["detail"], json!({"kind": kind, "payload": document}));
    }
    // A name, and not a text.
    for kind in ["", &*"x".repeat(129)] {
        let mut document = blackbox_document("failed.json", "unknown");
        document["type"] = json!(kind);
        let answer = server.post_blackbox(document.to_string()).await;
        assert_eq!(answer.status, 400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("`type`"), "{message}");
    }
    // The older name of the type counts where there is no other.
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

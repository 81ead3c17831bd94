//! Call data that plugins receive: caller and callee in the shared call model, and the
//! data of the start in all later documents of the call.

use std::collections::HashSet;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, PluginFolder, ServerBuilder, blackbox_document, count_distinct};

/// Fields of the document, names of the metadata, caller and callee.
const CASES: &[(&str, &str, Option<&str>, Option<&str>)] = &[
    // SIP only, in both directions.
    (r#"{"sip":{"fromUser":"+391","toUser":"5001"}}"#, "sip", Some("+391"), Some("5001")),
    (
        r#"{"sip":{"fromUser":"5001","toUser":"+391"},"callType":"OutboundAudio"}"#,
        "sip callType",
        Some("5001"),
        Some("+391"),
    ),
    // Endpoint only: the remote party, caller or callee.
    (r#"{"endpoint":"+391"}"#, "endpoint", Some("+391"), None),
    (r#"{"endpoint":"+391","callType":"InboundAudio"}"#, "endpoint callType", Some("+391"), None),
    (r#"{"endpoint":"+391","callType":"OutboundAudio"}"#, "endpoint callType", None, Some("+391")),
    (r#"{"endpoint":"+391","callType":"OutboundChat"}"#, "endpoint callType", None, Some("+391")),
    // SIP has precedence over the endpoint.
    (
        r#"{"endpoint":"+392","sip":{"fromUser":"+391","toUser":"5001"}}"#,
        "endpoint sip",
        Some("+391"),
        Some("5001"),
    ),
    (
        r#"{"endpoint":"+392","sip":{"fromUser":"5001"},"callType":"OutboundAudio"}"#,
        "endpoint sip callType",
        Some("5001"),
        Some("+392"),
    ),
    // Numbers, null, empty texts and absent fields.
    (r#"{"endpoint":391234567890}"#, "endpoint", Some("391234567890"), None),
    (r#"{"endpoint":null,"sip":null,"callType":null}"#, "", None, None),
    (r#"{"sip":{"fromUser":null,"toUser":""}}"#, "sip", None, Some("")),
    (r#"{"sip":{}}"#, "sip", None, None),
    ("{}", "", None, None),
];

#[tokio::test]
async fn caller_and_callee_follow_call_direction() {
    let folder = PluginFolder::new().with_guest("20-tools", "tools");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for (number, (fields, names, from, to)) in CASES.iter().enumerate() {
        let mut document = json!({
            "type": "ToolWebHookPayload", "toolName": "echo", "callId": format!("call {number}"),
        });
        let fields: Value = serde_json::from_str(fields).unwrap();
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let echo = server.post_blackbox(document.to_string()).await.body;
        assert_eq!((&echo["from"], &echo["to"]), (&json!(from), &json!(to)), "{fields}");
        assert_eq!(echo["agent"], json!(null));
        assert_eq!(echo["arguments"], json!({}));
        let metadata = echo["metadata"].as_object().unwrap();
        let mut expected: Vec<_> = names.split_whitespace().collect();
        expected.sort_unstable();
        assert_eq!(metadata.keys().collect::<Vec<_>>(), expected, "{fields}");
        assert!(metadata.iter().all(|(name, value)| fields[name] == *value), "{echo}");
    }
}

#[tokio::test]
async fn platform_fields_override_additional_data_in_metadata() {
    let folder = PluginFolder::new().with_guest("20-tools", "tools");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let body = r#"{
        "type": "ToolWebHookPayload", "toolName": "echo", "callId": "c", "agentId": "a",
        "orgId": "o", "serverJobId": 7,
        "callAdditionalData": {"campaign": "Q4", "n": 1.50, "orgId": "forged", "both": "call"},
        "agentAdditionalData": {"tier": ["gold", {"x": null}], "both": "agent"}
    }"#;
    let echo = server.post_blackbox(body).await.body;
    assert_eq!(echo["agent"], "a");
    let expected = json!({
        "orgId": "o", "serverJobId": 7, "campaign": "Q4", "n": 1.5, "both": "call",
        "tier": ["gold", {"x": null}],
    });
    assert_eq!(echo["metadata"], expected);
    // Settings match metadata by name.
    let folder = PluginFolder::new()
        .with_guest("10-first", "transfers")
        .with_settings("10-first", "[match.metadata]\norgId = 'forged'\n[config]\nanswer = '1'\n")
        .with_guest("20-second", "transfers")
        .with_settings("20-second", "[match.metadata]\nboth = 'agent'\n[config]\nanswer = '2'\n")
        .with_guest("30-third", "transfers")
        .with_settings("30-third", "[match.metadata]\nboth = 'call'\n[config]\nanswer = '3'\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let body = body.replace("ToolWebHookPayload", "TransferWebHookPayload");
    assert_eq!(server.post_blackbox(body).await.text, "3");
}

/// Only the first document of the call has all fields. The server restarts in between.
#[tokio::test]
async fn data_of_start_applies_to_whole_call() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = PluginFolder::with_every_hook(&collector, "");
    let start = || {
        ServerBuilder::new(folder.path()).with_data_folder(work.path()).enable_blackbox().start()
    };
    let mut server = start();
    let begin = blackbox_document("start.json", "remembered");
    assert_eq!(server.post_blackbox(begin.to_string()).await.status, 200);
    let metadata = json!({
        "endpoint": "+14155551234", "orgId": "org_123abc", "sip": begin["sip"],
        "customField": "value",
    });
    let assert_call_data = |event: &Value| {
        assert_eq!(event["call"], "remembered");
        assert_eq!(event["platform"], "blackbox");
        assert_eq!(event["agent"], "agent_xyz789", "{event}");
        assert_eq!(event["from"], "+14155551234", "{event}");
        assert_eq!(event["to"], "agent-line", "{event}");
        assert_eq!(event["metadata"], metadata, "{event}");
    };
    for round in ["before", "after"] {
        // The documents have only the call ID, in both shapes.
        for tool in [
            json!({"toolName": "check_availability", "toolArguments": {"n": round}}),
            json!({"type": "ToolWebHookPayload", "toolName": "check_availability"}),
        ] {
            let mut tool = tool;
            tool["callId"] = json!("remembered");
            let answer = server.post_blackbox(tool.to_string()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_call_data(&answer.body);
        }
        let transfer =
            json!({"type": "TransferWebHookPayload", "callId": "remembered", "n": round});
        assert_eq!(server.post_blackbox(transfer.to_string()).await.body["seen"], transfer);
        if round == "before" {
            // Answers do not wait for the disk. A delivered event has been written.
            collector.wait_for(|events| events.iter().any(|it| it["kind"] == "other")).await;
            server.kill();
            server = start();
        }
    }
    let end = blackbox_document("completed.json", "remembered");
    assert_eq!(server.post_blackbox(end.to_string()).await.status, 200);
    let events = collector.wait_for(|events| events.iter().any(|it| it["kind"] == "ended")).await;
    events.iter().for_each(assert_call_data);
    let mid = ["tool_invoked", "tool_invoked", "other"];
    let expected = [&["initiated", "routed"][..], &mid, &mid, &["transcription"; 2], &["ended"]];
    // A delivery that the kill interrupted is repeated with the same event ID.
    let mut ids = HashSet::new();
    let first: Vec<_> = events.iter().filter(|it| ids.insert(it["id"].to_string())).collect();
    let kinds: Vec<_> = first.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, expected.concat());
}

/// A tool document has no direction of the call, so it sets no data for later events.
#[tokio::test]
async fn tool_document_sets_no_data_for_later_events() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let tool = blackbox_document("tool.json", "middle");
    assert_eq!(server.post_blackbox(tool.to_string()).await.status, 200);
    let end = blackbox_document("completed.json", "middle");
    assert_eq!(server.post_blackbox(end.to_string()).await.status, 200);
    let events = collector.wait_for(|events| events.iter().any(|it| it["kind"] == "ended")).await;
    let find = |kind| events.iter().find(|it| it["kind"] == kind).unwrap();
    let (used, ended) = (find("tool_invoked"), find("ended"));
    assert_eq!((&used["from"], &used["to"]), (&json!("+14155551234"), &Value::Null));
    assert_eq!((&ended["from"], &ended["to"]), (&Value::Null, &json!("+14155551234")));
    assert_eq!(ended["metadata"]["callType"], "OutboundAudio");
}

/// Speakers have several names. Entries of other speakers and malformed entries are in
/// the report only.
#[tokio::test]
async fn transcript_entries_are_delivered_in_order_before_end() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let mut report = blackbox_document("completed.json", "said");
    let at = |second| format!("2025-10-20T15:30:{second:02}.000Z");
    report["transcription"] = json!([
        {"speaker": "assistant", "text": "a", "startTime": at(3)},
        {"speaker": "user", "text": "b", "startTime": at(1)},
        {"speaker": "user", "text": "b", "startTime": at(1)},
        {"speaker": "system", "text": "unheard", "startTime": at(4)},
        "unheard",
        {"speaker": "agent", "text": "c"},
        {"speaker": 5, "text": "unheard"},
        {"speaker": "human", "text": "", "startTime": "yesterday", "confidence": 0.5},
        {"speaker": "bot"},
        {"speaker": "customer", "text": "d\u{0}\n\"", "startTime": "2025-10-20T17:30:09+02:00"},
    ]);
    assert_eq!(server.post_blackbox(report.to_string()).await.status, 200);
    let events = collector.wait_for(|events| events.iter().any(|it| it["kind"] == "ended")).await;
    let entries: Vec<_> = events
        .iter()
        .map(|it| (&it["detail"]["role"], &it["detail"]["text"], it["timestamp"].as_str().unwrap()))
        .collect();
    let (agent, user) = (&json!("agent"), &json!("user"));
    let end = "2025-10-20T15:35:00.000Z";
    assert_eq!(
        entries,
        [
            (agent, &json!("a"), &*at(3)),
            (user, &json!("b"), &at(1)),
            (user, &json!("b"), &at(1)),
            (agent, &json!("c"), end),
            (user, &json!(""), end),
            (user, &json!("d\u{0}\n\""), &at(9)),
            (&json!(null), &json!(null), end),
        ]
    );
    assert_eq!(events[6]["detail"]["report"], report);
    assert_eq!(count_distinct(&events), events.len());
}

//! What observers and plugins are told of a call: who calls whom, in the terms that
//! every platform shares, and what was told first for all that comes later.

use std::collections::HashSet;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, PluginFolder, ServerBuilder, blackbox_document, count_distinct};

/// What is not in the document: who calls whom; the fields of the call.
const CASES: &[(&str, &str, Option<&str>, Option<&str>)] = &[
    // By SIP alone, in both directions.
    (r#"{"sip":{"fromUser":"+391","toUser":"5001"}}"#, "sip", Some("+391"), Some("5001")),
    (
        r#"{"sip":{"fromUser":"5001","toUser":"+391"},"callType":"OutboundAudio"}"#,
        "sip callType",
        Some("5001"),
        Some("+391"),
    ),
    // By the endpoint alone: the other end, whichever that is.
    (r#"{"endpoint":"+391"}"#, "endpoint", Some("+391"), None),
    (r#"{"endpoint":"+391","callType":"InboundAudio"}"#, "endpoint callType", Some("+391"), None),
    (r#"{"endpoint":"+391","callType":"OutboundAudio"}"#, "endpoint callType", None, Some("+391")),
    (r#"{"endpoint":"+391","callType":"OutboundChat"}"#, "endpoint callType", None, Some("+391")),
    // SIP knows it better.
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
    // Numbers as numbers, nothing, and what is nobody's.
    (r#"{"endpoint":391234567890}"#, "endpoint", Some("391234567890"), None),
    (r#"{"endpoint":null,"sip":null,"callType":null}"#, "", None, None),
    (r#"{"sip":{"fromUser":null,"toUser":""}}"#, "sip", None, Some("")),
    (r#"{"sip":{}}"#, "sip", None, None),
    ("{}", "", None, None),
];

#[tokio::test]
async fn who_calls_whom_is_known_in_both_directions() {
    let folder = PluginFolder::new().with_guest("20-tools", "tools");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for (number, (fields, names, from, to)) in CASES.iter().enumerate() {
        let mut document = json!({
            "type": "ToolWebHookPayload", "toolName": "echo", "callId": format!("call {number}"),
        });
        let fields: Value = serde_json::from_str(fields).unwrap();
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let told = server.post_blackbox(document.to_string()).await.body;
        assert_eq!((&told["from"], &told["to"]), (&json!(from), &json!(to)), "{fields}");
        assert_eq!(told["agent"], json!(null));
        assert_eq!(told["arguments"], json!({}));
        let metadata = told["metadata"].as_object().unwrap();
        let mut expected: Vec<_> = names.split_whitespace().collect();
        expected.sort_unstable();
        assert_eq!(metadata.keys().collect::<Vec<_>>(), expected, "{fields}");
        assert!(metadata.iter().all(|(name, value)| fields[name] == *value), "{told}");
    }
}

#[tokio::test]
async fn additional_data_are_metadata_and_the_platforms_own_come_first() {
    let folder = PluginFolder::new().with_guest("20-tools", "tools");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let body = r#"{
        "type": "ToolWebHookPayload", "toolName": "echo", "callId": "c", "agentId": "a",
        "orgId": "o", "serverJobId": 7,
        "callAdditionalData": {"campaign": "Q4", "n": 1.50, "orgId": "forged", "both": "call"},
        "agentAdditionalData": {"tier": ["gold", {"x": null}], "both": "agent"}
    }"#;
    let told = server.post_blackbox(body).await.body;
    assert_eq!(told["agent"], "a");
    let expected = json!({
        "orgId": "o", "serverJobId": 7, "campaign": "Q4", "n": 1.5, "both": "call",
        "tier": ["gold", {"x": null}],
    });
    assert_eq!(told["metadata"], expected);
    // Settings find them by their names.
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

/// A whole call, of which only the first document says everything; before and after
/// the program was started anew.
#[tokio::test]
async fn what_the_start_told_is_known_for_the_whole_call() {
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
    let is_known = |told: &Value| {
        assert_eq!(told["call"], "remembered");
        assert_eq!(told["platform"], "blackbox");
        assert_eq!(told["agent"], "agent_xyz789", "{told}");
        assert_eq!(told["from"], "+14155551234", "{told}");
        assert_eq!(told["to"], "agent-line", "{told}");
        assert_eq!(told["metadata"], metadata, "{told}");
    };
    for round in ["before", "after"] {
        // Nothing but the call's name, in both shapes.
        for tool in [
            json!({"toolName": "check_availability", "toolArguments": {"n": round}}),
            json!({"type": "ToolWebHookPayload", "toolName": "check_availability"}),
        ] {
            let mut tool = tool;
            tool["callId"] = json!("remembered");
            let answer = server.post_blackbox(tool.to_string()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            is_known(&answer.body);
        }
        let transfer =
            json!({"type": "TransferWebHookPayload", "callId": "remembered", "n": round});
        assert_eq!(server.post_blackbox(transfer.to_string()).await.body["seen"], transfer);
        if round == "before" {
            // Nobody in a call waits long for the disk: what was told was written down.
            collector.wait_for(|told| told.iter().any(|it| it["kind"] == "other")).await;
            server.kill();
            server = start();
        }
    }
    let end = blackbox_document("completed.json", "remembered");
    assert_eq!(server.post_blackbox(end.to_string()).await.status, 200);
    let told = collector.wait_for(|told| told.iter().any(|it| it["kind"] == "ended")).await;
    told.iter().for_each(is_known);
    let mid = ["tool_invoked", "tool_invoked", "other"];
    let expected = [&["initiated", "routed"][..], &mid, &mid, &["transcription"; 2], &["ended"]];
    // What was being told when the program ended is told again, as the same.
    let mut known = HashSet::new();
    let first: Vec<_> = told.iter().filter(|it| known.insert(it["id"].to_string())).collect();
    let kinds: Vec<_> = first.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, expected.concat());
}

/// What comes first of a call may not tell all: a tool's document does not say that the
/// platform called.
#[tokio::test]
async fn what_is_seen_in_the_middle_does_not_stand_for_the_beginning() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let tool = blackbox_document("tool.json", "middle");
    assert_eq!(server.post_blackbox(tool.to_string()).await.status, 200);
    let end = blackbox_document("completed.json", "middle");
    assert_eq!(server.post_blackbox(end.to_string()).await.status, 200);
    let told = collector.wait_for(|told| told.iter().any(|it| it["kind"] == "ended")).await;
    let of = |kind| told.iter().find(|it| it["kind"] == kind).unwrap();
    let (used, ended) = (of("tool_invoked"), of("ended"));
    assert_eq!((&used["from"], &used["to"]), (&json!("+14155551234"), &Value::Null));
    assert_eq!((&ended["from"], &ended["to"]), (&Value::Null, &json!("+14155551234")));
    assert_eq!(ended["metadata"]["callType"], "OutboundAudio");
}

/// Other words for the same speakers; who is neither caller nor agent is in the report
/// alone, and so is what is no entry.
#[tokio::test]
async fn a_transcript_is_told_in_its_order_before_the_end() {
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
    let told = collector.wait_for(|told| told.iter().any(|it| it["kind"] == "ended")).await;
    let said: Vec<_> = told
        .iter()
        .map(|it| (&it["detail"]["role"], &it["detail"]["text"], it["timestamp"].as_str().unwrap()))
        .collect();
    let (agent, user) = (&json!("agent"), &json!("user"));
    let end = "2025-10-20T15:35:00.000Z";
    assert_eq!(
        said,
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
    assert_eq!(told[6]["detail"]["report"], report);
    assert_eq!(count_distinct(&told), told.len());
}

//! Malformed documents: each known field with every JSON type, duplicate keys, and bytes
//! that are not UTF-8.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::{Collector, PluginFolder, Server, ServerBuilder, blackbox_document, blackbox_fixture};

use super::{MEASURE_REPORTS, PLATFORM_TIMEOUT, rejection_message};

/// Paths of the fields that the server reads.
const FIELDS: &[&str] = &[
    "type",
    "eventType",
    "callId",
    "status",
    "agentId",
    "endpoint",
    "sip",
    "sip/fromUser",
    "sip/toUser",
    "callType",
    "orgId",
    "serverJobId",
    "callAdditionalData",
    "agentAdditionalData",
    "toolName",
    "arguments",
    "toolArguments",
    "timestamp",
    "createdTime",
    "completedTime",
    "durationSeconds",
    "errorMessage",
    "reasonMessage",
    "result",
    "result/finishReason",
    "transcription",
    "transcription/0/speaker",
    "transcription/0/text",
    "transcription/0/startTime",
];

/// JSON values of every type, with some beyond the range of a type.
const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1.5",
    "1e400",
    "-99999999999999999999999999999999",
    "\"\"",
    "\"x\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "[1,\"x\",null]",
    "{}",
    "{\"a\":1}",
    "{\"a\":{\"a\":[]},\"a\":2}",
];

const FILES: &[&str] = &[
    "start.json",
    "tool.json",
    "tool_untyped.json",
    "transfer.json",
    "completed.json",
    "failed.json",
    "deadline.json",
];

/// Returns a fixture with this JSON text as the value of the field.
fn document_with(file: &str, field: &str, value: &str) -> String {
    let mut document: Value = serde_json::from_str(&blackbox_fixture(file)).unwrap();
    let mut place = &mut document;
    for name in field.split('/') {
        place = match name.parse::<usize>() {
            Ok(nth) => {
                if !place.is_array() {
                    *place = json!([{"speaker": "user", "text": "hello"}]);
                }
                &mut place[nth]
            }
            Err(_) => &mut place[name],
        };
    }
    *place = json!("@@");
    document.to_string().replace("\"@@\"", value)
}

#[tokio::test]
async fn field_of_any_type_is_accepted_or_named() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let mut seen = BTreeMap::<u16, usize>::new();
    let mut slowest = std::time::Duration::ZERO;
    for file in FILES {
        for field in FIELDS {
            for value in VALUES {
                let answer = server.post_blackbox(document_with(file, field, value)).await;
                let case = format!("{file}: {field} = {value}: {answer:?}");
                match answer.status {
                    200 => {}
                    // No tool has this name.
                    404 => {
                        assert!(["toolName", "type", "eventType"].contains(field), "{case}");
                        assert_eq!(answer.body["errorCode"], "UNKNOWN_TOOL", "{case}");
                    }
                    400 => {
                        let message = answer.body["error"]["message"].as_str().unwrap();
                        let name = field.rsplit('/').find(|name| name.parse::<u8>().is_err());
                        let named = message.contains(&format!("{}`", name.unwrap()))
                            || message.contains(&format!("`{}", name.unwrap()));
                        // Half a character or a number out of range is not JSON. The message
                        // then has the position.
                        let place = ["\"\\ud800\"", "1e400"].contains(value)
                            && message.contains("not JSON")
                            && message.contains("at line 1 column ");
                        // The untyped shape without its tool is an unknown type.
                        let other = *file == "tool_untyped.json" && message.contains("`type`");
                        assert!(named || place || other, "{case}");
                        // The platform does not send a report again, so errors in its details
                        // do not reject it.
                        let is_report =
                            ["completed.json", "failed.json", "deadline.json"].contains(file);
                        let identifying = ["type", "eventType", "callId", "toolName"];
                        assert!(!is_report || identifying.contains(field), "{case}");
                    }
                    _ => panic!("{case}"),
                }
                assert!(answer.elapsed < PLATFORM_TIMEOUT, "{case}");
                *seen.entry(answer.status).or_default() += 1;
                slowest = slowest.max(answer.elapsed);
            }
        }
    }
    println!("{seen:?}, within {slowest:?}");
    assert!(seen[&400] > 100 && seen[&200] > 1_000, "{seen:?}");
    server.stop();
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

#[tokio::test]
async fn missing_field_is_named() {
    let server = ServerBuilder::new(PluginFolder::new().path()).enable_blackbox().start();
    for (file, field, code) in [
        ("start.json", "callId", 400),
        ("start.json", "type", 400),
        ("tool.json", "toolName", 400),
        ("tool_untyped.json", "toolName", 400),
        ("completed.json", "callId", 400),
        ("completed.json", "status", 200),
        ("completed.json", "transcription", 200),
        ("start.json", "sip", 200),
    ] {
        let mut document: Value = serde_json::from_str(&blackbox_fixture(file)).unwrap();
        document.as_object_mut().unwrap().remove(field).unwrap();
        let answer = server.post_blackbox(document.to_string()).await;
        assert_eq!(answer.status, code, "{file} {field}: {answer:?}");
        if code == 400 {
            // The untyped shape is recognized by its tool.
            let field = if file == "tool_untyped.json" { "type" } else { field };
            assert!(rejection_message(&answer).contains(&format!("`{field}`")), "{answer:?}");
        }
    }
    for (id, status) in [("", 400), ("x", 200), (&"x".repeat(128), 200), (&"x".repeat(129), 400)] {
        let answer = server.post_blackbox(blackbox_document("failed.json", id).to_string()).await;
        assert_eq!(answer.status, status, "{id}");
        assert!(status == 200 || rejection_message(&answer).contains("`callId`"));
    }
    for body in ["[]", "1", "null", "true", "\"text\"", "{}", "[{\"callId\":\"c\"}]"] {
        rejection_message(&server.post_blackbox(body).await);
    }
}

#[tokio::test]
async fn duplicate_keys_are_rejected_in_read_fields() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let post_duplicate = |file, key, first, second| {
        let body = document_with(file, key, &format!("{first},\"{key}\":{second}"));
        server.post_blackbox(body)
    };
    for file in FILES {
        for (key, value) in
            [("callId", "\"c\""), ("type", "\"StartWebHookPayload\""), ("agentId", "\"a\"")]
        {
            let answer = post_duplicate(file, key, value, value).await;
            assert!(
                rejection_message(&answer).contains(&format!("`{key}`")),
                "{file} {key}: {answer:?}"
            );
        }
        // The server does not read this field.
        let answer = post_duplicate(file, "inspectorUrl", "1", "2").await;
        assert_eq!(answer.status, 200, "{file}: {answer:?}");
    }
    // In a nested object, duplicate keys reject a start, and a report loses the object.
    let sip = "{\"fromUser\":\"1\",\"fromUser\":\"2\"}";
    let answer = server.post_blackbox(document_with("start.json", "sip", sip)).await;
    let reason = rejection_message(&answer);
    assert!(reason.contains("`sip`") && reason.contains("`fromUser`"), "{reason}");
    assert_eq!(server.post_blackbox(document_with("failed.json", "sip", sip)).await.status, 200);
    let half = "{\"\\ud800\":1}";
    let answer =
        server.post_blackbox(document_with("start.json", "callAdditionalData", half)).await;
    assert!(
        rejection_message(&answer).starts_with("`callAdditionalData` is not JSON"),
        "{answer:?}"
    );
    // In additional data duplicate keys are accepted, and the first one applies.
    let data = "{\"a\":1,\"a\":2,\"endpoint\":\"forged\"}";
    let answer = server.post_blackbox(document_with("tool.json", "callAdditionalData", data)).await;
    assert_eq!(answer.status, 200);
}

async fn post(server: &Server, body: &[u8]) -> tests::ServerResponse {
    server.post_blackbox(body.to_vec()).await
}

#[tokio::test]
async fn invalid_utf8_and_invalid_json_are_rejected() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let start = blackbox_fixture("start.json");
    let wide: Vec<u8> = start.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cut = start.trim_end().strip_suffix('}').unwrap();
    for body in [
        &b""[..],
        b" ",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{",
        b"}",
        b"hello",
        b"{\"callId\":\"c\"",
        b"{'callId':'c'}",
        b"{\"callId\":\"c\",}",
        b"callId=c&type=StartWebHookPayload",
        b"<xml/>",
        &wide,
        cut.as_bytes(),
        format!("{start}{start}").as_bytes(),
        format!("{start}\0").as_bytes(),
        start.replace("\"Queued\"", "NaN").as_bytes(),
        start.replace("Queued", "a\nb").as_bytes(),
        start.replace("Queued", "a\0b").as_bytes(),
    ] {
        let answer = post(&server, body).await;
        let reason = rejection_message(&answer);
        assert!(reason.contains("not JSON"), "{}: {reason}", String::from_utf8_lossy(body));
    }
    // Invalid UTF-8 in every part of a document.
    let bytes = |file: &str, from: &str, to: &[u8]| {
        let text = blackbox_fixture(file);
        let at = text.find(from).unwrap();
        [&text.as_bytes()[..at], to, &text.as_bytes()[at + from.len()..]].concat()
    };
    for (file, from) in [
        ("start.json", "call_abc"),
        ("start.json", "StartWeb"),
        ("start.json", "customField"),
        ("start.json", "sip.provider"),
        ("tool.json", "check_avail"),
        ("tool.json", "consultation"),
        ("tool_untyped.json", "consultation"),
        ("transfer.json", "org_123abc"),
        ("transfer.json", "Running"),
        ("completed.json", "positive"),
        ("completed.json", "recordingUrl"),
        ("failed.json", "https://"),
        ("deadline.json", "Q4_outreach"),
    ] {
        for to in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x28\x8c\xbc", b"caf\xe9"] {
            let answer = post(&server, &bytes(file, from, to)).await;
            rejection_message(&answer);
        }
    }
    // Escape sequences are valid text.
    let odd = start.replace("call_abc123def456", "\\u0000\\n\\ud83d\\ude00'\\\"%00/../");
    assert_eq!(post(&server, odd.as_bytes()).await.body, json!({"accept": true}));
    let id = "\u{0}\n😀'\"%00/../";
    let tool = json!({"toolName": "check_availability", "callId": id}).to_string();
    let echo = post(&server, tool.as_bytes()).await.body;
    assert_eq!((&echo["call"], &echo["to"]), (&json!(id), &json!("agent-line")));
    collector
        .wait_for(|events| events.len() >= 3 && events.iter().all(|it| it["call"] == id))
        .await;
    server.stop();
}

/// Numbers beyond the range of any type, and objects of 100,000 fields.
#[tokio::test]
async fn huge_numbers_and_many_fields_are_accepted() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let digits = "9".repeat(100_000);
    for file in FILES {
        for (field, number) in [
            ("durationSeconds", "1e400"),
            ("durationSeconds", "-5"),
            ("durationSeconds", &*digits),
            ("callAdditionalData/n", &digits),
            ("new", "-1E+999999999999"),
            ("endpoint", &digits),
        ] {
            let answer = server.post_blackbox(document_with(file, field, number)).await;
            assert_eq!(answer.status, 200, "{file} {field}: {answer:?}");
        }
    }
    let fields: Vec<_> = (0..100_000).map(|nth| format!("\"field {nth}\":{nth}")).collect();
    let fields = format!("{{{}}}", fields.join(","));
    for file in FILES {
        let mut took = Vec::new();
        for field in ["callAdditionalData", "agentAdditionalData", "new", "result"] {
            let body = document_with(file, field, &fields);
            let body = body.replace("call_abc123def456", &format!("{field} of {file}"));
            let answer = server.post_blackbox(body).await;
            assert_eq!(answer.status, 200, "{file} {field}: {answer:?}");
            assert!(answer.elapsed < PLATFORM_TIMEOUT, "{file} {field}: {:?}", answer.elapsed);
            took.push(answer.elapsed);
        }
        println!("100,000 fields in {file}: {took:?}");
    }
    // Other requests are served as before.
    let answer = server.post_blackbox(blackbox_fixture("start.json")).await;
    assert_eq!(answer.body, json!({"accept": true}));
}

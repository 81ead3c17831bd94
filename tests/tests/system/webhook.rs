//! Webhooks of AVR and DSAI, and the answers to them.

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
    call_initiated_for, fixture,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PLAN: &str = "[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n\
                    '50*' = 'ws://avr-sts-gemini:6037/?uuid={id}&to={to}'\n";

fn plan() -> PluginFolder {
    PluginFolder::new()
        .with_sample("10-number-plan", "10-number-plan")
        .with_settings("10-number-plan", PLAN)
}

fn error(answer: &tests::ServerResponse) -> (u16, &str, &str) {
    let error = &answer.body["error"];
    (answer.status, error["code"].as_str().unwrap(), error["message"].as_str().unwrap())
}

#[tokio::test]
async fn call_is_routed_by_number_plan() {
    let folder = plan();
    let server = ServerBuilder::new(folder.path()).start();
    let answer = server.post(call_initiated()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        json!({"sts_url": "ws://avr-sts-openai:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265"})
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-status"], "plugboard; fwd=miss");
    let timing = answer.headers["server-timing"].to_str().unwrap();
    assert!(timing.strip_prefix("decide;dur=").unwrap().parse::<f64>().unwrap() > 0.0);

    let answer = server.post(fixture("call_initiated_recording.json")).await;
    assert_eq!(
        answer.sts_url(),
        Some("ws://avr-sts-gemini:6037/?uuid=0f8fad5b-d9cb-469f-a165-70867728950e&to=5003")
    );
    // No plugin routes this number, and there is no fallback.
    let answer = server.post(call_initiated_for("u", "9999")).await;
    assert_eq!((answer.status, answer.body), (200, json!({})));
    assert_eq!(server.get("/health").await.body, json!({"status": "ok"}));
}

#[tokio::test]
async fn sample_plugins_work_with_sample_settings() {
    let settings = |name: &str| {
        let plugins = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
        std::fs::read_to_string(plugins.join(name).join(name).with_extension("toml")).unwrap()
    };
    let folder = PluginFolder::new()
        .with_sample("10-number-plan", "10-number-plan")
        .with_settings("10-number-plan", &settings("number-plan"))
        .with_sample("20-ab-split", "20-ab-split")
        .with_settings("20-ab-split", &settings("ab-split"));
    let server = ServerBuilder::new(folder.path()).start();
    let answer = server.post(call_initiated()).await;
    assert!(answer.sts_url().unwrap().starts_with("ws://avr-sts-openai:6030/"), "{answer:?}");
    let mut targets = std::collections::BTreeSet::new();
    for call in 0..60 {
        let body = call_initiated_for(&format!("call-{call}"), "7000");
        let first = server.post(body.clone()).await;
        assert_eq!(first.body, server.post(body).await.body);
        targets.insert(first.sts_url().unwrap().split('?').next().unwrap().to_owned());
    }
    let expected = ["ws://avr-sts-gemini:6037/", "ws://avr-sts-openai:6030/"];
    assert_eq!(targets.iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn other_events_are_acknowledged() {
    let folder = plan();
    let server = ServerBuilder::new(folder.path()).start();
    for event in
        ["call_started", "call_ended", "dtmf_digit", "error", "interruption", "transcription"]
    {
        let answer = server.post(fixture(&format!("{event}.json"))).await;
        assert_eq!((answer.status, answer.body), (200, json!({"status": "ok"})), "{event}");
    }
    let novelty = fixture("call_ended.json").replace("call_ended", "call_paused");
    assert_eq!(server.post(novelty).await.status, 200);
    assert_eq!(server.plugin_status("10-number-plan").await["calls"], 0);
}

/// Text from callers changes neither host, path nor names of parameters.
#[tokio::test]
async fn hostile_caller_changes_only_values() {
    let folder = PluginFolder::new().with_guest("10-echoes", "echoes");
    let mut server = ServerBuilder::new(folder.path()).env("PLUGBOARD_LOG_LEVEL", "info").start();
    let answer = server.post(fixture("call_initiated_hostile_caller.json")).await;
    assert_eq!(
        answer.sts_url(),
        Some(
            "ws://sts-echo:6030/calls/5001?uuid=7c9e6679-7425-40de-944b-e07fc1f90ae7\
             &from=x%26sts_url%3Dws%3A%2F%2Fevil.example%3A1%2F%3F%0D%0AHost%3A%20evil%20%23%7Bid%7D%2500\
             &channel=PJSIP%2F2000-00000014"
        )
    );
    let hostile = [
        "..", ".", "%2e%2e", "../../x", "a/b", "a?b=c", "a#b", "a\\b", "a@evil", "\u{0}", "é",
        "{id}", "a b", "\r\nX: y", "&a=b", "5001;x",
    ];
    for (field, other) in [("to", "from"), ("from", "to")] {
        for text in hostile {
            let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
            body["payload"][field] = json!(text);
            body["payload"][other] = json!("1");
            let answer = server.post(body.to_string()).await;
            assert_eq!(answer.status, 200);
            // A dot segment in the path makes the URL invalid, so the answer has none.
            if field == "to" && [".", ".."].contains(&text) {
                assert_eq!(answer.body, json!({}), "{text}");
                continue;
            }
            let url = reqwest::Url::parse(answer.sts_url().unwrap()).unwrap();
            assert_eq!((url.host_str(), url.port()), (Some("sts-echo"), Some(6030)), "{text}");
            let path: Vec<_> = url.path_segments().unwrap().collect();
            assert_eq!((path.len(), path[0]), (2, "calls"), "{text}: {url}");
            let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
            assert_eq!(names, ["uuid", "from", "channel"], "{text}: {url}");
            assert_eq!(url.fragment(), None);
            let from = url.query_pairs().nth(1).unwrap().1.into_owned();
            assert_eq!(from, if field == "from" { text } else { "1" });
        }
    }
    server.post(fixture("call_initiated_recording.json")).await;
    let log = server.stop();
    for text in ["evil", "1234567", "PJSIP", "sts-echo"] {
        assert!(!log.contains(text), "{text} is in {log}");
    }
}

#[tokio::test]
async fn first_decision_of_matching_plugins_wins() {
    let folder = PluginFolder::new()
        .with_guest("10-passes", "passes")
        .with_guest("20-other-platform", "rejects")
        .with_settings("20-other-platform", "platforms = ['dsai', 'blackbox']\n")
        .with_guest("30-other-number", "rejects")
        .with_settings("30-other-number", "[match]\nto = ['6*', '700[1-3]']\n")
        .with_guest("40-disabled", "rejects")
        .with_settings("40-disabled", "enabled = false\n")
        .with_guest("50-good", ROUTING_GUEST)
        .with_guest("60-never", "traps");
    let server = ServerBuilder::new(folder.path()).start();
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let calls = async |name| server.plugin_status(name).await["calls"].as_u64().unwrap();
    assert_eq!(calls("10-passes").await, 1);
    assert_eq!(calls("20-other-platform").await, 0);
    assert_eq!(calls("30-other-number").await, 0);
    assert_eq!(calls("60-never").await, 0);
    assert_eq!(server.plugin_status("40-disabled").await["state"], "disabled");
    // Plugin 30 rejects these calls, so plugin 50 does not run.
    for to in ["6", "7002"] {
        assert_eq!(server.post(call_initiated_for("u", to)).await.body, json!({}));
    }
    assert_eq!(calls("30-other-number").await, 2);
    assert_eq!(calls("50-good").await, 1);
    let decided = server.wait_for_log(|line| line["decision"] == "route");
    assert_eq!(decided["plugin"], "50-good");
    assert_eq!(decided["call"], "935652e3-7c59-4edc-b17f-9646a9c2a265");
}

#[tokio::test]
async fn dsai_is_separate_platform() {
    let folder = PluginFolder::new()
        .with_guest("10-dsai", ROUTING_GUEST)
        .with_settings("10-dsai", "platforms = ['dsai']\n[match]\nagent = 'sales-*'\n");
    let server = ServerBuilder::new(folder.path()).start();
    let client = tests::client();
    let post =
        async |headers: &[_]| server.post_with_client(&client, headers, call_initiated()).await;
    assert_eq!(post(&[("x-dsai-agent-id", "sales-1")]).await.sts_url(), Some(ROUTING_GUEST_URL));
    assert_eq!(post(&[("x-dsai-agent-id", "support")]).await.sts_url(), None);
    assert_eq!(post(&[("x-avr-agent-id", "sales-1")]).await.sts_url(), None);
}

#[tokio::test]
async fn failing_plugin_can_stop_chain() {
    let folder = PluginFolder::new()
        .with_guest("10-bad", "traps")
        .with_settings("10-bad", "on_failure = 'stop'\n")
        .with_guest("20-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_FALLBACK_STS_URL", "ws://sts-fallback/")
        .start();
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-fallback/"));
    let decided = server.wait_for_log(|line| line["decision"] == "stopped");
    assert_eq!(decided["plugin"], "10-bad");
}

#[tokio::test]
async fn rejected_call_uses_reject_sts_url() {
    let folder = PluginFolder::new().with_guest("10-rejects", "rejects");
    let setup = || {
        ServerBuilder::new(folder.path()).env("PLUGBOARD_FALLBACK_STS_URL", "ws://sts-fallback/")
    };
    let server = setup().env("PLUGBOARD_REJECT_STS_URL", "ws://sts-closed/{id}").start();
    let answer = server.post(call_initiated()).await;
    assert_eq!(answer.sts_url(), Some("ws://sts-closed/935652e3-7c59-4edc-b17f-9646a9c2a265"));
    // Without `reject_sts_url`, the fallback applies, and the log has a warning.
    let server = setup().start();
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-fallback/"));
    let has_message =
        |line: &Value, text| line["message"].as_str().is_some_and(|it| it.contains(text));
    let warning = server.wait_for_log(|line| has_message(line, "the platform cannot reject"));
    assert_eq!((&warning["level"], &warning["plugin"]), (&json!("WARN"), &json!("10-rejects")));
    let decided = server.wait_for_log(|line| has_message(line, "decided"));
    assert_eq!(decided["decision"], "reject");
    let decisions = &server.plugin_status("10-rejects").await["decisions"];
    assert_eq!(*decisions, json!({"pass": 0, "route": 0, "reject": 1}));
}

#[tokio::test]
async fn sts_hosts_can_be_restricted() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let with =
        |hosts| ServerBuilder::new(folder.path()).env("PLUGBOARD_ALLOWED_STS_HOSTS", hosts).start();
    assert_eq!(with("sts-good").post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let server = with("sts-other,*.example.com");
    assert_eq!(server.post(call_initiated()).await.body, json!({}));
    assert_eq!(server.plugin_status("10-good").await["last_error"]["label"], "invalid_url");
}

#[tokio::test]
async fn body_is_not_parsed_without_secret() {
    let folder = plan();
    let mut server = ServerBuilder::new(folder.path()).env("WEBHOOK_SECRET", "s3cret").start();
    let client = tests::client();
    let post =
        async |headers: &[_], body: String| server.post_with_client(&client, headers, body).await;
    for headers in [
        &[][..],
        &[("x-avr-webhook-secret", "")],
        &[("x-avr-webhook-secret", "wrong")],
        &[("x-avr-webhook-secret", "s3cret"), ("x-dsai-webhook-secret", "wrong")],
    ] {
        for body in [call_initiated(), "not json".to_owned()] {
            let answer = post(headers, body).await;
            assert_eq!(error(&answer).0, 401, "{headers:?}");
            assert_eq!(error(&answer).1, "unauthorized");
        }
    }
    // The server neither reads the body nor checks its length.
    let mut stream = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    for headers in [
        &[("x-avr-webhook-secret", "s3cret")][..],
        &[("X-DSAI-WEBHOOK-SECRET", "s3cret")],
        &[("x-avr-webhook-secret", "s3cret"), ("x-dsai-webhook-secret", "s3cret")],
    ] {
        assert_eq!(post(headers, call_initiated()).await.status, 200, "{headers:?}");
    }
    assert_eq!(server.get("/health").await.status, 200);
    assert!(!server.stop().contains("s3cret"));
}

#[tokio::test]
async fn invalid_input_is_rejected_with_field_name() {
    let folder = plan();
    let server = ServerBuilder::new(folder.path()).start();
    for body in ["", "{", "hello", "{\"uuid\":"] {
        let answer = server.post(body).await;
        let (status, code, message) = error(&answer);
        assert_eq!((status, code), (400, "bad_request"), "{body}");
        assert!(message.contains("not JSON"), "{message}");
    }
    let good: Value = serde_json::from_str(&fixture("transcription.json")).unwrap();
    for field in ["uuid", "type", "timestamp", "payload"] {
        for wrong in [None, Some(json!(5)), Some(json!(null)), Some(json!("x"))] {
            if (field, &wrong) == ("uuid", &Some(json!("x")))
                || (field, &wrong) == ("type", &Some(json!("x")))
            {
                continue;
            }
            let mut body = good.clone();
            match &wrong {
                None => _ = body.as_object_mut().unwrap().remove(field),
                Some(wrong) => body[field] = wrong.clone(),
            }
            let answer = server.post(body.to_string()).await;
            let (status, code, message) = error(&answer);
            assert_eq!((status, code), (400, "bad_request"), "{field} {wrong:?}");
            assert!(message.contains(&format!("`{field}`")), "{field} {wrong:?}: {message}");
        }
    }
    let mut body = good.clone();
    body["payload"]["text"] = json!(["a"]);
    let answer = server.post(body.to_string()).await;
    assert!(error(&answer).2.contains("`payload.text`"), "{answer:?}");

    let limit = 1 << 20;
    let padded = |length: usize| {
        let mut body = call_initiated();
        let padding = " ".repeat(length - body.len());
        body.push_str(&padding);
        body
    };
    assert_eq!(server.post(padded(limit)).await.status, 200);
    let answer = server.post(padded(limit + 1)).await;
    assert_eq!((error(&answer).0, error(&answer).1), (413, "body_too_large"));
    // The limit also applies to a body without a length.
    let answer = post_in_chunks(&server, padded(limit + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let answer = server.get("/nowhere").await;
    assert_eq!((error(&answer).0, error(&answer).1), (404, "not_found"));
    let answer = server.get("/events").await;
    assert_eq!((error(&answer).0, error(&answer).1), (405, "method_not_allowed"));
}

/// Posts a body in chunks, without its length. Returns the start of the answer.
async fn post_in_chunks(server: &Server, body: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in body.as_bytes().chunks(64 * 1024) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        if stream.write_all(&framed).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

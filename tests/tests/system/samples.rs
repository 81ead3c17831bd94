//! Sample plugins with their own settings, in which the addresses are those of a collector
//! that records requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder,
    call_initiated, call_initiated_for, event, fixture, user_transcription,
};

const CALL: &str = "935652e3-7c59-4edc-b17f-9646a9c2a265";

/// Returns a sample's own settings with some texts replaced. Each text must be present.
fn settings(sample: &str, changes: &[(&str, &str)]) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins");
    let text = std::fs::read_to_string(format!("{root}/{sample}/{sample}.toml")).unwrap();
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in:\n{text}");
        text.replacen(from, to, 1)
    })
}

/// Posts an event, and asserts that the server acknowledges it.
async fn post(server: &Server, body: String) {
    let answer = server.post(body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
}

fn turn(call: &str, nth: u32, role: &str, text: &str) -> String {
    event(call, "transcription", nth, &json!({"role": role, "text": text}))
}

/// Returns a plugin's stored values with their keys.
fn values(data: &TempDir, plugin: &str) -> Vec<(String, Value)> {
    let db = rusqlite::Connection::open(data.path().join("plugboard.db")).unwrap();
    let mut rows =
        db.prepare("SELECT key, value FROM kv WHERE namespace = ? ORDER BY key").unwrap();
    let rows = rows.query_map([plugin], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)));
    rows.unwrap()
        .map(Result::unwrap)
        .map(|(k, v)| (k, serde_json::from_slice(&v).unwrap()))
        .collect()
}

// Tests of the sample `crm-lookup`.

/// Creates a folder with `crm-lookup`, which queries this address, before a plugin that
/// routes every call.
fn with_crm(address: &str, more: &[(&str, &str)]) -> PluginFolder {
    let place = ("crm.example.com:8080", address);
    let changes = [&[("enabled = false", ""), place, place][..], more].concat();
    PluginFolder::new()
        .with_sample("30-crm-lookup", "30-crm-lookup")
        .with_settings("30-crm-lookup", &settings("crm-lookup", &changes))
        .with_guest("90-good", ROUTING_GUEST)
}

fn call_from(uuid: &str, from: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated_for(uuid, "5001")).unwrap();
    body["payload"]["from"] = json!(from);
    body.to_string()
}

#[tokio::test]
async fn crm_lookup_routes_vip_and_queries_number_once() {
    let crm = Collector::start().await;
    let server = ServerBuilder::new(with_crm(&crm.address(), &[]).path()).start();
    let default_url = |uuid| ROUTING_GUEST_URL.replace(CALL, uuid);
    crm.respond_with(200, &[], r#"{"vip": true, "name": "Ada"}"#);
    for (nth, uuid) in ["first", "second", "third"].into_iter().enumerate() {
        let answer = server.post(call_from(uuid, "4930123")).await;
        let vip = format!("ws://avr-sts-openai:6030/?uuid={uuid}");
        assert_eq!(answer.sts_url(), Some(&*vip));
        let cache = if nth == 0 { "plugboard; fwd=miss" } else { "plugboard; hit" };
        assert_eq!(answer.headers["cache-status"], cache);
        let prompt = server.get_with_headers("/instructions", &[("X-AVR-UUID", uuid)]).await.body;
        assert!(prompt["system"].as_str().unwrap().contains("very important"), "{prompt}");
    }
    assert_eq!(crm.requests().len(), 1);
    assert_eq!(crm.requests()[0].uri, "/callers?number=4930123");
    crm.respond_with(200, &[], r#"{"vip": false}"#);
    for uuid in ["a", "b"] {
        assert_eq!(server.post(call_from(uuid, "2000")).await.sts_url(), Some(&*default_url(uuid)));
        let headers = [("X-AVR-UUID", uuid)];
        assert_eq!(server.get_with_headers("/instructions", &headers).await.status, 404);
    }
    crm.respond_with(404, &[], "");
    for uuid in ["c", "d"] {
        assert_eq!(server.post(call_from(uuid, "2001")).await.sts_url(), Some(&*default_url(uuid)));
    }
    assert_eq!(crm.requests().len(), 3);
    // A call without a caller's number causes no query.
    assert_eq!(server.post(call_from("e", "")).await.sts_url(), Some(&*default_url("e")));
    assert_eq!(crm.requests().len(), 3);
}

#[tokio::test]
async fn caller_number_stays_one_query_value() {
    let crm = Collector::start().await;
    let server = ServerBuilder::new(with_crm(&crm.address(), &[]).path()).start();
    crm.respond_with(200, &[], r#"{"vip": true}"#);
    for (caller, sent) in [
        ("+49 30 123", "%2B49%2030%20123"),
        ("1&number=2000&vip=1", "1%26number%3D2000%26vip%3D1"),
        ("2#fragment", "2%23fragment"),
        ("3?a/../b", "3%3Fa%2F..%2Fb"),
        ("4%26\r\nHost: x", "4%2526%0D%0AHost%3A%20x"),
        ("Zoë ☎", "Zo%C3%AB%20%E2%98%8E"),
    ] {
        assert!(server.post(call_from("call", caller)).await.sts_url().is_some());
        let request = crm.requests().pop().unwrap();
        assert_eq!(request.uri, *format!("/callers?number={sent}"));
        assert_eq!(request.headers["host"], crm.address());
    }
    let hostile = fixture("call_initiated_hostile_caller.json");
    let uuid = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    let vip = format!("ws://avr-sts-openai:6030/?uuid={uuid}");
    assert_eq!(server.post(hostile).await.sts_url(), Some(&*vip));
    let query = crm.requests().pop().unwrap().uri.query().unwrap().to_owned();
    assert!(query.starts_with("number=x%26sts_url%3Dws"), "{query}");
    assert!(!query["number=".len()..].contains(['&', '=', '#', '?']), "{query}");
    let log = server.log_text();
    assert!(!log.contains("number=") && !log.contains("evil"), "{log}");
}

#[tokio::test]
async fn failed_crm_query_follows_on_failure_setting() {
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let crm = Collector::start().await;
    for (address, stop) in
        [(unreachable.to_string(), false), (unreachable.to_string(), true), (crm.address(), false)]
    {
        crm.respond_with(500, &[], "{\"vip\": true}");
        let stop_instead = [("on_failure = \"pass\"", "on_failure = \"stop\"")];
        let folder = with_crm(&address, if stop { &stop_instead } else { &[] });
        let fallback = "ws://fallback/";
        let server =
            ServerBuilder::new(folder.path()).env("PLUGBOARD_FALLBACK_STS_URL", fallback).start();
        for _ in 0..3 {
            let expected = if stop { fallback } else { ROUTING_GUEST_URL };
            assert_eq!(server.route_call().await.as_deref(), Some(expected));
        }
        // The cache does not store a failure.
        assert_eq!(server.plugin_status("30-crm-lookup").await["failures"], 3);
    }
    assert_eq!(crm.requests().len(), 3);
    let server = ServerBuilder::new(with_crm(&crm.address(), &[]).path()).start();
    for (status, body) in [(200, ""), (200, "{}"), (200, "{\"vip\": \"yes\"}"), (204, "")] {
        crm.respond_with(status, &[], body);
        assert_eq!(server.route_call().await.as_deref(), Some(ROUTING_GUEST_URL));
    }
    crm.respond_with(200, &[], "{\"vip\": true}");
    let vip = format!("ws://avr-sts-openai:6030/?uuid={CALL}");
    assert_eq!(server.route_call().await, Some(vip));
}

// Tests of the sample `call-analytics`.

#[tokio::test]
async fn call_analytics_counts_call_across_restarts() {
    let data = TempDir::new().unwrap();
    let name = "50-call-analytics";
    let folder = PluginFolder::new().with_sample(name, name);
    let folder = folder.with_settings(name, &settings("call-analytics", &[]));
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    server.post(call_initiated()).await;
    post(&server, event(CALL, "call_started", 1_000, &json!({}))).await;
    for nth in 0..10 {
        let role = if nth % 2 == 0 { "agent" } else { "user" };
        post(&server, turn(CALL, 2_000 + nth, role, "secret words")).await;
        // Each kill interrupts another state of the delivery.
        if nth % 3 == 0 {
            server.kill();
            server = start();
        }
    }
    post(&server, event(CALL, "interruption", 5_000, &json!({}))).await;
    server.stop();
    let mut server = start();
    post(&server, event(CALL, "call_ended", 63_500, &json!({}))).await;
    let series = |metric: &str| {
        format!("plugboard_guest_50_call_analytics_{metric}{{plugin=\"{name}\",platform=\"avr\"}}")
    };
    server.wait_for_metric(&series("interruptions_total"), 1).await;
    for (metric, value) in [("calls_total", 1), ("turns_total", 10), ("interruptions_total", 1)] {
        assert_eq!(server.metric_value(&series(metric)).await, Some(value), "{metric}");
    }
    let text = server.metrics_text().await;
    let seconds =
        |part: &str, value: &str| format!("{} {value}\n", series(&format!("call_seconds_{part}")));
    assert!(text.contains(&seconds("sum", "62.5")), "{text}");
    assert!(text.contains(&seconds("count", "1")), "{text}");
    // A second end of the call does not count again. Another call counts.
    post(&server, event(CALL, "call_ended", 63_600, &json!({}))).await;
    post(&server, event("other", "call_started", 1, &json!({}))).await;
    post(&server, turn("other", 2, "user", "secret words")).await;
    post(&server, event("other", "call_ended", 3, &json!({}))).await;
    server.wait_for_metric(&series("turns_total"), 11).await;
    server.wait_for_plugin(name, |row| row["lag"] == 0).await;
    assert_eq!(server.metric_value(&series("calls_total")).await, Some(2));
    server.stop();
    let stored = values(&data, name);
    let value = |key: &str| &stored.iter().find(|(other, _)| other == key).unwrap().1;
    assert_eq!((value("total/calls"), value("total/turns")), (&json!(2), &json!(11)));
    assert_eq!(value("total/interruptions"), &json!(1));
    let stored_call = value(&format!("call/{CALL}"));
    assert_eq!((&stored_call["user_turns"], &stored_call["agent_turns"]), (&json!(5), &json!(5)));
    assert!(!json!(stored).to_string().contains("secret words"));
}

// Tests of the sample `avr-app-tee`.

fn with_avr_app(app: &Collector, more: &[(&str, &str)]) -> PluginFolder {
    let (address, name) = (app.address(), "70-avr-app-tee");
    let own = [
        ("enabled = false", ""),
        ("avr-app-backend:3001/webhooks", &*format!("{address}/webhooks")),
        ("\"avr-app-backend:3001\", \"172.16.0.0/12:3001\"", &*format!("\"{address}\"")),
    ];
    let settings = settings("avr-app-tee", &[&own[..], more].concat());
    PluginFolder::new().with_sample(name, name).with_settings(name, &settings)
}

/// Returns a server setup that retries events at once and without end.
fn with_fast_retries(folder: &PluginFolder) -> ServerBuilder {
    ServerBuilder::new(folder.path())
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0")
        .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "10ms")
        .env("PLUGBOARD_EVENTS_MAX_BACKOFF", "20ms")
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "100000")
}

#[tokio::test]
async fn avr_app_tee_forwards_bodies_unchanged() {
    let app = Collector::start().await;
    let folder = with_avr_app(&app, &[("# secret = \"...\"", "secret = 'shared'")]);
    let server = ServerBuilder::new(folder.path()).start();
    let mut posted = Vec::new();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/avr");
    for file in std::fs::read_dir(fixtures).unwrap() {
        let text = fixture(file.unwrap().file_name().to_str().unwrap());
        posted.push(serde_json::from_str::<Value>(&text).unwrap());
        assert_eq!(server.post(text).await.status, 200);
    }
    let novelty = event(CALL, "novelty", 1, &json!({"a": [1, {"b": null}], "c": "ü\"\n"}));
    posted.push(serde_json::from_str(&novelty).unwrap());
    post(&server, novelty).await;
    assert!(posted.len() >= 10);
    app.wait_for(|bodies| bodies.len() >= posted.len()).await;
    server.wait_for_plugin("70-avr-app-tee", |row| row["lag"] == 0).await;
    assert_eq!(app.requests().len(), posted.len());
    for call in posted.iter().map(|body| &body["uuid"]) {
        let of_call = |bodies: &[Value]| -> Vec<Value> {
            bodies.iter().filter(|body| body["uuid"] == *call).cloned().collect()
        };
        assert_eq!(of_call(&app.events()), of_call(&posted));
    }
    for request in app.requests() {
        let keys: Vec<&String> = request.body.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!((request.method.as_str(), request.uri.path()), ("POST", "/webhooks"));
        assert_eq!(request.headers["x-avr-webhook-secret"], "shared");
        assert_eq!(request.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn avr_app_tee_drops_event_after_client_error() {
    let app = Collector::start().await;
    let folder = with_avr_app(&app, &[]);
    let server = with_fast_retries(&folder).start();
    app.respond_with(400, &[], "property x should not exist");
    post(&server, user_transcription(CALL, 1, "secret words")).await;
    app.wait_for(|bodies| bodies.len() == 1).await;
    let line = server
        .wait_for_log(|line| line["plugin_message"].as_str().unwrap_or("").contains("rejected"));
    assert_eq!((&line["plugin"], &line["level"]), (&json!("70-avr-app-tee"), &json!("WARN")));
    app.respond_with(201, &[], "");
    for nth in 2..6 {
        post(&server, user_transcription(CALL, nth, "more")).await;
    }
    let bodies = app.wait_for(|bodies| bodies.len() >= 5).await;
    let texts: Vec<&Value> = bodies.iter().map(|body| &body["payload"]["text"]).collect();
    assert_eq!(texts, ["secret words", "more", "more", "more", "more"]);
    assert!(!server.log_text().contains("secret words"));
    assert!(!app.requests()[0].headers.contains_key("x-avr-webhook-secret"));
}

#[tokio::test]
async fn avr_app_tee_retries_in_order_after_server_error() {
    let app = Collector::start().await;
    let folder = with_avr_app(&app, &[]);
    let server = with_fast_retries(&folder).start();
    app.respond_with(503, &[], "");
    for nth in 0..5 {
        post(&server, user_transcription(CALL, nth, &format!("word {nth}"))).await;
    }
    // Events of other calls do not wait.
    post(&server, user_transcription("0f8fad5b-d9cb-469f-a165-70867728950e", 0, "other")).await;
    let count_attempts = |bodies: &[Value], text: &str| {
        bodies.iter().filter(|body| body["payload"]["text"] == text).count()
    };
    let bodies = app
        .wait_for(|bodies| {
            count_attempts(bodies, "word 0") >= 3 && count_attempts(bodies, "other") >= 1
        })
        .await;
    assert_eq!(count_attempts(&bodies, "word 1"), 0, "{bodies:?}");
    app.respond_with(201, &[], "");
    let bodies = app.wait_for(|bodies| count_attempts(bodies, "word 4") == 1).await;
    let mut words: Vec<&str> = bodies
        .iter()
        .filter(|body| body["uuid"] == CALL)
        .map(|body| body["payload"]["text"].as_str().unwrap())
        .collect();
    words.dedup();
    assert_eq!(words, ["word 0", "word 1", "word 2", "word 3", "word 4"]);
    for nth in 1..5 {
        assert_eq!(count_attempts(&bodies, &format!("word {nth}")), 1);
    }
}

// Tests of the sample `transcript-log`.

#[tokio::test]
async fn transcript_log_sends_complete_transcript_when_archive_recovers() {
    let (archive, data) = (Collector::start().await, TempDir::new().unwrap());
    let (name, address) = ("60-transcript-log", archive.address());
    let changes = [
        ("enabled = false", ""),
        ("https://archive.example.com", &*format!("http://{address}")),
        ("archive.example.com:443", &*address),
        ("# token = \"...\"", "token = 't0ken'"),
    ];
    let folder = PluginFolder::new().with_sample(name, name);
    let folder = folder.with_settings(name, &settings("transcript-log", &changes));
    let start = || with_fast_retries(&folder).with_data_folder(data.path()).start();
    let mut server = start();
    archive.respond_with(503, &[], "");
    server.post(call_initiated()).await;
    post(&server, event(CALL, "call_started", 1, &json!({}))).await;
    for nth in 0..20 {
        let role = if nth % 2 == 0 { "agent" } else { "user" };
        post(&server, turn(CALL, 2 + nth, role, &format!("turn {nth}"))).await;
        if nth == 11 {
            server.kill();
            server = start();
        }
    }
    assert_eq!(archive.requests().len(), 0);
    post(&server, event(CALL, "call_ended", 90_000, &json!({}))).await;
    archive.wait_for(|sent| sent.len() >= 3).await;
    assert_eq!(values(&data, name).len(), 1);
    server.kill();
    let mut server = start();
    let before = archive.requests().len();
    archive.wait_for(|sent| sent.len() > before).await;
    archive.respond_with(201, &[], "");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !values(&data, name).is_empty() {
        assert!(Instant::now() < deadline, "the transcript was not removed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The stored transcript is gone, so no further request follows.
    let sent = archive.requests();
    let report = &sent.last().unwrap().body;
    let turns: Vec<Value> = (0..20)
        .map(|nth| {
            let role = if nth % 2 == 0 { "agent" } else { "user" };
            let at = format!("2026-02-10T22:00:00.{:03}Z", 2 + nth);
            json!({"role": role, "text": format!("turn {nth}"), "at": at})
        })
        .collect();
    let expected = json!({
        "call": CALL, "platform": "avr", "from": "2000", "to": "5001",
        "started": "2026-02-10T22:00:00.001Z", "ended": "2026-02-10T22:01:30.000Z",
        "turns": turns, "truncated": false,
    });
    assert_eq!(*report, expected);
    assert!(
        sent.iter().all(|request| request.body == expected),
        "all attempts must have the same body"
    );
    assert_eq!(sent.last().unwrap().headers["authorization"], "Bearer t0ken");
    // A second end of the call sends no second transcript.
    server.wait_for_plugin(name, |row| row["lag"] == 0).await;
    post(&server, event(CALL, "call_ended", 90_001, &json!({}))).await;
    post(&server, turn("other", 1, "user", "hello")).await;
    post(&server, event("other", "call_ended", 2, &json!({}))).await;
    let reports = archive.wait_for(|reports| reports.last().unwrap()["call"] == "other").await;
    assert_eq!(
        (reports.len(), &reports.last().unwrap()["started"]),
        (sent.len() + 1, &Value::Null)
    );
    assert!(!server.stop().contains("turn 1"));
}

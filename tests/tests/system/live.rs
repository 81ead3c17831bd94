//! What operators see of what happens: as it happens, with what was before, without
//! callers' numbers unless they ask, and never more of it than there is room for.

mod guards;
mod readers;

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, Server, ServerBuilder, blackbox_document, blackbox_fixture,
    call_initiated, call_initiated_for, event, user_transcription,
};
use tokio::time::{Duration, timeout};

/// For what should come at once but may be slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const FROM: &str = "+14155550199";
const TO: &str = "+493090182077";

/// A reader of the stream.
struct Stream {
    response: reqwest::Response,
    /// All that came.
    text: String,
    read: usize,
}

impl Stream {
    async fn open(server: &Server, query: &str) -> Self {
        let url = format!("http://{}/live{query}", server.admin_address());
        let response = tests::client().get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), read: 0 }
    }

    /// The next message: its type, and its document. None: it ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.text[self.read..].find("\n\n") {
                let message = self.text[self.read..self.read + end].to_owned();
                self.read += end + 2;
                // A comment keeps the connection alive.
                let Some((kind, data)) = message.split_once('\n') else { continue };
                let kind = kind.strip_prefix("event: ").unwrap().to_owned();
                let data = data.strip_prefix("data: ").unwrap();
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.unwrap().ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next message of a type; others are passed over.
    async fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            let (kind, document) = self.next().await.expect("the stream ended");
            if kind == wanted {
                return document;
            }
        }
    }

    /// What is told until the reader has caught up.
    async fn past(&mut self) -> Vec<(String, Value)> {
        let mut past = Vec::new();
        loop {
            let message = self.next().await.expect("the stream ended");
            if message.0 == "caught_up" {
                return past;
            }
            past.push(message);
        }
    }
}

/// A `call_initiated` of a call between the two numbers.
fn between_numbers(call: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated_for(call, TO)).unwrap();
    body["payload"]["from"] = json!(FROM);
    body.to_string()
}

async fn post(server: &Server, body: String) {
    let answer = server.post(body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
}

/// `GET /calls`.
async fn calls(server: &Server) -> Vec<Value> {
    let answer = server.admin_get("/calls").await;
    assert_eq!(answer.status, 200);
    answer.body["calls"].as_array().unwrap().clone()
}

/// What happened in a call, in a word each.
fn timeline(call: &Value) -> Vec<&str> {
    let moments = call["timeline"].as_array().unwrap().iter();
    moments
        .map(|it| {
            let name = match it["type"].as_str().unwrap() {
                "decision" => "outcome",
                "use" => "what",
                _ => "kind",
            };
            it[name].as_str().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_reader_is_told_what_was_and_then_what_is() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("one", "5001")).await;
    post(&server, user_transcription("one", 0, "a secret word")).await;
    let mut stream = Stream::open(&server, "").await;
    let past = stream.past().await;
    let kinds: Vec<_> = past.iter().map(|(kind, _)| &**kind).collect();
    assert_eq!(kinds, ["reload", "decision", "event"]);
    assert_eq!(past[0].1["changes"][0]["plugin"], "10-good");
    let decision = &past[1].1;
    assert_eq!((&decision["call"], &decision["platform"]), (&json!("one"), &json!("avr")));
    assert_eq!((&decision["plugin"], &decision["outcome"]), (&json!("10-good"), &json!("route")));
    assert_eq!((&decision["source"], &decision["failures"]), (&json!("ran"), &json!(0)));
    assert!(decision["took_us"].as_u64().unwrap() > 0);
    // Although no observer wants it.
    let told = &past[2].1;
    assert_eq!((&told["kind"], &told["detail"]), (&json!("transcription"), &json!("user")));
    // Now.
    let again = call_initiated_for("two", "5001");
    for source in ["ran", "repeated"] {
        server.post(again.clone()).await;
        let decision = stream.next_of("decision").await;
        assert_eq!((&decision["call"], &decision["source"]), (&json!("two"), &json!(source)));
    }
    // What an operator tries is no call.
    server.admin_post("/explain", call_initiated_for("three", "5001")).await;
    post(&server, event("two", "call_ended", 0, &json!({}))).await;
    assert_eq!(stream.next().await.unwrap().1["kind"], "ended");
    assert!(!stream.text.contains("secret"));
}

#[tokio::test]
async fn numbers_are_hidden_until_they_are_asked_for() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let mut server = ServerBuilder::new(folder.path()).start();
    server.post(between_numbers("before")).await;
    let mut masked = Stream::open(&server, "").await;
    masked.past().await;
    server.post(between_numbers("after")).await;
    let decision = masked.next_of("decision").await;
    assert_eq!((&decision["from"], &decision["to"]), (&json!("•••• 99"), &json!("•••• 77")));
    let listed = server.admin_get("/calls").await;
    assert_eq!(listed.body["calls"][0]["from"], "•••• 99");
    for text in [&masked.text, &listed.text, &server.log_text()] {
        for number in [FROM, TO] {
            // Nor a part of it that tells whose it is.
            for part in number.as_bytes()[1..].windows(7) {
                let part = std::str::from_utf8(part).unwrap();
                assert!(!text.contains(part), "{part} in {text}");
            }
        }
    }
    let unlocking = "caller numbers are shown to an operator";
    assert!(!server.log_text().contains(unlocking));
    let mut shown = Stream::open(&server, "?numbers=shown").await;
    let decision = shown.next_of("decision").await;
    assert_eq!((&decision["from"], &decision["to"]), (&json!(FROM), &json!(TO)));
    let line = server.wait_for_log(|line| line["message"] == unlocking);
    assert_eq!((&line["level"], &line["peer"]), (&json!("INFO"), &json!("127.0.0.1")));
    let listed = server.admin_get("/calls?numbers=shown").await.body;
    assert_eq!(listed["calls"][0]["to"], TO);
    assert_eq!(listed["calls"][0]["timeline"][0]["to"], TO);
    for query in ["/live?numbers=all", "/calls?number=shown"] {
        let answer = server.admin_get(query).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")));
    }
    let log = server.stop();
    // Once a minute, however often one asks.
    assert_eq!(log.matches(unlocking).count(), 1);
    assert!(!log.contains(&FROM[1..]));
}

#[tokio::test]
async fn text_from_outside_is_a_string_and_no_message() {
    const HOSTILE: &str =
        "x\r\n\r\nevent: decision\ndata: {}\n\n</script><img src=x onerror=1>\u{0}";
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let mut stream = Stream::open(&server, "?numbers=shown").await;
    stream.past().await;
    post(&server, event(HOSTILE, HOSTILE, 0, &json!({}))).await;
    let (kind, told) = stream.next().await.unwrap();
    assert_eq!((&*kind, &told["kind"]), ("event", &json!("other")));
    assert_eq!((&told["call"], &told["detail"]), (&json!(HOSTILE), &json!(HOSTILE)));
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    (body["uuid"], body["payload"]["from"]) = (json!(HOSTILE), json!(HOSTILE));
    server.post(body.to_string()).await;
    let (kind, told) = stream.next().await.unwrap();
    assert_eq!((&*kind, &told["from"]), ("decision", &json!(HOSTILE)));
    assert_eq!(calls(&server).await[0]["call"], HOSTILE);
}

#[tokio::test]
async fn a_call_is_shown_from_its_first_moment_to_its_last() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("one", "5001")).await;
    server.post(call_initiated_for("two", "5001")).await;
    post(&server, event("one", "call_started", 0, &json!({}))).await;
    post(&server, user_transcription("one", 1, "hello")).await;
    post(&server, event("one", "interruption", 2, &json!({}))).await;
    post(&server, event("one", "dtmf_digit", 3, &json!({"digit": "7"}))).await;
    let now = calls(&server).await;
    // The newest first.
    assert_eq!((&now[0]["call"], &now[1]["call"]), (&json!("two"), &json!("one")));
    let expected = ["route", "started", "transcription", "interruption", "dtmf_digit"];
    assert_eq!(timeline(&now[1]), expected);
    assert_eq!(now[1]["timeline"][4]["detail"], Value::Null);
    assert_eq!((&now[1]["ended"], &now[1]["prompt"]), (&Value::Null, &json!(false)));
    assert!(now[1]["since"].as_str() < now[1]["last"].as_str());
    post(&server, event("two", "call_ended", 0, &json!({}))).await;
    let now = calls(&server).await;
    assert_eq!((&now[0]["call"], &now[1]["call"]), (&json!("one"), &json!("two")));
    assert!(now[1]["ended"].is_string());
    assert_eq!(timeline(&now[1]), ["route", "ended"]);
}

#[tokio::test]
async fn what_is_asked_in_the_middle_of_a_call_is_shown() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-tools", "tools")
        .with_settings("20-tools", "[config]\nnames = 'check_availability'\n")
        .with_guest("30-transfers", "transfers");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let mut unknown = blackbox_document("tool.json", "call_abc123def456");
    unknown["toolName"] = json!("nonesuch");
    for document in
        ["start.json", "tool.json", "transfer.json", "completed.json"].map(blackbox_fixture)
    {
        assert_eq!(server.post_blackbox(document).await.status, 200);
    }
    server.post_blackbox(unknown.to_string()).await;
    let now = calls(&server).await;
    let call = &now[0];
    assert_eq!((now.len(), &call["platform"]), (1, &json!("blackbox")));
    assert_eq!((&call["agent"], &call["to"]), (&json!("agent_xyz789"), &json!("•••• ne")));
    let expected = ["route", "tool", "transfer", "transcription", "transcription", "ended", "tool"];
    assert_eq!(timeline(call), expected);
    let moment = |nth: usize, field: &str| call["timeline"][nth][field].clone();
    assert_eq!(
        (moment(1, "name"), moment(1, "plugin")),
        ("check_availability".into(), "20-tools".into())
    );
    assert_eq!(moment(1, "outcome"), "answered");
    assert_eq!((moment(2, "name"), moment(2, "plugin")), (Value::Null, "30-transfers".into()));
    assert_eq!(moment(2, "outcome"), "answered");
    assert_eq!((moment(3, "detail"), moment(4, "detail")), ("agent".into(), "user".into()));
    assert_eq!(moment(5, "detail"), "completed");
    assert_eq!((moment(6, "name"), moment(6, "outcome")), (Value::Null, "unknown".into()));
    assert!(call["ended"].is_string());
    // Nor is anything said about a call that was never taken.
    let folder = PluginFolder::new().with_guest("10-rejects", "rejects");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    server.post_blackbox(blackbox_fixture("start.json")).await;
    let now = calls(&server).await;
    assert_eq!((timeline(&now[0]), now[0]["ended"].is_string()), (vec!["reject"], true));
}

#[tokio::test]
async fn the_history_tells_what_became_of_plugins() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-off", "alpha")
        .with_settings("20-off", "enabled = false\n");
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_RELOAD_WATCH", "false")
        .env("PLUGBOARD_RELOAD_POLL", "1h")
        .start();
    let mut stream = Stream::open(&server, "").await;
    let first = stream.next_of("reload").await;
    let word = |reload: &Value| {
        let changes = reload["changes"].as_array().unwrap().iter();
        let word =
            |change: &Value| format!("{} {}", change["plugin"], change["what"]).replace('"', "");
        changes.map(word).collect::<Vec<_>>()
    };
    assert_eq!(
        (&first["generation"], word(&first)),
        (&json!(1), vec!["10-good added".to_owned(), "20-off disabled".to_owned()])
    );
    let digest = server.plugin_status("10-good").await["digest"].clone();
    assert_eq!(first["changes"][0]["version"], digest);

    folder.replace_guest("10-good", "core-module");
    server.reload().await;
    // Nothing new.
    server.reload().await;
    let broken = stream.next_of("reload").await;
    assert_eq!(word(&broken), ["10-good broken"]);
    // What served serves on.
    assert_eq!((&broken["changes"][0]["version"], &broken["generation"]), (&digest, &json!(1)));
    let row = server.plugin_status("10-good").await;
    assert_eq!((&row["state"], &row["outdated"]), (&json!("active"), &json!(true)));
    assert_eq!(broken["changes"][0]["error"], row["last_error"]["message"]);

    folder.replace_guest("10-good", ROUTING_GUEST);
    folder.replace_settings("20-off", "");
    server.reload().await;
    let mended = stream.next_of("reload").await;
    assert_eq!(word(&mended), ["10-good mended", "20-off enabled"]);
    assert_eq!(mended["changes"][0]["error"], Value::Null);
    assert_eq!(server.plugin_status("10-good").await["outdated"], false);

    folder.replace_settings("10-good", "on_failure = 'stop'\n");
    std::fs::remove_file(folder.file("20-off", "wasm")).unwrap();
    server.reload().await;
    let last = stream.next_of("reload").await;
    assert_eq!(word(&last), ["10-good replaced", "20-off removed"]);
    let history = server.admin_get("/reloads").await.body;
    assert_eq!(history, json!({"reloads": [last, mended, broken, first]}));
}

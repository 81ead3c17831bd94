//! Live feed, call list and reload history for operators: past and current activity, with
//! callers' numbers masked by default.

mod guards;
mod subscribers;

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, Server, ServerBuilder, blackbox_document, blackbox_fixture,
    call_initiated, call_initiated_for, event, user_transcription,
};
use tokio::time::{Duration, timeout};

/// Upper limit for results that arrive at once, unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(120);

const FROM: &str = "+14155550199";
const TO: &str = "+493090182077";

/// Client of the live feed, `GET /live`.
struct Stream {
    response: reqwest::Response,
    /// All text received since the start of the stream.
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

    /// Returns type and document of the next message, or `None` at the end of the stream.
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

    /// Returns the next message of a type, and skips messages of other types.
    async fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            let (kind, document) = self.next().await.expect("the stream ended");
            if kind == wanted {
                return document;
            }
        }
    }

    /// Returns the messages of the history, which end with `caught_up`.
    async fn read_history(&mut self) -> Vec<(String, Value)> {
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

/// Returns a `call_initiated` of a call from [`FROM`] to [`TO`].
fn call_between_numbers(call: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated_for(call, TO)).unwrap();
    body["payload"]["from"] = json!(FROM);
    body.to_string()
}

async fn post(server: &Server, body: String) {
    let answer = server.post(body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
}

/// Returns the calls that `GET /calls` lists.
async fn calls(server: &Server) -> Vec<Value> {
    let answer = server.admin_get("/calls").await;
    assert_eq!(answer.status, 200);
    answer.body["calls"].as_array().unwrap().clone()
}

/// Returns the outcome or the kind of each entry in a call's timeline.
fn timeline(call: &Value) -> Vec<&str> {
    let entries = call["timeline"].as_array().unwrap().iter();
    entries
        .map(|it| {
            let name = match it["type"].as_str().unwrap() {
                "decision" => "outcome",
                "mid_call_request" => "kind",
                _ => "kind",
            };
            it[name].as_str().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn subscriber_receives_history_before_live_messages() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("one", "5001")).await;
    post(&server, user_transcription("one", 0, "a secret word")).await;
    let mut stream = Stream::open(&server, "").await;
    let past = stream.read_history().await;
    let kinds: Vec<_> = past.iter().map(|(kind, _)| &**kind).collect();
    assert_eq!(kinds, ["reload", "decision", "event"]);
    assert_eq!(past[0].1["changes"][0]["plugin"], "10-good");
    let decision = &past[1].1;
    assert_eq!((&decision["call"], &decision["platform"]), (&json!("one"), &json!("avr")));
    assert_eq!((&decision["plugin"], &decision["outcome"]), (&json!("10-good"), &json!("route")));
    assert_eq!((&decision["source"], &decision["failures"]), (&json!("plugin"), &json!(0)));
    assert!(decision["took_us"].as_u64().unwrap() > 0);
    // The feed also shows events to which no observer subscribes.
    let message = &past[2].1;
    assert_eq!((&message["kind"], &message["detail"]), (&json!("transcription"), &json!("user")));
    // Live messages follow the history.
    let again = call_initiated_for("two", "5001");
    for source in ["plugin", "replayed"] {
        server.post(again.clone()).await;
        let decision = stream.next_of("decision").await;
        assert_eq!((&decision["call"], &decision["source"]), (&json!("two"), &json!(source)));
    }
    // A trial with `/explain` is not in the feed.
    server.admin_post("/explain", call_initiated_for("three", "5001")).await;
    post(&server, event("two", "call_ended", 0, &json!({}))).await;
    assert_eq!(stream.next().await.unwrap().1["kind"], "ended");
    assert!(!stream.text.contains("secret"));
}

#[tokio::test]
async fn numbers_are_masked_unless_requested() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let mut server = ServerBuilder::new(folder.path()).start();
    server.post(call_between_numbers("before")).await;
    let mut masked = Stream::open(&server, "").await;
    masked.read_history().await;
    server.post(call_between_numbers("after")).await;
    let decision = masked.next_of("decision").await;
    assert_eq!((&decision["from"], &decision["to"]), (&json!("•••• 99"), &json!("•••• 77")));
    let listed = server.admin_get("/calls").await;
    assert_eq!(listed.body["calls"][0]["from"], "•••• 99");
    for text in [&masked.text, &listed.text, &server.log_text()] {
        for number in [FROM, TO] {
            // The text does not contain seven consecutive digits of the number either.
            for part in number.as_bytes()[1..].windows(7) {
                let part = std::str::from_utf8(part).unwrap();
                assert!(!text.contains(part), "{part} in {text}");
            }
        }
    }
    let unmasked = "caller numbers unmasked for an operator";
    assert!(!server.log_text().contains(unmasked));
    let mut shown = Stream::open(&server, "?numbers=shown").await;
    let decision = shown.next_of("decision").await;
    assert_eq!((&decision["from"], &decision["to"]), (&json!(FROM), &json!(TO)));
    let line = server.wait_for_log(|line| line["message"] == unmasked);
    assert_eq!((&line["level"], &line["peer"]), (&json!("INFO"), &json!("127.0.0.1")));
    let listed = server.admin_get("/calls?numbers=shown").await.body;
    assert_eq!(listed["calls"][0]["to"], TO);
    assert_eq!(listed["calls"][0]["timeline"][0]["to"], TO);
    for query in ["/live?numbers=all", "/calls?number=shown"] {
        let answer = server.admin_get(query).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")));
    }
    let log = server.stop();
    // The server logs this at most once a minute.
    assert_eq!(log.matches(unmasked).count(), 1);
    assert!(!log.contains(&FROM[1..]));
}

#[tokio::test]
async fn text_from_callers_cannot_inject_messages() {
    const HOSTILE: &str =
        "x\r\n\r\nevent: decision\ndata: {}\n\n</script><img src=x onerror=1>\u{0}";
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let mut stream = Stream::open(&server, "?numbers=shown").await;
    stream.read_history().await;
    post(&server, event(HOSTILE, HOSTILE, 0, &json!({}))).await;
    let (kind, message) = stream.next().await.unwrap();
    assert_eq!((&*kind, &message["kind"]), ("event", &json!("other")));
    assert_eq!((&message["call"], &message["detail"]), (&json!(HOSTILE), &json!(HOSTILE)));
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    (body["uuid"], body["payload"]["from"]) = (json!(HOSTILE), json!(HOSTILE));
    server.post(body.to_string()).await;
    let (kind, message) = stream.next().await.unwrap();
    assert_eq!((&*kind, &message["from"]), ("decision", &json!(HOSTILE)));
    assert_eq!(calls(&server).await[0]["call"], HOSTILE);
}

#[tokio::test]
async fn call_list_shows_timeline_of_call() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("one", "5001")).await;
    server.post(call_initiated_for("two", "5001")).await;
    post(&server, event("one", "call_started", 0, &json!({}))).await;
    post(&server, user_transcription("one", 1, "hello")).await;
    post(&server, event("one", "interruption", 2, &json!({}))).await;
    post(&server, event("one", "dtmf_digit", 3, &json!({"digit": "7"}))).await;
    let listed = calls(&server).await;
    // The call with the latest activity is first.
    assert_eq!((&listed[0]["call"], &listed[1]["call"]), (&json!("two"), &json!("one")));
    let expected = ["route", "started", "transcription", "interruption", "dtmf_digit"];
    assert_eq!(timeline(&listed[1]), expected);
    assert_eq!(listed[1]["timeline"][4]["detail"], Value::Null);
    assert_eq!((&listed[1]["ended"], &listed[1]["prompt"]), (&Value::Null, &json!(false)));
    assert!(listed[1]["since"].as_str() < listed[1]["last"].as_str());
    post(&server, event("two", "call_ended", 0, &json!({}))).await;
    let listed = calls(&server).await;
    assert_eq!((&listed[0]["call"], &listed[1]["call"]), (&json!("one"), &json!("two")));
    assert!(listed[1]["ended"].is_string());
    assert_eq!(timeline(&listed[1]), ["route", "ended"]);
}

#[tokio::test]
async fn mid_call_requests_appear_in_timeline() {
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
    let listed = calls(&server).await;
    let call = &listed[0];
    assert_eq!((listed.len(), &call["platform"]), (1, &json!("blackbox")));
    assert_eq!((&call["agent"], &call["to"]), (&json!("agent_xyz789"), &json!("•••• ne")));
    let expected = ["route", "tool", "transfer", "transcription", "transcription", "ended", "tool"];
    assert_eq!(timeline(call), expected);
    let field = |nth: usize, field: &str| call["timeline"][nth][field].clone();
    assert_eq!(
        (field(1, "name"), field(1, "plugin")),
        ("check_availability".into(), "20-tools".into())
    );
    assert_eq!(field(1, "outcome"), "answered");
    assert_eq!((field(2, "name"), field(2, "plugin")), (Value::Null, "30-transfers".into()));
    assert_eq!(field(2, "outcome"), "answered");
    assert_eq!((field(3, "detail"), field(4, "detail")), ("agent".into(), "user".into()));
    assert_eq!(field(5, "detail"), "completed");
    assert_eq!((field(6, "name"), field(6, "outcome")), (Value::Null, "unknown".into()));
    assert!(call["ended"].is_string());
    // A rejected call has ended, and has no other entries.
    let folder = PluginFolder::new().with_guest("10-rejects", "rejects");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    server.post_blackbox(blackbox_fixture("start.json")).await;
    let listed = calls(&server).await;
    assert_eq!((timeline(&listed[0]), listed[0]["ended"].is_string()), (vec!["reject"], true));
}

#[tokio::test]
async fn reload_history_lists_plugin_changes() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-off", "alpha")
        .with_settings("20-off", "enabled = false\n");
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_RELOAD_WATCH", "false")
        .env("PLUGBOARD_RELOAD_POLL_INTERVAL", "1h")
        .start();
    let mut stream = Stream::open(&server, "").await;
    let first = stream.next_of("reload").await;
    let describe = |reload: &Value| {
        let changes = reload["changes"].as_array().unwrap().iter();
        let describe =
            |change: &Value| format!("{} {}", change["plugin"], change["kind"]).replace('"', "");
        changes.map(describe).collect::<Vec<_>>()
    };
    assert_eq!(
        (&first["generation"], describe(&first)),
        (&json!(1), vec!["10-good added".to_owned(), "20-off disabled".to_owned()])
    );
    let digest = server.plugin_status("10-good").await["digest"].clone();
    assert_eq!(first["changes"][0]["version"], digest);

    folder.replace_guest("10-good", "core-module");
    server.reload().await;
    // The second reload finds no change.
    server.reload().await;
    let broken = stream.next_of("reload").await;
    assert_eq!(describe(&broken), ["10-good broken"]);
    // The previous version keeps serving.
    assert_eq!((&broken["changes"][0]["version"], &broken["generation"]), (&digest, &json!(1)));
    let row = server.plugin_status("10-good").await;
    assert_eq!((&row["state"], &row["stale_version"]), (&json!("active"), &json!(true)));
    assert_eq!(broken["changes"][0]["error"], row["last_error"]["message"]);

    folder.replace_guest("10-good", ROUTING_GUEST);
    folder.replace_settings("20-off", "");
    server.reload().await;
    let fixed = stream.next_of("reload").await;
    assert_eq!(describe(&fixed), ["10-good fixed", "20-off enabled"]);
    assert_eq!(fixed["changes"][0]["error"], Value::Null);
    assert_eq!(server.plugin_status("10-good").await["stale_version"], false);

    folder.replace_settings("10-good", "on_failure = 'stop'\n");
    std::fs::remove_file(folder.file("20-off", "wasm")).unwrap();
    server.reload().await;
    let last = stream.next_of("reload").await;
    assert_eq!(describe(&last), ["10-good replaced", "20-off removed"]);
    let history = server.admin_get("/reloads").await.body;
    assert_eq!(history, json!({"reloads": [last, fixed, broken, first]}));
}

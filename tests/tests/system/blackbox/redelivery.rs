//! Redelivered webhooks: the platform missed the response and gets the same one. Each
//! event is delivered once.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, ServerResponse,
    blackbox_document, count_distinct,
};
use tokio::task::JoinSet;

const DELIVERY: &str = "X-BlackBox-Delivery-ID";

/// Plugins that count their calls, and an observer.
fn counting_plugins(collector: &Collector) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-tools", "tools")
        .with_settings("20-tools", "[grants]\nkv = true\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""))
}

async fn deliver(server: &Server, id: &str, document: &Value) -> ServerResponse {
    server.post_to("/blackbox", &[(DELIVERY, id)], document.to_string()).await
}

fn tool_document(tool: &str, call: &str) -> Value {
    let mut document = blackbox_document("tool.json", call);
    document["toolName"] = json!(tool);
    document
}

#[tokio::test]
async fn tool_runs_once_per_delivery() {
    let collector = Collector::start().await;
    let folder = counting_plugins(&collector);
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let first = deliver(&server, "d1", &tool_document("echo", "a")).await;
    assert_eq!((first.status, &first.body["nth"]), (200, &json!(1)));
    for _ in 0..3 {
        let replayed = deliver(&server, "d1", &tool_document("echo", "a")).await;
        assert_eq!((replayed.status, replayed.text), (200, first.text.clone()));
    }
    // Another delivery ID, call or type of document is another delivery.
    assert_eq!(deliver(&server, "d2", &tool_document("echo", "a")).await.body["nth"], 2);
    assert_eq!(deliver(&server, "d1", &tool_document("echo", "b")).await.body["nth"], 3);
    let start = blackbox_document("start.json", "a");
    assert_eq!(deliver(&server, "d1", &start).await.body, json!({"accept": true}));
    // Without a delivery ID each tool call runs, in both document shapes.
    let untyped = json!({"toolName": "echo", "callId": "a", "toolArguments": {}}).to_string();
    for (nth, body) in
        (4..).zip([tool_document("echo", "a").to_string(), untyped].iter().cycle()).take(6)
    {
        assert_eq!(server.post_blackbox(body.clone()).await.body["nth"], nth);
    }
    collector.wait_for_count(3 + 2 + 6).await;
    server.stop();
    let events = collector.events();
    let results = |call: &str| {
        let used = events.iter().filter(|it| it["kind"] == "tool_invoked" && it["call"] == call);
        used.map(|it| it["detail"]["outcome"]["ok"]["nth"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((results("a"), results("b")), (vec![1, 2, 4, 5, 6, 7, 8, 9], vec![3]));
}

/// The platform sends one delivery ten times at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_deliveries_get_one_answer() {
    let collector = Collector::start().await;
    let slow = "[grants]\nkv = true\n[config]\ndo = 'slow'\ndelay_ms = 300\n";
    let folder = counting_plugins(&collector).with_settings("20-tools", slow);
    let server = std::sync::Arc::new(ServerBuilder::new(folder.path()).enable_blackbox().start());
    let mut all = JoinSet::new();
    for _ in 0..10 {
        let server = server.clone();
        all.spawn(async move { deliver(&server, "d", &tool_document("echo", "a")).await });
    }
    for answer in all.join_all().await {
        assert_eq!((answer.status, &answer.body["nth"]), (200, &json!(1)));
    }
    collector.wait_for_count(1).await;
    assert_eq!(deliver(&server, "e", &tool_document("echo", "a")).await.body["nth"], 2);
    collector.wait_for_count(2).await;
    assert_eq!(collector.event_kinds("a"), ["tool_invoked", "tool_invoked"]);
}

#[tokio::test]
async fn redelivery_replays_failed_answer() {
    let folder = PluginFolder::new()
        .with_guest("20-tools", "tools")
        .with_settings("20-tools", "[config]\ndo = 'trap'\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let failed = deliver(&server, "d", &tool_document("echo", "a")).await;
    assert_eq!(failed.body["errorCode"], "TOOL_FAILED");
    assert_eq!(deliver(&server, "d", &tool_document("echo", "a")).await.text, failed.text);
    let unknown = deliver(&server, "u", &tool_document("nothing", "a")).await;
    assert_eq!(unknown.status, 404);
    let replayed = deliver(&server, "u", &tool_document("nothing", "a")).await;
    assert_eq!((replayed.status, replayed.text), (404, unknown.text));
}

#[tokio::test]
async fn transfer_runs_once_per_delivery() {
    let collector = Collector::start().await;
    let folder = counting_plugins(&collector).with_guest("30-transfers", "transfers");
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let transfer = |nth: u32| {
        let mut document = blackbox_document("transfer.json", "a");
        document["attempt"] = json!(nth);
        document
    };
    let first = deliver(&server, "d", &transfer(0)).await;
    assert_eq!(first.body["seen"]["attempt"], 0);
    for nth in 1..4 {
        assert_eq!(deliver(&server, "d", &transfer(nth)).await.text, first.text);
    }
    assert_eq!(deliver(&server, "e", &transfer(4)).await.body["seen"]["attempt"], 4);
    // Without a delivery ID each transfer is another one.
    for nth in 5..8 {
        let answer = server.post_blackbox(transfer(nth).to_string()).await;
        assert_eq!(answer.body["seen"]["attempt"], nth);
    }
    assert_eq!(server.plugin_status("30-transfers").await["transfers"]["answered"], 5);
    collector.wait_for_count(5).await;
    server.stop();
    assert_eq!(collector.event_kinds("a"), ["other"; 5]);
}

/// A call has one start and one report of each type, with and without a delivery ID.
#[tokio::test]
async fn starts_and_reports_are_delivered_once() {
    let collector = Collector::start().await;
    let folder = counting_plugins(&collector);
    let mut server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // The verdict cache would prevent a second run as well.
        .env("PLUGBOARD_CACHE_ENABLED", "false")
        .start();
    for (call, id) in [("with", Some("d")), ("without", None)] {
        let headers: Vec<_> = id.into_iter().map(|id| (DELIVERY, id)).collect();
        for file in ["start.json", "completed.json", "failed.json", "deadline.json"] {
            for nth in 0..3 {
                let mut document = blackbox_document(file, call);
                // A redelivered document may differ in its bytes.
                document["attempt"] = json!(nth);
                let answer = server.post_to("/blackbox", &headers, document.to_string()).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                if file == "start.json" && nth > 0 {
                    let cached = "plugboard; hit; detail=delivery";
                    assert_eq!(answer.headers["cache-status"], cached);
                }
            }
        }
    }
    assert_eq!(server.plugin_status("10-good").await["calls"], 2);
    collector.wait_for_count(14).await;
    server.stop();
    let expected =
        ["initiated", "routed", "transcription", "transcription", "ended", "ended", "ended"];
    assert_eq!(collector.event_kinds("with"), expected);
    assert_eq!(collector.event_kinds("without"), expected);
}

/// The journal recognizes a report from before the restart.
#[tokio::test]
async fn report_redelivered_after_restart_is_duplicate() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = counting_plugins(&collector);
    let start = || {
        ServerBuilder::new(folder.path()).with_data_folder(work.path()).enable_blackbox().start()
    };
    let report = blackbox_document("completed.json", "a");
    let mut server = start();
    assert_eq!(server.post_blackbox(report.to_string()).await.status, 200);
    server.kill();
    let mut server = start();
    assert_eq!(server.post_blackbox(report.to_string()).await.status, 200);
    assert_eq!(server.metric_value("plugboard_events_total{result=\"duplicate\"}").await, Some(3));
    // A failure report of the same call is another event.
    let failed = blackbox_document("failed.json", "a");
    assert_eq!(server.post_blackbox(failed.to_string()).await.status, 200);
    // A delivery that the kill interrupted may be repeated with the same event ID.
    collector.wait_for(|events| count_distinct(events) >= 4).await;
    server.stop();
    assert_eq!(count_distinct(&collector.events()), 4);
}

/// A report is acknowledged only after the write; until then the platform must send it
/// again. Other answers do not wait for the disk, because a caller waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_rejected_and_calls_answered_while_store_is_locked() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = counting_plugins(&collector).with_guest("30-transfers", "transfers");
    let server =
        ServerBuilder::new(folder.path()).with_data_folder(work.path()).enable_blackbox().start();
    let probe = blackbox_document("failed.json", "probe");
    assert_eq!(server.post_blackbox(probe.to_string()).await.status, 200);
    let other = rusqlite::Connection::open(work.path().join("plugboard.db")).unwrap();
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for file in ["completed.json", "failed.json", "deadline.json"] {
        let answer = server.post_blackbox(blackbox_document(file, "a").to_string()).await;
        assert_eq!(answer.status, 503, "{file}: {answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(answer.elapsed < Duration::from_secs(5), "{file}: {:?}", answer.elapsed);
        let code = answer.body["error"]["code"].as_str().unwrap();
        assert!(["overloaded", "store_unavailable"].contains(&code), "{code}");
    }
    let start = server.post_blackbox(blackbox_document("start.json", "b").to_string()).await;
    assert_eq!((start.status, start.body), (200, json!({"accept": true})));
    assert!(start.elapsed < Duration::from_millis(1_500), "{:?}", start.elapsed);
    // The counter of the plugin cannot be written now. The tool answers without it.
    let tool = server.post_blackbox(tool_document("echo", "b").to_string()).await;
    assert_eq!((tool.status, &tool.body["call"]), (200, &json!("b")), "{tool:?}");
    let transfer = server.post_blackbox(blackbox_document("transfer.json", "b").to_string()).await;
    assert_eq!((transfer.status, &transfer.body["accept"]), (200, &json!(true)));
    assert!(transfer.elapsed < Duration::from_millis(1_500), "{:?}", transfer.elapsed);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    // The reports are sent again until the server accepts them.
    for file in ["completed.json", "failed.json", "deadline.json"] {
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        let report = blackbox_document(file, "a").to_string();
        while server.post_blackbox(report.clone()).await.status != 200 {
            assert!(std::time::Instant::now() < deadline, "{}", server.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let count_of = |events: &[Value], call| events.iter().filter(|it| it["call"] == call).count();
    collector.wait_for(|events| count_of(events, "a") >= 5 && count_of(events, "b") >= 4).await;
    let mut ended = collector.event_kinds("a");
    ended.retain(|kind| kind == "ended");
    assert_eq!(ended.len(), 3);
    let mut kinds = collector.event_kinds("b");
    kinds.sort();
    assert_eq!(kinds, ["initiated", "other", "routed", "tool_invoked"]);
}

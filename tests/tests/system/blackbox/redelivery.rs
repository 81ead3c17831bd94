//! Deliveries that come again: the platform did not hear our answer, and gets the
//! same one; what happened is told once.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, ServerResponse,
    blackbox_document, count_distinct,
};
use tokio::task::JoinSet;

const DELIVERY: &str = "X-BlackBox-Delivery-ID";

/// Plugins that count how often they are asked.
fn counting(collector: &Collector) -> PluginFolder {
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

/// A tool's use.
fn use_of(tool: &str, call: &str) -> Value {
    let mut document = blackbox_document("tool.json", call);
    document["toolName"] = json!(tool);
    document
}

#[tokio::test]
async fn a_tool_runs_once_for_a_delivery() {
    let collector = Collector::start().await;
    let folder = counting(&collector);
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let first = deliver(&server, "d1", &use_of("echo", "a")).await;
    assert_eq!((first.status, &first.body["nth"]), (200, &json!(1)));
    for _ in 0..3 {
        let again = deliver(&server, "d1", &use_of("echo", "a")).await;
        assert_eq!((again.status, again.text), (200, first.text.clone()));
    }
    // Another delivery, another call, and another kind of document are others.
    assert_eq!(deliver(&server, "d2", &use_of("echo", "a")).await.body["nth"], 2);
    assert_eq!(deliver(&server, "d1", &use_of("echo", "b")).await.body["nth"], 3);
    let start = blackbox_document("start.json", "a");
    assert_eq!(deliver(&server, "d1", &start).await.body, json!({"accept": true}));
    // Without a name, two uses are two, in either shape.
    let untyped = json!({"toolName": "echo", "callId": "a", "toolArguments": {}}).to_string();
    for (nth, body) in (4..).zip([use_of("echo", "a").to_string(), untyped].iter().cycle()).take(6)
    {
        assert_eq!(server.post_blackbox(body.clone()).await.body["nth"], nth);
    }
    collector.wait_for_count(3 + 2 + 6).await;
    server.stop();
    let told = collector.events();
    let used = |call: &str| {
        let used = told.iter().filter(|it| it["kind"] == "tool_invoked" && it["call"] == call);
        used.map(|it| it["detail"]["outcome"]["ok"]["nth"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((used("a"), used("b")), (vec![1, 2, 4, 5, 6, 7, 8, 9], vec![3]));
}

/// Ten at the same time, as from a platform that is impatient.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_come_at_the_same_time_have_one_answer() {
    let collector = Collector::start().await;
    let slow = "[grants]\nkv = true\n[config]\ndo = 'slow'\ndelay_ms = 300\n";
    let folder = counting(&collector).with_settings("20-tools", slow);
    let server = std::sync::Arc::new(ServerBuilder::new(folder.path()).enable_blackbox().start());
    let mut all = JoinSet::new();
    for _ in 0..10 {
        let server = server.clone();
        all.spawn(async move { deliver(&server, "d", &use_of("echo", "a")).await });
    }
    for answer in all.join_all().await {
        assert_eq!((answer.status, &answer.body["nth"]), (200, &json!(1)));
    }
    collector.wait_for_count(1).await;
    assert_eq!(deliver(&server, "e", &use_of("echo", "a")).await.body["nth"], 2);
    collector.wait_for_count(2).await;
    assert_eq!(collector.event_kinds("a"), ["tool_invoked", "tool_invoked"]);
}

#[tokio::test]
async fn a_failure_is_the_answer_to_its_delivery_as_well() {
    let folder = PluginFolder::new()
        .with_guest("20-tools", "tools")
        .with_settings("20-tools", "[config]\ndo = 'trap'\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let failed = deliver(&server, "d", &use_of("echo", "a")).await;
    assert_eq!(failed.body["errorCode"], "TOOL_FAILED");
    assert_eq!(deliver(&server, "d", &use_of("echo", "a")).await.text, failed.text);
    let unknown = deliver(&server, "u", &use_of("nothing", "a")).await;
    assert_eq!(unknown.status, 404);
    let again = deliver(&server, "u", &use_of("nothing", "a")).await;
    assert_eq!((again.status, again.text), (404, unknown.text));
}

#[tokio::test]
async fn a_transfer_is_asked_about_once_for_a_delivery() {
    let collector = Collector::start().await;
    let folder = counting(&collector).with_guest("30-transfers", "transfers");
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
    // Without a name, each is another one.
    for nth in 5..8 {
        let answer = server.post_blackbox(transfer(nth).to_string()).await;
        assert_eq!(answer.body["seen"]["attempt"], nth);
    }
    assert_eq!(server.plugin_status("30-transfers").await["transfers"]["answered"], 5);
    collector.wait_for_count(5).await;
    server.stop();
    assert_eq!(collector.event_kinds("a"), ["other"; 5]);
}

/// With an id of the delivery or without: a call has one start and one end.
#[tokio::test]
async fn starts_and_reports_are_told_once() {
    let collector = Collector::start().await;
    let folder = counting(&collector);
    let mut server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // What a cache had would not run it either.
        .env("PLUGBOARD_CACHE_ENABLED", "false")
        .start();
    for (call, id) in [("with", Some("d")), ("without", None)] {
        let headers: Vec<_> = id.into_iter().map(|id| (DELIVERY, id)).collect();
        for file in ["start.json", "completed.json", "failed.json", "deadline.json"] {
            for nth in 0..3 {
                let mut document = blackbox_document(file, call);
                // Nobody says that a repeat is the same to the byte.
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
    let once = ["initiated", "routed", "transcription", "transcription", "ended", "ended", "ended"];
    assert_eq!(collector.event_kinds("with"), once);
    assert_eq!(collector.event_kinds("without"), once);
}

/// The journal knows a report also after the program was started anew.
#[tokio::test]
async fn a_report_that_comes_again_after_a_restart_is_known() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = counting(&collector);
    let start = || {
        ServerBuilder::new(folder.path()).with_data_folder(work.path()).enable_blackbox().start()
    };
    let report = blackbox_document("completed.json", "a");
    let mut server = start();
    assert_eq!(server.post_blackbox(report.to_string()).await.status, 200);
    server.kill();
    let mut server = start();
    assert_eq!(server.post_blackbox(report.to_string()).await.status, 200);
    assert_eq!(server.metric_value("plugboard_events_total{result=\"repeated\"}").await, Some(3));
    // A failure of the same call is another report.
    let failed = blackbox_document("failed.json", "a");
    assert_eq!(server.post_blackbox(failed.to_string()).await.status, 200);
    // What was being told when the program ended may be told again, as the same.
    collector.wait_for(|told| count_distinct(told) >= 4).await;
    server.stop();
    assert_eq!(count_distinct(&collector.events()), 4);
}

/// What is said to have been taken is written down; if it cannot be, it should come
/// again. A caller is waiting for the other answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_come_again_when_they_cannot_be_written_and_callers_wait_for_nothing() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = counting(&collector).with_guest("30-transfers", "transfers");
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
    // The plugin cannot count now, which is no failure of its.
    let tool = server.post_blackbox(use_of("echo", "b").to_string()).await;
    assert_eq!((tool.status, &tool.body["call"]), (200, &json!("b")), "{tool:?}");
    let transfer = server.post_blackbox(blackbox_document("transfer.json", "b").to_string()).await;
    assert_eq!((transfer.status, &transfer.body["accept"]), (200, &json!(true)));
    assert!(transfer.elapsed < Duration::from_millis(1_500), "{:?}", transfer.elapsed);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    // The same deliveries once more, until they are taken.
    for file in ["completed.json", "failed.json", "deadline.json"] {
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        let report = blackbox_document(file, "a").to_string();
        while server.post_blackbox(report.clone()).await.status != 200 {
            assert!(std::time::Instant::now() < deadline, "{}", server.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let of = |told: &[Value], call| told.iter().filter(|it| it["call"] == call).count();
    collector.wait_for(|told| of(told, "a") >= 5 && of(told, "b") >= 4).await;
    let mut ended = collector.event_kinds("a");
    ended.retain(|kind| kind == "ended");
    assert_eq!(ended.len(), 3);
    let mut told = collector.event_kinds("b");
    told.sort();
    assert_eq!(told, ["initiated", "other", "routed", "tool_invoked"]);
}

//! Pending events of observers that are added, replaced, removed, broken or stopped.

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, ServerBuilder, count_distinct, user_transcription};

use super::{folder_with_observer, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_version_receives_pending_events() {
    let collector = Collector::start().await;
    let folder =
        folder_with_observer(&collector, "do = 'error'\n").with_guest("60-other", "observer");
    let other = collector.settings("tag = 'other'\n");
    let folder = folder.with_settings("60-other", &other);
    let server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "60s").start();
    for nth in 0..20 {
        post(&server, user_transcription(&format!("call-{}", nth % 5), nth, "hello")).await;
    }
    // The failing observer does not delay the other one.
    let has_received_all = |tag: &'static str| {
        move |events: &[Value]| events.iter().filter(|event| event["observer"] == tag).count() == 20
    };
    collector.wait_for(has_received_all("other")).await;
    server.wait_for_plugin("50-observer", |row| row["events"]["failed"].as_u64() >= Some(5)).await;
    folder.replace_settings("50-observer", &collector.settings("tag = 'fixed'\n"));
    server.reload().await;
    // The new version does not wait for the backoff of 60 s.
    let events = collector.wait_for(has_received_all("fixed")).await;
    for call in 0..5 {
        let call = format!("call-{call}");
        let times: Vec<u64> = events
            .iter()
            .filter(|event| event["observer"] == "fixed" && event["call"] == call.as_str())
            .map(|event| event["unix_ms"].as_u64().unwrap())
            .collect();
        assert!(times.is_sorted() && times.len() == 4, "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observer_misses_no_event_while_broken_or_absent() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    post(&server, user_transcription("a", 1, "one")).await;
    collector.wait_for(|events| events.len() == 1).await;
    folder.replace_settings("50-observer", "enabled = false\n");
    server.reload().await;
    post(&server, user_transcription("a", 2, "two")).await;
    server.stop();
    // Broken at start: no version serves, but the server knows the observer.
    folder.replace_settings("50-observer", "nonsense = 1\n");
    let mut server = start();
    post(&server, user_transcription("a", 3, "three")).await;
    std::fs::remove_file(folder.file("50-observer", "toml")).unwrap();
    std::fs::rename(folder.file("50-observer", "wasm"), folder.file("50-observer", "away"))
        .unwrap();
    server.reload().await;
    post(&server, user_transcription("a", 4, "four")).await;
    assert_eq!(collector.events().len(), 1);
    std::fs::rename(folder.file("50-observer", "away"), folder.file("50-observer", "wasm"))
        .unwrap();
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    let events = collector.wait_for(|events| events.len() == 4).await;
    let texts: Vec<&Value> = events.iter().map(|event| &event["detail"]["text"]).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_finishes_running_delivery_and_keeps_pending_events() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // The observer takes one second for each event of the call.
    let folder = folder_with_observer(&collector, "delay_ms = '1000'\n");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    for nth in 0..5 {
        post(&server, user_transcription("a", nth, "hello")).await;
    }
    collector.wait_for(|events| !events.is_empty()).await;
    server.stop();
    let before = collector.events().len();
    assert!(before < 5, "no event is pending");
    let _server = start();
    let events = collector.wait_for(|events| events.len() >= 5).await;
    // Each event arrives once: the running delivery finished before the process ended.
    assert_eq!((events.len(), count_distinct(&events)), (5, 5));
    let times: Vec<u64> = events.iter().map(|event| event["unix_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// A plugin that changes from an observer to a router delays neither journal nor retention.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observer_is_removed_when_plugin_drops_the_hook() {
    let collector = Collector::start().await;
    let folder = folder_with_observer(&collector, "do = 'error'\n");
    let server = ServerBuilder::new(folder.path()).start();
    post(&server, user_transcription("a", 1, "hello")).await;
    server.wait_for_metric("plugboard_observer_lag_events{plugin=\"50-observer\"}", 1).await;
    folder.replace_guest("50-observer", tests::ROUTING_GUEST);
    server.reload().await;
    assert_eq!(
        server.metric_value("plugboard_observer_lag_events{plugin=\"50-observer\"}").await,
        None
    );
    let line =
        server.wait_for_log(|line| line["message"] == "observer removed with its checkpoint");
    assert_eq!(line["events"], 1, "{line}");
    post(&server, user_transcription("a", 2, "hello")).await;
    assert_eq!(
        server.metric_value("plugboard_events_total{result=\"unsubscribed\"}").await,
        Some(1)
    );
}

/// Attempts before a restart count towards `events.max_attempts`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_counted_across_restarts() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "do = 'error'\n");
    let start = || {
        ServerBuilder::new(folder.path())
            .with_data_folder(data.path())
            .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "3")
            .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "60s")
            .start()
    };
    let mut server = start();
    post(&server, user_transcription("a", 1, "hello")).await;
    for _ in 0..2 {
        // One attempt in each run: the next one would follow after 60 s.
        server.wait_for_plugin("50-observer", |row| row["events"]["failed"] == 1).await;
        assert_eq!(server.admin_get("/events/dead").await.body["dead_letters"], json!([]));
        server.stop();
        server = start();
    }
    server.wait_for_plugin("50-observer", |row| row["events"]["dead_letters"] == 1).await;
    assert_eq!(server.admin_get("/events/dead").await.body["dead_letters"][0]["attempts"], 3);
}

/// An observer without a file delays the journal only for `journal.retention`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_observer_is_removed_after_retention() {
    let collector = Collector::start().await;
    let folder = folder_with_observer(&collector, "do = 'error'\n");
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_JOURNAL_RETENTION", "1s").start();
    post(&server, user_transcription("a", 1, "hello")).await;
    std::fs::remove_file(folder.file("50-observer", "wasm")).unwrap();
    server.reload().await;
    let line =
        server.wait_for_log(|line| line["message"] == "observer removed with its checkpoint");
    assert_eq!((&line["observer"], &line["events"]), (&json!("50-observer"), &json!(1)));
    // The log line precedes the end of the subscription, in the same retention run.
    for nth in 2.. {
        post(&server, user_transcription("a", nth, "hello")).await;
        if server.metric_value("plugboard_events_total{result=\"unsubscribed\"}").await == Some(1) {
            break;
        }
        assert!(nth < 1_000, "the subscription did not end");
    }
}

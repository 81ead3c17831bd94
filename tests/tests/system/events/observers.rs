//! What becomes of what waits when observers come, go, change and stop.

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, ServerBuilder, count_distinct, user_transcription};

use super::{observed, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_what_waits() {
    let collector = Collector::start().await;
    let folder = observed(&collector, "do = 'error'\n").with_guest("60-other", "observer");
    let other = collector.settings("tag = 'other'\n");
    let folder = folder.with_settings("60-other", &other);
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_EVENTS_BACKOFF", "60s").start();
    for nth in 0..20 {
        post(&server, user_transcription(&format!("call-{}", nth % 5), nth, "hello")).await;
    }
    // The other one is not delayed by it.
    let told = |tag: &'static str| {
        move |events: &[Value]| events.iter().filter(|event| event["observer"] == tag).count() == 20
    };
    collector.wait_for(told("other")).await;
    server.wait_for_plugin("50-observer", |row| row["events"]["failed"].as_u64() >= Some(5)).await;
    folder.replace_settings("50-observer", &collector.settings("tag = 'mended'\n"));
    server.reload().await;
    // Not only after the minute's rest.
    let events = collector.wait_for(told("mended")).await;
    for call in 0..5 {
        let call = format!("call-{call}");
        let times: Vec<u64> = events
            .iter()
            .filter(|event| event["observer"] == "mended" && event["call"] == call.as_str())
            .map(|event| event["unix_ms"].as_u64().unwrap())
            .collect();
        assert!(times.is_sorted() && times.len() == 4, "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_is_broken_or_gone_for_a_while_misses_nothing() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    post(&server, user_transcription("a", 1, "one")).await;
    collector.wait_for(|events| events.len() == 1).await;
    folder.replace_settings("50-observer", "enabled = false\n");
    server.reload().await;
    post(&server, user_transcription("a", 2, "two")).await;
    server.stop();
    // Broken from the start: nothing serves, but it is known.
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
async fn stopping_finishes_what_runs_and_leaves_the_rest() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // A second for each event of the one call.
    let folder = observed(&collector, "delay_ms = '1000'\n");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    for nth in 0..5 {
        post(&server, user_transcription("a", nth, "hello")).await;
    }
    collector.wait_for(|events| !events.is_empty()).await;
    server.stop();
    let before = collector.events().len();
    assert!(before < 5, "nothing was left to do");
    let _server = start();
    let events = collector.wait_for(|events| events.len() >= 5).await;
    // Each once: it came to its end before the process did.
    assert_eq!((events.len(), count_distinct(&events)), (5, 5));
    let times: Vec<u64> = events.iter().map(|event| event["unix_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// An observer that became a mere router holds up neither journal nor upkeep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_observes_no_more_is_forgotten() {
    let collector = Collector::start().await;
    let folder = observed(&collector, "do = 'error'\n");
    let server = ServerBuilder::new(folder.path()).start();
    post(&server, user_transcription("a", 1, "hello")).await;
    server.wait_for_metric("plugboard_observer_backlog{plugin=\"50-observer\"}", 1).await;
    folder.replace_guest("50-observer", tests::ROUTING_GUEST);
    server.reload().await;
    assert_eq!(
        server.metric_value("plugboard_observer_backlog{plugin=\"50-observer\"}").await,
        None
    );
    let line = server.wait_for_log(|line| line["message"] == "an observer is forgotten");
    assert_eq!(line["events"], 1, "{line}");
    post(&server, user_transcription("a", 2, "hello")).await;
    assert_eq!(server.metric_value("plugboard_events_total{result=\"unwanted\"}").await, Some(1));
}

/// What was tried before a restart counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_counted_across_restarts() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "do = 'error'\n");
    let start = || {
        ServerBuilder::new(folder.path())
            .with_data_folder(data.path())
            .env("PLUGBOARD_EVENTS_ATTEMPTS", "3")
            .env("PLUGBOARD_EVENTS_BACKOFF", "60s")
            .start()
    };
    let mut server = start();
    post(&server, user_transcription("a", 1, "hello")).await;
    for _ in 0..2 {
        // Once in each run: the next attempt would come in a minute.
        server.wait_for_plugin("50-observer", |row| row["events"]["failed"] == 1).await;
        assert_eq!(server.admin_get("/events/dead").await.body["dead"], json!([]));
        server.stop();
        server = start();
    }
    server.wait_for_plugin("50-observer", |row| row["events"]["dead"] == 1).await;
    assert_eq!(server.admin_get("/events/dead").await.body["dead"][0]["attempts"], 3);
}

/// An observer whose file is gone does not hold up the journal for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_is_gone_for_long_is_forgotten() {
    let collector = Collector::start().await;
    let folder = observed(&collector, "do = 'error'\n");
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_JOURNAL_KEEP", "1s").start();
    post(&server, user_transcription("a", 1, "hello")).await;
    std::fs::remove_file(folder.file("50-observer", "wasm")).unwrap();
    server.reload().await;
    let line = server.wait_for_log(|line| line["message"] == "an observer is forgotten");
    assert_eq!((&line["observer"], &line["events"]), (&json!("50-observer"), &json!(1)));
    // It is said before its interest ends, with the same round of upkeep.
    for nth in 2.. {
        post(&server, user_transcription("a", nth, "hello")).await;
        if server.metric_value("plugboard_events_total{result=\"unwanted\"}").await == Some(1) {
            break;
        }
        assert!(nth < 1_000, "it is wanted for ever");
    }
}

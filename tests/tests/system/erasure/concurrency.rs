//! Erasure under load: no erased data returns, and no other request waits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, ServerBuilder, call_initiated_for, event, user_transcription};

use super::{SECRET, delivered_count, folder_with_observer, is_readable, post, wait_for_delivered};

/// Events of two calls are posted all the time, while one of the calls is erased 40 times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_events_are_never_delivered_under_concurrent_appends() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let server = Arc::new(ServerBuilder::new(folder.path()).with_data_folder(data.path()).start());
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU32::new(0));
    let poster = |call: &'static str, acknowledged: Arc<AtomicU32>| {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        tokio::spawn(async move {
            let client = tests::client();
            for nth in 1.. {
                let posted = server
                    .post_with_client(&client, &[], user_transcription(call, nth, "hello"))
                    .await;
                assert_eq!(posted.status, 200);
                acknowledged.store(nth, SeqCst);
                if stop.load(SeqCst) {
                    return nth;
                }
            }
            0
        })
    };
    let other = poster("b", Arc::default());
    let erased = poster("a", Arc::clone(&acknowledged));
    // Number of the last erased event, and of the deliveries at the end of the erasure.
    let mut erasures = Vec::new();
    for _ in 0..40 {
        let before = acknowledged.load(SeqCst);
        let answer = server.admin_delete("/calls/a", &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        erasures.push((before, collector.events().len()));
        tokio::time::sleep(Duration::from_millis(u64::from(before % 20))).await;
    }
    let last = acknowledged.load(SeqCst);
    stop.store(true, SeqCst);
    let (all_of_other, all) = (other.await.unwrap(), erased.await.unwrap());
    wait_for_delivered(&collector, "b", all_of_other as usize).await;
    let nth = |event: &Value| {
        // The timestamp has the number in its minutes, seconds and milliseconds.
        let ms = event["unix_ms"].as_u64().unwrap();
        u32::try_from(ms % 3_600_000).unwrap()
    };
    let is_last = |event: &Value| event["call"] == "a" && nth(event) == all;
    let events = collector.wait_for(|events| events.iter().any(is_last)).await;
    for (before, delivered) in erasures {
        let late = events.iter().skip(delivered).find(|it| it["call"] == "a" && nth(it) <= before);
        assert!(late.is_none(), "erased up to {before}, but delivered afterwards: {late:?}");
    }
    let of_call = |call| events.iter().filter(move |event| event["call"] == call).map(nth);
    // All events of the other call, and those after the last erasure, are in order.
    assert!(of_call("b").eq(1..=all_of_other), "{:?}", of_call("b").collect::<Vec<_>>());
    assert!(of_call("a").is_sorted_by(|before, after| before < after));
    let after: Vec<u32> = of_call("a").filter(|nth| *nth > last).collect();
    assert!(after.iter().copied().eq(last + 1..=all), "{after:?}");
    println!("40 erasures among {all} events of the call: {} were delivered", of_call("a").count());
}

/// Appends this number of events of a call to a journal that no server uses.
fn fill(data: &Path, call: &str, count: u32) {
    let db = rusqlite::Connection::open(data.join("plugboard.db")).unwrap();
    let document = json!({"id": call, "platform": "avr", "agent": null, "from": "2000",
        "to": "5001", "metadata": []});
    let filled = db.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         INSERT INTO events
         SELECT (SELECT max(seq) FROM events) + n, randomblob(16), unixepoch('now') * 1000, NULL,
             'transcription', '2026-02-10T22:00:00.000Z', ?2,
             '{\"transcription\":{\"role\":\"user\",\"text\":\"' || hex(randomblob(100)) || '\"}}'
         FROM n",
        rusqlite::params![count, document.to_string()],
    );
    assert_eq!(filled.unwrap(), count as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasing_many_events_does_not_delay_requests() {
    const EVENTS: u32 = 100_000;
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "").with_guest("10-good", tests::ROUTING_GUEST);
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    post(&server, user_transcription("b", 0, "hello")).await;
    wait_for_delivered(&collector, "b", 1).await;
    // The events wait for a disabled observer.
    folder.replace_settings("50-observer", &format!("enabled = false\n{}", collector.settings("")));
    server.reload().await;
    server.stop();
    fill(data.path(), "a", EVENTS);
    let server = Arc::new(start());
    let (started, eraser) = (Instant::now(), Arc::clone(&server));
    let erasing = tokio::spawn(async move { eraser.admin_delete("/calls/a", &[]).await });
    let (client, mut times, mut nth) = (tests::client(), Vec::new(), 0);
    while !erasing.is_finished() {
        nth += 1;
        let event =
            server.post_with_client(&client, &[], user_transcription("b", nth, "hello")).await;
        assert_eq!(event.status, 200);
        let call = call_initiated_for(&format!("call-{nth}"), "5001");
        let decided = server.post_with_client(&client, &[], call).await;
        assert!(decided.sts_url().is_some());
        times.extend([event.elapsed, decided.elapsed]);
    }
    let (erased, took) = (erasing.await.unwrap(), started.elapsed());
    assert_eq!(erased.body["events"], EVENTS, "{erased:?}");
    times.sort();
    let (usual, most) = (times[times.len() / 2], times[(times.len() - 1) * 9 / 10]);
    println!(
        "{EVENTS} events erased in {took:?}; {nth} events and calls meanwhile: median \
         {usual:?}, 90th percentile {most:?}"
    );
    assert!(usual < Duration::from_millis(200) && most < Duration::from_secs(1), "{times:?}");
    // The observer continues after the erased events.
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_delivered(&collector, "b", 1 + nth as usize).await;
    assert_eq!(delivered_count(&collector, "a"), 0);
    let done = event("b", "call_ended", nth + 1, &json!({}));
    post(&server, done).await;
    wait_for_delivered(&collector, "b", 2 + nth as usize).await;
}

/// A running tool keeps the erased call data. Later tools do not get them.
#[tokio::test]
async fn running_tool_restores_no_erased_data() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let slow = "[config]\ndo = 'slow'\ndelay_ms = 3000\nnames = 'slow'\n";
    let slow = format!("[limits]\ntool_timeout = '9s'\n{slow}");
    let folder = folder_with_observer(&collector, "")
        .with_guest("20-tools", "tools")
        .with_settings("20-tools", &slow);
    let server = Arc::new(
        ServerBuilder::new(folder.path()).with_data_folder(data.path()).enable_blackbox().start(),
    );
    let start = json!({
        "type": "StartWebHookPayload", "callId": "gone", "endpoint": "+39",
        "callAdditionalData": {"note": SECRET},
    });
    assert_eq!(server.post_blackbox(start.to_string()).await.status, 200);
    wait_for_delivered(&collector, "gone", 2).await;
    // The observer is idle, so the next guest is the tool.
    server.wait_for_plugin("50-observer", |row| row["lag"] == 0).await;
    let tool = json!({"toolName": "slow", "callId": "gone"}).to_string();
    let used = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.post_blackbox(tool).await }
    });
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/gone", &[]).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    // The tool had the data from before, and the erasure waited for it.
    assert!(!is_readable(data.path(), SECRET));
    assert_eq!(used.await.unwrap().body["metadata"]["note"], SECRET);
    let next =
        server.post_blackbox(json!({"toolName": "slow", "callId": "gone"}).to_string()).await;
    assert_eq!(next.body["metadata"], json!({}));
    wait_for_delivered(&collector, "gone", 3).await;
    let events = collector.events();
    let later: Vec<_> = events.iter().filter(|event| event["kind"] == "tool_invoked").collect();
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["from"], &later[0]["metadata"]), (&Value::Null, &json!({})));
    assert!(!is_readable(data.path(), SECRET));
}

//! What happens while a call is erased: nothing of before comes back, and nobody waits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, ServerBuilder, call_initiated_for, event, user_transcription};

use super::{SECRET, is_readable, observed, post, told, wait_for_told};

/// One call's events are posted all the time, and so are another's, while it is erased
/// again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_came_before_is_told_after_however_it_meets() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
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
    let others = poster("b", Arc::default());
    let erased = poster("a", Arc::clone(&acknowledged));
    // Up to which event, and how many requests had come when that was done.
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
    let (all_of_others, all) = (others.await.unwrap(), erased.await.unwrap());
    wait_for_told(&collector, "b", all_of_others as usize).await;
    let nth = |event: &Value| {
        // As `said` makes it: minutes, seconds and milliseconds.
        let ms = event["unix_ms"].as_u64().unwrap();
        u32::try_from(ms % 3_600_000).unwrap()
    };
    let is_last = |event: &Value| event["call"] == "a" && nth(event) == all;
    let events = collector.wait_for(|events| events.iter().any(is_last)).await;
    for (before, came) in erasures {
        let late = events.iter().skip(came).find(|it| it["call"] == "a" && nth(it) <= before);
        assert!(late.is_none(), "erased up to {before}, and told of afterwards: {late:?}");
    }
    let of_call = |call| events.iter().filter(move |event| event["call"] == call).map(nth);
    // All of the other one, and of the one what came after the last erasure; in order.
    assert!(of_call("b").eq(1..=all_of_others), "{:?}", of_call("b").collect::<Vec<_>>());
    assert!(of_call("a").is_sorted_by(|before, after| before < after));
    let after: Vec<u32> = of_call("a").filter(|nth| *nth > last).collect();
    assert!(after.iter().copied().eq(last + 1..=all), "{after:?}");
    println!("40 erasures among {all} events of the call: {} were told", of_call("a").count());
}

/// Appends so many events of a call to a journal that nobody uses.
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
async fn a_call_of_very_many_events_holds_nobody_up() {
    const EVENTS: u32 = 100_000;
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").with_guest("10-good", tests::ROUTING_GUEST);
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    post(&server, user_transcription("b", 0, "hello")).await;
    wait_for_told(&collector, "b", 1).await;
    // It waits for an observer that is not there.
    folder.replace_settings("50-observer", &format!("enabled = false\n{}", collector.settings("")));
    server.reload().await;
    server.stop();
    fill(data.path(), "a", EVENTS);
    let server = Arc::new(start());
    let (started, asked) = (Instant::now(), Arc::clone(&server));
    let erasing = tokio::spawn(async move { asked.admin_delete("/calls/a", &[]).await });
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
        "{EVENTS} events erased in {took:?}; {nth} events and calls meanwhile: half of them \
         within {usual:?}, nine of ten within {most:?}"
    );
    assert!(usual < Duration::from_millis(200) && most < Duration::from_secs(1), "{times:?}");
    // The observer finds the rest behind it.
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_told(&collector, "b", 1 + nth as usize).await;
    assert_eq!(told(&collector, "a"), 0);
    let done = event("b", "call_ended", nth + 1, &json!({}));
    post(&server, done).await;
    wait_for_told(&collector, "b", 2 + nth as usize).await;
}

/// A tool that was begun before knows what is erased meanwhile; nobody else does after.
#[tokio::test]
async fn a_tool_that_is_at_work_brings_nothing_back() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let slow = "[config]\ndo = 'slow'\ndelay_ms = 3000\nnames = 'slow'\n";
    let slow = format!("[limits]\ntool_timeout = '9s'\n{slow}");
    let folder =
        observed(&collector, "").with_guest("20-tools", "tools").with_settings("20-tools", &slow);
    let server = Arc::new(
        ServerBuilder::new(folder.path()).with_data_folder(data.path()).enable_blackbox().start(),
    );
    let start = json!({
        "type": "StartWebHookPayload", "callId": "gone", "endpoint": "+39",
        "callAdditionalData": {"note": SECRET},
    });
    assert_eq!(server.post_blackbox(start.to_string()).await.status, 200);
    wait_for_told(&collector, "gone", 2).await;
    // So that the guest that is waited for is the tool.
    server.wait_for_plugin("50-observer", |row| row["backlog"] == 0).await;
    let tool = json!({"toolName": "slow", "callId": "gone"}).to_string();
    let used = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.post_blackbox(tool).await }
    });
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/gone", &[]).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    // The tool had it from before, and was waited for.
    assert!(!is_readable(data.path(), SECRET));
    assert_eq!(used.await.unwrap().body["metadata"]["note"], SECRET);
    let next =
        server.post_blackbox(json!({"toolName": "slow", "callId": "gone"}).to_string()).await;
    assert_eq!(next.body["metadata"], json!({}));
    wait_for_told(&collector, "gone", 3).await;
    let told = collector.events();
    let later: Vec<_> = told.iter().filter(|event| event["kind"] == "tool_invoked").collect();
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["from"], &later[0]["metadata"]), (&Value::Null, &json!({})));
    assert!(!is_readable(data.path(), SECRET));
}

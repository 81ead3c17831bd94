//! Many large documents at once: the server asks for a retry of some, and other requests
//! are not delayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    Collector, PluginFolder, ROUTING_GUEST_URL, ServerBuilder, blackbox_document, call_initiated,
};
use tokio::task::JoinSet;

use super::{MEASURE_REPORTS, report};

/// Limit of the memory for all bodies that are read at once, with the data parsed from
/// them.
const MEMORY: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_large_reports_do_not_delay_other_requests() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let server = Arc::new(ServerBuilder::new(folder.path()).enable_blackbox().start());
    let before = server.resident_memory();
    let bodies: Vec<_> = (0..16).map(|nth| report(&format!("large-{nth}"), 10_000_000)).collect();
    let mut large = JoinSet::new();
    for (nth, body) in bodies.iter().cloned().enumerate() {
        let server = server.clone();
        large.spawn(async move {
            // Retries like the platform, but after a shorter time.
            let (mut rejections, deadline) = (0, Instant::now() + Duration::from_secs(120));
            loop {
                let answer = server.post_blackbox(body.clone()).await;
                if answer.status == 200 {
                    return (nth, rejections, answer.elapsed);
                }
                assert_eq!(answer.status, 503, "{answer:?}");
                assert_eq!(answer.headers["retry-after"], "1");
                assert!(Instant::now() < deadline, "the report is never accepted");
                rejections += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let client = tests::client();
    let (mut calls, mut starts, mut nth) = (Vec::new(), Vec::new(), 0);
    let (mut rejections, mut slowest) = (0, Duration::ZERO);
    while !large.is_empty() {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
        calls.push(answer.elapsed);
        let start = blackbox_document("start.json", &format!("small-{nth}")).to_string();
        let answer = server.post_blackbox(start).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"accept": true})));
        starts.push(answer.elapsed);
        nth += 1;
        while let Some(result) = large.try_join_next() {
            let (_, retries, took) = result.unwrap();
            rejections += retries;
            slowest = slowest.max(took);
        }
    }
    for times in [&mut calls, &mut starts] {
        times.sort();
    }
    let (usual, worst) = (calls[calls.len() / 2], *calls.last().unwrap());
    let peak = server.peak_memory();
    println!(
        "16 reports of 10 MB: {rejections} retries, accepted within {slowest:?}; \
         meanwhile {} calls with a median of {usual:?} and a maximum of {worst:?}, starts \
         within {:?}; memory: {} MiB before, {} MiB at the peak",
        calls.len(),
        starts.last().unwrap(),
        before >> 20,
        peak >> 20
    );
    for times in [&calls, &starts] {
        // Nine of ten within a second, and all of them while the platform waits.
        let most = times[(times.len() - 1) * 9 / 10];
        assert!(most < Duration::from_secs(1), "{times:?}");
        assert!(*times.last().unwrap() < Duration::from_secs(5), "{times:?}");
    }
    assert!(peak - before < MEMORY, "{} MiB", peak >> 20);
    let ended = |call: &str| collector.event_kinds(call).iter().any(|kind| kind == "ended");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !(0..16).all(|nth| ended(&format!("large-{nth}"))) {
        assert!(
            Instant::now() < deadline,
            "not all reports were delivered:\n{}",
            server.log_text()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Overload: the server answers every call when the load exceeds its capacity.

use std::time::Duration;

use serde_json::json;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, ServerBuilder, call_initiated,
    call_initiated_for,
};
use tokio::task::JoinSet;

use super::ALONE;

/// Additional time for an answer, because the machine is busy with the test.
const SLACK: Duration = Duration::from_secs(5);

/// 200 concurrent calls match a plugin that computes until its time limit. The listener and
/// another plugin still answer within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_bound_plugins_do_not_delay_other_calls() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '250ms'\n[match]\nto = '5001'\n")
        .with_guest("20-good", ROUTING_GUEST)
        .with_settings("20-good", "[limits]\ntimeout = '15s'\n");
    // All calls must run the plugin at once, so the circuit breaker stays closed and
    // requests are not coalesced.
    let setup =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0");
    let setup = setup.env("PLUGBOARD_CACHE_ENABLED", "false");
    let server = std::sync::Arc::new(setup.env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s").start());
    let client = tests::client();
    let mut calls = JoinSet::new();
    for call in 0..200 {
        let (server, client) = (server.clone(), client.clone());
        calls.spawn(async move {
            server
                .post_with_client(&client, &[], call_initiated_for(&format!("call-{call}"), "5001"))
                .await
        });
    }
    let mut health = Vec::new();
    let mut quick = Vec::new();
    let mut answered = 0;
    let mut slowest = Duration::ZERO;
    while answered < 200 {
        let probe = tests::client();
        let request = async {
            health.push(server.get("/health").await.elapsed);
            // This number matches the other plugin only, so the call must not wait in that queue.
            let body = call_initiated_for("935652e3-7c59-4edc-b17f-9646a9c2a265", "6001");
            let answer = server.post_with_client(&probe, &[], body).await;
            assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
            quick.push(answer.elapsed);
        };
        request.await;
        while let Some(answer) = calls.try_join_next() {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.sts_url().is_some_and(|url| url.starts_with("ws://sts-good:6030/")));
            slowest = slowest.max(answer.elapsed);
            answered += 1;
        }
    }
    health.sort();
    quick.sort();
    let worst = |times: &[Duration]| *times.last().unwrap();
    // The 99th percentile, because the machine also runs other processes.
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    println!(
        "{} probes: health within {:?} (99 %) and {:?}, another plugin within {:?} and {:?}; \
         200 calls within {slowest:?}",
        health.len(),
        p99(&health),
        worst(&health),
        p99(&quick),
        worst(&quick),
    );
    // In sequence, the CPU-bound calls would take 50 s, and a call behind them as long. The
    // printed figures are for information.
    assert!(slowest < Duration::from_secs(15) + SLACK, "{slowest:?}");
    assert!(health.len() > 5, "{health:?}");
    assert!(p99(&health) < Duration::from_secs(1), "{health:?}");
    assert!(p99(&quick) < Duration::from_secs(1), "{quick:?}");
}

/// 500 concurrent calls share 50 instances, and each gets its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_when_all_instances_are_in_use() {
    let _alone = ALONE.lock().await;
    let settings = "[limits]\ntimeout = '15s'\n";
    let folder =
        PluginFolder::new().with_guest("10-good", ROUTING_GUEST).with_settings("10-good", settings);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "50");
    let server = std::sync::Arc::new(setup.env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s").start());
    let client = tests::client();
    let mut calls = JoinSet::new();
    for call in 0..500 {
        let (server, client) = (server.clone(), client.clone());
        calls.spawn(async move {
            let id = format!("call-{call}");
            let answer =
                server.post_with_client(&client, &[], call_initiated_for(&id, "5001")).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.sts_url(), Some(&*format!("ws://sts-good:6030/?uuid={id}")));
        });
    }
    let mut answered = 0;
    while let Some(answer) = calls.join_next().await {
        answer.unwrap();
        answered += 1;
    }
    assert_eq!(answered, 500);
    let plugin = server.plugin_status("10-good").await;
    assert_eq!((&plugin["calls"], &plugin["failures"]), (&json!(500), &json!(0)));
}

/// The only instance stays in use until the deadline of its call. The waiting calls fall
/// back within the decision timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_falls_back_in_time_when_no_instance_is_free() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '10s'\n");
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "1");
    let server = std::sync::Arc::new(
        setup
            .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "1s")
            .env("PLUGBOARD_FALLBACK_STS_URL", "ws://sts-fallback/")
            .start(),
    );
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let server = server.clone();
        calls.spawn(async move { server.post(call_initiated()).await });
    }
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.sts_url(), Some("ws://sts-fallback/"));
        assert!(answer.elapsed < Duration::from_secs(1) + SLACK, "{:?}", answer.elapsed);
    }
    for label in ["timeout", "busy"] {
        server.wait_for_log(|line| line["error"] == label);
    }
}

/// A CPU-bound guest releases its CPU permit when it blocks on a host call. The guests sleep
/// for 300 ms each, and finish well before the 18 s that they would take if they held the
/// permits while they sleep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleeping_guest_releases_its_cpu_permit() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-naps", "naps")
        .with_settings("10-naps", "[limits]\ntimeout = '15s'\n");
    let server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s").start();
    let server = std::sync::Arc::new(server);
    let mut calls = JoinSet::new();
    // The server leaves one core without a permit.
    let permits = std::thread::available_parallelism().unwrap().get().saturating_sub(1).max(1);
    for _ in 0..60 * permits {
        let server = server.clone();
        calls.spawn(async move { server.post(call_initiated()).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().sts_url(), Some(ROUTING_GUEST_URL));
    }
}

/// A client that closes its connection frees its instance at once.
#[tokio::test]
async fn disconnected_client_releases_its_instance() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '60s'\n[match]\nto = '5001'\n")
        .with_guest("20-good", ROUTING_GUEST);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "1");
    let server = setup.env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "60s").start();
    let client = tests::client_with_timeout(Duration::from_millis(300));
    let url = format!("http://{}/events", server.webhook_address());
    assert!(client.post(url).body(call_initiated()).send().await.is_err());
    // The only instance must be free; otherwise this call would wait for a minute.
    let answer =
        server.post(call_initiated_for("935652e3-7c59-4edc-b17f-9646a9c2a265", "6001")).await;
    assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
}

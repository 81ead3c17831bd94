//! More than there is room for: nobody goes without an answer.

use std::time::Duration;

use serde_json::json;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, ServerBuilder, call_initiated,
    call_initiated_for,
};
use tokio::task::JoinSet;

use super::ALONE;

/// What an answer may take longer on a machine that is busy with the test.
const SLACK: Duration = Duration::from_secs(5);

/// 200 calls at once meet a plugin that spins for as long as it may. Meanwhile
/// the listener answers others as if nothing were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_plugins_starve_nobody() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '250ms'\n[match]\nto = '5001'\n")
        .with_guest("20-good", ROUTING_GUEST)
        .with_settings("20-good", "[limits]\ntimeout = '15s'\n");
    // All of them shall spin, at once: it is not to be set aside, and nobody waits
    // for what the first one comes to.
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_BREAKER_FAILURES", "0");
    let setup = setup.env("PLUGBOARD_CACHE_ENABLED", "false");
    let server = std::sync::Arc::new(setup.env("PLUGBOARD_LIMITS_BUDGET", "15s").start());
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
            // Another number, so another plugin: it must not stand in that queue.
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
    // All but one in a hundred: the machine has other things to do.
    let usual = |times: &[Duration]| times[times.len() * 99 / 100];
    println!(
        "{} probes: health within {:?} (99 %) and {:?}, another plugin within {:?} and {:?}; \
         200 calls within {slowest:?}",
        health.len(),
        usual(&health),
        worst(&health),
        usual(&quick),
        worst(&quick),
    );
    // One after the other, those that spin would take 50 s, and who stands behind them
    // as long; the figures are for people.
    assert!(slowest < Duration::from_secs(15) + SLACK, "{slowest:?}");
    assert!(health.len() > 5, "{health:?}");
    assert!(usual(&health) < Duration::from_secs(1), "{health:?}");
    assert!(usual(&quick) < Duration::from_secs(1), "{quick:?}");
}

/// 500 calls at once, 50 instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_too_small_makes_calls_wait() {
    let _alone = ALONE.lock().await;
    let patient = "[limits]\ntimeout = '15s'\n";
    let folder =
        PluginFolder::new().with_guest("10-good", ROUTING_GUEST).with_settings("10-good", patient);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "50");
    let server = std::sync::Arc::new(setup.env("PLUGBOARD_LIMITS_BUDGET", "15s").start());
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

/// Slots that are held until their call's time is up: whoever waits falls back
/// within the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_finds_no_instance_falls_back_in_time() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '10s'\n");
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "1");
    let server = std::sync::Arc::new(
        setup
            .env("PLUGBOARD_LIMITS_BUDGET", "1s")
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

/// A guest that has computed for long and now waits for the host leaves its turn
/// to others: so many that sleep for 300 ms each are done well before the eighteen
/// seconds that they would take one after the other in each turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sleeps_keeps_nobody_from_computing() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-naps", "naps")
        .with_settings("10-naps", "[limits]\ntimeout = '15s'\n");
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BUDGET", "15s").start();
    let server = std::sync::Arc::new(server);
    let mut calls = JoinSet::new();
    // One of the cores is left to the service.
    let turns = std::thread::available_parallelism().unwrap().get().saturating_sub(1).max(1);
    for _ in 0..60 * turns {
        let server = server.clone();
        calls.spawn(async move { server.post(call_initiated()).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().sts_url(), Some(ROUTING_GUEST_URL));
    }
}

/// A caller that hangs up frees its instance at once.
#[tokio::test]
async fn a_caller_that_is_gone_holds_nothing() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '60s'\n[match]\nto = '5001'\n")
        .with_guest("20-good", ROUTING_GUEST);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_ENGINE_INSTANCES", "1");
    let server = setup.env("PLUGBOARD_LIMITS_BUDGET", "60s").start();
    let client = tests::client_with_timeout(Duration::from_millis(300));
    let url = format!("http://{}/events", server.webhook_address());
    assert!(client.post(url).body(call_initiated()).send().await.is_err());
    // The only instance is free again, or this would wait for a minute.
    let answer =
        server.post(call_initiated_for("935652e3-7c59-4edc-b17f-9646a9c2a265", "6001")).await;
    assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
}

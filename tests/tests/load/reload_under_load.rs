//! Reloads under load: no call is lost, and no call gets a wrong answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::{PluginFolder, ServerBuilder, call_initiated_for};
use tokio::task::JoinSet;

use super::ALONE;

/// Reloads alternate between two versions under load. One of the two versions answers each
/// call, and the new one does if the call began after the acknowledgement of the reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_see_one_version_during_reloads_under_load() {
    let _alone = ALONE.lock().await;
    const RELOADS: usize = 50;
    const TIME: Duration = Duration::from_secs(30);
    const CALLERS: u32 = 16;
    // Calls per second. The rate leaves an ordinary machine time for the reloads.
    const RATE: f64 = 1_000.0;
    // On a busy machine, a slow answer must not count as a lost call.
    let settings = "[limits]\ntimeout = '15s'\n";
    let folder = PluginFolder::new().with_guest("10-a", "alpha").with_settings("10-a", settings);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s");
    let server = Arc::new(setup.start());
    // Numbers of reloads that were started and acknowledged.
    let (started, acknowledged) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (calls, checked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (server, started, acknowledged) =
            (server.clone(), started.clone(), acknowledged.clone());
        let (calls, checked, is_over) = (calls.clone(), checked.clone(), is_over.clone());
        callers.spawn(async move {
            let client = tests::client();
            let interval = Duration::from_secs_f64(f64::from(CALLERS) / RATE);
            let mut interval = tokio::time::interval(interval);
            while !is_over.load(Ordering::SeqCst) {
                interval.tick().await;
                let nth = calls.fetch_add(1, Ordering::Relaxed);
                let id = format!("call-{caller}-{nth}");
                let before = acknowledged.load(Ordering::SeqCst);
                let answer =
                    server.post_with_client(&client, &[], call_initiated_for(&id, "5001")).await;
                let after = started.load(Ordering::SeqCst);
                assert_eq!(answer.status, 200);
                let url = |name| format!("ws://{name}:6030/?tag=&uuid={id}");
                let got = answer.sts_url().unwrap_or_default().to_owned();
                let version = [url("alpha"), url("beta")].iter().position(|it| *it == got);
                let version = version.unwrap_or_else(|| panic!("{got:?} is of neither version"));
                if before == after {
                    checked.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(version, before % 2, "after reload {before}");
                }
            }
        });
    }
    for reload in 1..=RELOADS {
        let reload_start = Instant::now();
        started.store(reload, Ordering::SeqCst);
        folder.replace_guest("10-a", ["alpha", "beta"][reload % 2]);
        server.reload().await;
        acknowledged.store(reload, Ordering::SeqCst);
        // Only one version is correct for at least the duration of the reload.
        let quiet = reload_start.elapsed().max(TIME / RELOADS as u32);
        tokio::time::sleep(quiet).await;
    }
    is_over.store(true, Ordering::SeqCst);
    callers.join_all().await;
    let (calls, checked) = (calls.load(Ordering::Relaxed), checked.load(Ordering::Relaxed));
    let rate = calls as f64 / start.elapsed().as_secs_f64();
    println!("{calls} calls, {rate:.0}/s, {checked} with one correct version, {RELOADS} reloads");
    assert!(calls > 20 * RELOADS, "{calls} calls");
    assert!(checked > calls / 10, "{checked} of {calls}");
    assert_eq!(server.plugin_status("10-a").await["failures"], 0);
    assert_eq!(server.admin_get("/plugins").await.body["generation"], RELOADS + 1);
}

/// 100 guests compute until a time limit of 30 s, and a reload does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_does_not_wait_for_cpu_bound_calls() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[match]\nto = '6001'\n[limits]\ntimeout = '30s'\n")
        .with_guest("20-a", "alpha")
        .with_settings("20-a", "[limits]\ntimeout = '20s'\n");
    // Without the cache, requests are not coalesced, so each call runs the plugin.
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_ENABLED", "false");
    let setup = setup.env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0");
    let server = Arc::new(setup.env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "30s").start());
    let (mut calls, client) = (JoinSet::new(), tests::client());
    for call in 0..100 {
        let (server, client) = (server.clone(), client.clone());
        calls.spawn(async move {
            let body = call_initiated_for(&call.to_string(), "6001");
            server.post_with_client(&client, &[], body).await;
        });
    }
    server.wait_for_guests(2).await;
    let start = Instant::now();
    folder.replace_guest("20-a", "beta");
    server.reload().await;
    println!("reloaded after {:?}", start.elapsed());
    assert!(server.route_call().await.unwrap().starts_with("ws://beta:"));
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

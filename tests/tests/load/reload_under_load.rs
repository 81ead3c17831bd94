//! Reloads while calls come in: none is lost, none gets a wrong answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::{PluginFolder, ServerBuilder, call_initiated_for};
use tokio::task::JoinSet;

use super::ALONE;

/// Two versions take turns under load. Every call is answered, by one of the two,
/// and by the new one if it began after the reload was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloading_under_load_loses_and_mixes_nothing() {
    let _alone = ALONE.lock().await;
    const FLIPS: usize = 50;
    const TIME: Duration = Duration::from_secs(30);
    const CALLERS: u32 = 16;
    // Calls per second, so that a usual machine has time for the reloads.
    const RATE: f64 = 1_000.0;
    // A call that comes late on a busy machine is not one that was lost.
    let patient = "[limits]\ntimeout = '15s'\n";
    let folder = PluginFolder::new().with_guest("10-a", "alpha").with_settings("10-a", patient);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BUDGET", "15s");
    let server = Arc::new(setup.start());
    // How many flips were begun, and how many acknowledged.
    let (begun, acknowledged) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (calls, sure) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (server, begun, acknowledged) = (server.clone(), begun.clone(), acknowledged.clone());
        let (calls, sure, over) = (calls.clone(), sure.clone(), over.clone());
        callers.spawn(async move {
            let client = tests::client();
            let pace = Duration::from_secs_f64(f64::from(CALLERS) / RATE);
            let mut pace = tokio::time::interval(pace);
            while !over.load(Ordering::SeqCst) {
                pace.tick().await;
                let nth = calls.fetch_add(1, Ordering::Relaxed);
                let id = format!("call-{caller}-{nth}");
                let known = acknowledged.load(Ordering::SeqCst);
                let answer =
                    server.post_with_client(&client, &[], call_initiated_for(&id, "5001")).await;
                let later = begun.load(Ordering::SeqCst);
                assert_eq!(answer.status, 200);
                let url = |name| format!("ws://{name}:6030/?tag=&uuid={id}");
                let got = answer.sts_url().unwrap_or_default().to_owned();
                let version = [url("alpha"), url("beta")].iter().position(|it| *it == got);
                let version = version.unwrap_or_else(|| panic!("{got:?} is of neither"));
                if known == later {
                    sure.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(version, known % 2, "after flip {known}");
                }
            }
        });
    }
    for flip in 1..=FLIPS {
        let flipped = Instant::now();
        begun.store(flip, Ordering::SeqCst);
        folder.replace_guest("10-a", ["alpha", "beta"][flip % 2]);
        server.reload().await;
        acknowledged.store(flip, Ordering::SeqCst);
        // For as long again at least, there is one right answer.
        let quiet = flipped.elapsed().max(TIME / FLIPS as u32);
        tokio::time::sleep(quiet).await;
    }
    over.store(true, Ordering::SeqCst);
    callers.join_all().await;
    let (calls, sure) = (calls.load(Ordering::Relaxed), sure.load(Ordering::Relaxed));
    let rate = calls as f64 / start.elapsed().as_secs_f64();
    println!("{calls} calls, {rate:.0}/s, {sure} of them with one right answer, {FLIPS} flips");
    assert!(calls > 20 * FLIPS, "{calls} calls");
    assert!(sure > calls / 10, "{sure} of {calls}");
    assert_eq!(server.plugin_status("10-a").await["failures"], 0);
    assert_eq!(server.admin_get("/plugins").await.body["generation"], FLIPS + 1);
}

/// A hundred guests that spin for longer than anybody would wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_spin_do_not_hold_up_a_reload() {
    let _alone = ALONE.lock().await;
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[match]\nto = '6001'\n[limits]\ntimeout = '30s'\n")
        .with_guest("20-a", "alpha")
        .with_settings("20-a", "[limits]\ntimeout = '20s'\n");
    // Without the cache, none of them waits for what the first one comes to.
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_ENABLED", "false");
    let setup = setup.env("PLUGBOARD_BREAKER_FAILURES", "0");
    let server = Arc::new(setup.env("PLUGBOARD_LIMITS_BUDGET", "30s").start());
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

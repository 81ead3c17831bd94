//! Verdict cache, single-flight and idempotency cache. A cached verdict applies to
//! matching calls, within its time to live, for one plugin version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder, ServerResponse, call_initiated};
use tokio::task::JoinSet;

/// Time by which an answer may exceed its bound on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// Settings of the guest `rules`.
fn rules(ttl: Duration, sleep: Duration, rules: &str) -> String {
    format!(
        "[limits]\ntimeout = '1500ms'\n[config]\nttl_ms = {}\nsleep_ms = {}\nrules = '''{rules}'''\n",
        ttl.as_millis(),
        sleep.as_millis()
    )
}

const MINUTE: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::ZERO;

/// Starts a server with timeouts of [`PATIENCE`], so that no call of the test exceeds its
/// deadline on a busy machine.
fn start_patient_server(folder: PluginFolder, settings: &str) -> (PluginFolder, Arc<Server>) {
    let folder = folder.with_settings("10-a", &settings.replace("1500ms", "15s"));
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s");
    let server = Arc::new(setup.start());
    (folder, server)
}

/// Decision timeout of a patient server.
const PATIENCE: Duration = Duration::from_secs(15);

/// Returns the start of a call with this ID, caller and callee.
fn call(id: &str, from: &str, to: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    body["uuid"] = json!(id);
    (body["payload"]["from"], body["payload"]["to"]) = (json!(from), json!(to));
    body.to_string()
}

fn cache_status(answer: &ServerResponse) -> &str {
    answer.headers["cache-status"].to_str().unwrap()
}

const HIT: &str = "plugboard; hit";
const MISS: &str = "plugboard; fwd=miss";

async fn call_count(server: &Server, plugin: &str) -> u64 {
    server.plugin_status(plugin).await["calls"].as_u64().unwrap()
}

#[tokio::test]
async fn cached_verdict_is_applied_to_matching_calls() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "to 5001 route ws://a/{from}?u={id}"));
    let server = ServerBuilder::new(folder.path()).start();
    let answer = server.post(call("one", "2000", "5001")).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/2000?u=one"), MISS));
    let answer = server.post(call("two", "2001", "5001")).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/2001?u=two"), HIT));
    // A pass is cached as well, separately from the route.
    for expected in [2, 2] {
        assert_eq!(server.post(call("x", "2000", "5002")).await.body, json!({}));
        assert_eq!(call_count(&server, "10-a").await, expected);
    }
    let plugin = server.plugin_status("10-a").await;
    assert_eq!(plugin["cached"], json!({"pass": 1, "route": 1, "reject": 0}), "{plugin}");
    for (result, count) in [("hit", 2), ("miss", 2)] {
        let series =
            format!("plugboard_cache_requests_total{{plugin=\"10-a\",result=\"{result}\"}}");
        // The first call counts no miss: the plugin had no cacheable verdict yet.
        assert_eq!(server.metric_value(&series).await, Some(count - u64::from(result == "miss")));
    }
}

/// The first plugin depends on the caller, the second one on the callee.
#[tokio::test]
async fn caches_per_plugin_not_per_chain() {
    let folder = PluginFolder::new()
        .with_guest("10-vip", "rules")
        .with_settings("10-vip", &rules(MINUTE, AT_ONCE, "from 2000 route ws://vip/?u={id}"))
        .with_guest("20-plan", "rules")
        .with_settings("20-plan", &rules(MINUTE, AT_ONCE, "to 5001 route ws://plan/?u={id}"));
    let server = ServerBuilder::new(folder.path()).start();
    for round in 0..3 {
        for (from, host) in [("2001", "plan"), ("2000", "vip"), ("2002", "plan")] {
            let id = format!("{round}-{from}");
            let answer = server.post(call(&id, from, "5001")).await;
            assert_eq!(answer.sts_url(), Some(&*format!("ws://{host}/?u={id}")));
        }
    }
    assert_eq!((call_count(&server, "10-vip").await, call_count(&server, "20-plan").await), (3, 1));
}

/// Verdicts of one plugin depend on different fields.
#[tokio::test]
async fn verdict_matches_by_every_named_field() {
    let plan = "to 6000 route ws://six/?u={id}\nfrom 2000 route ws://two/?u={id}\n\
                channel \"x\" reject no\n* * route ws://all/?u={id}";
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, plan));
    let server = ServerBuilder::new(folder.path()).start();
    for round in 0..2 {
        for (from, to, host) in [
            ("2000", "6000", "six"),
            ("2001", "6000", "six"),
            ("2000", "5001", "two"),
            ("2001", "5001", "all"),
            ("2000", "5002", "two"),
        ] {
            let id = format!("{round}-{from}-{to}");
            let answer = server.post(call(&id, from, to)).await;
            assert_eq!(answer.sts_url(), Some(&*format!("ws://{host}/?u={id}")));
        }
        // The same numbers, but another metadata value.
        let mut body: Value = serde_json::from_str(&call("m", "2001", "5001")).unwrap();
        body["payload"]["channel"] = json!("x");
        assert_eq!(server.post(body.to_string()).await.body, json!({}));
        assert_eq!(call_count(&server, "10-a").await, 5, "round {round}");
    }
    // An absent field differs from an empty one.
    let mut body: Value = serde_json::from_str(&call("m", "", "5001")).unwrap();
    server.post(body.to_string()).await;
    body["payload"].as_object_mut().unwrap().remove("from");
    body["timestamp"] = json!("2026-02-11T00:00:00Z");
    server.post(body.to_string()).await;
    assert_eq!(call_count(&server, "10-a").await, 7);
}

#[tokio::test]
async fn verdict_expires_after_time_to_live() {
    let ttl = Duration::from_secs(2);
    let settings = |ttl| rules(ttl, AT_ONCE, "* * route ws://a/?u={id}");
    // The plugin's time to live is the limit, then the operator's.
    for (plugin_ttl, max_ttl) in [(ttl, "5m"), (MINUTE, "2s")] {
        let folder = PluginFolder::new()
            .with_guest("10-a", "rules")
            .with_settings("10-a", &settings(plugin_ttl));
        let server =
            ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_MAX_TTL", max_ttl).start();
        server.post(call_initiated()).await;
        let stored = Instant::now();
        let mut hits = 0;
        loop {
            // The start of the call counts, because the answer may arrive late.
            let began = stored.elapsed();
            let answer = server.post(call_initiated()).await;
            if cache_status(&answer) == MISS {
                break;
            }
            assert!(began < ttl, "used after {began:?}");
            hits += 1;
        }
        assert!(hits > 0);
    }
    let folder =
        PluginFolder::new().with_guest("10-a", "rules").with_settings("10-a", &settings(AT_ONCE));
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..2 {
        assert_eq!(cache_status(&server.post(call_initiated()).await), MISS);
    }
}

#[tokio::test]
async fn cache_requires_setting_and_cacheable_verdict() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_ENABLED", "false").start();
    for _ in 0..2 {
        assert_eq!(cache_status(&server.post(call_initiated()).await), "plugboard; fwd=bypass");
    }
    // A verdict that is not cacheable is computed for each call.
    let folder = PluginFolder::new().with_guest("10-a", "routes");
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..3 {
        assert_eq!(cache_status(&server.post(call_initiated()).await), MISS);
    }
    assert_eq!(call_count(&server, "10-a").await, 3);
}

/// Fifty equal calls arrive at once, and each gets its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_equal_calls_run_plugin_once() {
    let plan = "to 5001 route ws://a/?u={id}";
    let slow = rules(MINUTE, Duration::from_millis(300), plan);
    // In the second round the vary set is not known yet.
    for is_vary_set_known in [true, false] {
        let folder = PluginFolder::new().with_guest("10-a", "rules");
        let (_folder, server) = start_patient_server(folder, &slow);
        if is_vary_set_known {
            server.post(call("first", "1", "9999")).await;
        }
        let mut waiting = JoinSet::new();
        for nth in 0..50 {
            let server = server.clone();
            waiting.spawn(async move {
                let id = format!("call-{nth}");
                let answer = server.post(call(&id, &nth.to_string(), "5001")).await;
                assert_eq!(answer.sts_url(), Some(&*format!("ws://a/?u={id}")));
                assert!(answer.elapsed < PATIENCE, "{:?}", answer.elapsed);
            });
        }
        waiting.join_all().await;
        assert_eq!(call_count(&server, "10-a").await, 1 + u64::from(is_vary_set_known));
    }
}

/// The leader fails, or its client disconnects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_survive_leader_failure_and_cancellation() {
    // The vary set is not known yet, so all calls wait for the first one.
    let plan = "from 1 error boom\nto 5001 route ws://a/?u={id}";
    let slow = rules(MINUTE, Duration::from_millis(1_500), plan);
    for disconnects in [false, true] {
        let folder = PluginFolder::new().with_guest("10-a", "rules");
        let (_folder, server) = start_patient_server(folder, &slow);
        let timeout = if disconnects { Duration::from_secs(1) } else { PATIENCE };
        let leader = tests::client_with_timeout(timeout);
        let url = format!("http://{}/events", server.webhook_address());
        let leader = tokio::spawn(leader.post(url).body(call("leader", "1", "5001")).send());
        // It is the leader once it holds an instance.
        server.wait_for_guests(1).await;
        let mut waiting = JoinSet::new();
        for nth in 0..10 {
            let server = server.clone();
            waiting.spawn(async move {
                let id = format!("call-{nth}");
                let answer = server.post(call(&id, "2", "5001")).await;
                assert_eq!(answer.sts_url(), Some(&*format!("ws://a/?u={id}")));
                assert!(answer.elapsed < PATIENCE, "{:?}", answer.elapsed);
            });
        }
        waiting.join_all().await;
        let leader_result = leader.await.unwrap();
        assert_eq!(leader_result.is_err(), disconnects);
        let plugin = server.plugin_status("10-a").await;
        assert_eq!(plugin["failures"], u64::from(!disconnects), "{plugin}");
        if disconnects {
            // One follower became the leader, and the others waited for it.
            assert_eq!(plugin["calls"], 1);
        }
    }
}

/// The vary set is not known yet, so all calls wait for the first one. Its verdict matches
/// a third of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_runs_plugin_when_verdict_does_not_match() {
    let plan = "to 5001 route ws://one/?u={id}\nto 6001 route ws://two/?u={id}";
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, Duration::from_millis(200), plan));
    let server = Arc::new(ServerBuilder::new(folder.path()).start());
    let mut waiting = JoinSet::new();
    for nth in 0..20 {
        let server = server.clone();
        waiting.spawn(async move {
            let (to, host) = [("5001", "one"), ("6001", "two"), ("7001", "")][nth % 3];
            let id = format!("call-{nth}");
            let answer = server.post(call(&id, "1", to)).await;
            let url = format!("ws://{host}/?u={id}");
            assert_eq!(answer.sts_url(), (!host.is_empty()).then_some(&*url));
        });
    }
    waiting.join_all().await;
    assert!(call_count(&server, "10-a").await < 20);
}

/// The leader takes longer than the followers wait: they run the plugin as well, and use
/// the first verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_uses_first_verdict_when_leader_is_slow() {
    // The plugin hangs for the leader only, or takes most of the budget for every call.
    let hangs = rules(MINUTE, AT_ONCE, "from 1 hang -\n* * route ws://a/?u={id}");
    let slow = rules(MINUTE, Duration::from_millis(4500), "* * route ws://a/?u={id}");
    for (settings, within) in [(hangs, 5_000), (slow, 5_900)] {
        let settings = settings.replace("1500ms", "30s");
        let folder =
            PluginFolder::new().with_guest("10-a", "rules").with_settings("10-a", &settings);
        let setup =
            ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "6s");
        let server = Arc::new(setup.start());
        let leader = tokio::spawn({
            let server = server.clone();
            async move { server.post(call("leader", "1", "5001")).await }
        });
        server.wait_for_guests(1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut waiting = JoinSet::new();
        for nth in 0..10 {
            let server = server.clone();
            waiting.spawn(async move {
                let id = format!("call-{nth}");
                let answer = server.post(call(&id, "2", "5001")).await;
                assert_eq!(answer.sts_url(), Some(&*format!("ws://a/?u={id}")));
                assert!(answer.elapsed < Duration::from_millis(within), "{:?}", answer.elapsed);
            });
        }
        waiting.join_all().await;
        leader.await.unwrap();
    }
}

/// A follower's deadline starts with its own call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_keeps_its_own_deadline() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, MINUTE, "* * pass").replace("1500ms", "60s"));
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "6s")
        .env("PLUGBOARD_FALLBACK_STS_URL", "ws://sts-fallback/");
    let server = Arc::new(server.start());
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let server = server.clone();
        waiting.spawn(async move {
            let answer = server.post(call_initiated()).await;
            assert_eq!(answer.sts_url(), Some("ws://sts-fallback/"));
            assert!(answer.elapsed < Duration::from_secs(6) + SLACK, "{:?}", answer.elapsed);
        });
    }
    waiting.join_all().await;
}

/// While the probe of a half-open circuit runs, other calls skip the plugin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_circuit_probe() {
    let folder = PluginFolder::new().with_guest("10-a", "rules").with_settings(
        "10-a",
        &rules(MINUTE, AT_ONCE, "from 1 hang -\n* * route ws://a/?u={id}").replace("1500ms", "8s"),
    );
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "8s")
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "1")
        .env("PLUGBOARD_CIRCUIT_BREAKER_OPEN_DURATION", "100ms");
    let server = Arc::new(server.start());
    // The plugin returns a cacheable verdict, then its circuit opens.
    server.post(call("good", "2", "5001")).await;
    server.post(call("bad", "1", "5001")).await;
    server.wait_for_plugin("10-a", |row| row["breaker"] == "half_open").await;
    let probe = tokio::spawn({
        let server = server.clone();
        async move { server.post(call("probe", "1", "5001")).await }
    });
    server.wait_for_guests(1).await;
    let answer = server.post(call("other", "1", "5001")).await;
    assert_eq!(answer.body, json!({}));
    // A call that waits for the probe would take half of its budget.
    assert!(answer.elapsed < SLACK && !probe.is_finished(), "{:?}", answer.elapsed);
    probe.await.unwrap();
}

#[tokio::test]
async fn failures_are_not_cached() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "to 5001 error boom"));
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..3 {
        server.post(call_initiated()).await;
    }
    assert_eq!(call_count(&server, "10-a").await, 3);
}

/// The old version still runs when the new one is published. Its verdict answers its own
/// call only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdict_is_never_used_by_another_version() {
    let settings = |sleep, host: &str| rules(MINUTE, sleep, &format!("to 5001 route ws://{host}/"));
    let folder = PluginFolder::new().with_guest("10-a", "rules");
    let (folder, server) = start_patient_server(folder, &settings(Duration::from_secs(2), "old"));
    // The old version has a vary set.
    server.post(call("first", "1", "9999")).await;
    let old = tokio::spawn({
        let server = server.clone();
        async move { server.post(call_initiated()).await }
    });
    server.wait_for_guests(1).await;
    folder.replace_settings("10-a", &settings(AT_ONCE, "new"));
    server.reload().await;
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://new/"));
    assert_eq!(old.await.unwrap().sts_url(), Some("ws://old/"));
    // The verdict of the old version has arrived by now.
    let answer = server.post(call_initiated()).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://new/"), HIT));
    // The earlier settings are another version, without the earlier verdicts.
    folder.replace_settings("10-a", &settings(Duration::from_millis(1), "old"));
    server.reload().await;
    assert_eq!(cache_status(&server.post(call_initiated()).await), MISS);
}

#[tokio::test]
async fn reload_keeps_verdicts_of_other_plugins() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "* * pass"))
        .with_guest("20-b", "alpha");
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated()).await;
    folder.replace_guest("20-b", "beta");
    server.reload().await;
    assert_eq!(server.route_call().await.unwrap().split(':').nth(1), Some("//beta"));
    assert_eq!(call_count(&server, "10-a").await, 1);
    // Counters continue across versions.
    assert_eq!(call_count(&server, "20-b").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_delivery_returns_same_answer() {
    let folder = PluginFolder::new().with_guest("10-a", "rules").with_settings(
        "10-a",
        "[config]\nsleep_ms = 300\nrules = '* * route ws://a/?u={id}'\n[limits]\ntimeout = '1s'\n",
    );
    let serve =
        |ttl| ServerBuilder::new(folder.path()).env("PLUGBOARD_IDEMPOTENCY_TTL", ttl).start();
    let server = Arc::new(serve("10m"));
    // Twice at once, and again after a reload.
    let body = call("one", "1", "2");
    let (first, second) = tokio::join!(server.post(&*body), server.post(&*body));
    folder.replace_settings("10-a", "[config]\nrules = '* * route ws://b/?u={id}'\n");
    server.reload().await;
    let third = server.post(&*body).await;
    for answer in [&first, &second, &third] {
        assert_eq!(answer.sts_url(), Some("ws://a/?u=one"));
    }
    assert_eq!(cache_status(&third), "plugboard; hit; detail=delivery");
    let both = [cache_status(&first), cache_status(&second)];
    assert!(both.contains(&MISS) && both.contains(&cache_status(&third)), "{both:?}");
    assert_eq!(call_count(&server, "10-a").await, 1);
    server.wait_for_log(|line| line["message"] == "redelivery answered from the idempotency cache");
    // Another call ID, then another timestamp.
    for body in [call("two", "1", "2"), call("one", "1", "2")] {
        assert_eq!(cache_status(&server.post(body).await), MISS);
    }
    assert_eq!(call_count(&server, "10-a").await, 3);

    // The time to live is 100 ms, then zero.
    let server = serve("100ms");
    let start = Instant::now();
    while call_count(&server, "10-a").await < 2 {
        server.post(&*body).await;
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(start.elapsed() > Duration::from_millis(100));
    let server = serve("0s");
    for _ in 0..2 {
        assert_eq!(cache_status(&server.post(&*body).await), MISS);
    }
}

/// The verdicts of 500 callers exceed the cache size of 16 KiB.
#[tokio::test]
async fn cache_size_is_bounded() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "from 1 pass\n* * route ws://a/?u={id}"));
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_SIZE", "16KiB").start();
    let client = tests::client();
    for caller in 0..500 {
        let answer =
            server.post_with_client(&client, &[], call("x", &caller.to_string(), "1")).await;
        assert_eq!(answer.status, 200);
    }
    let bytes = server.metric_value("plugboard_cache_bytes").await.unwrap();
    assert!(bytes <= 16 << 10, "{bytes}");
    // A verdict for a caller number of 100,000 digits is not cached.
    for _ in 0..2 {
        let answer = server.post(call("x", &"9".repeat(100_000), "1")).await;
        assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/?u=x"), MISS));
    }
    assert_eq!(server.metric_value("plugboard_cache_uncacheable_total").await, Some(2));
}

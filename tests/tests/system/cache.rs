//! Verdicts that are used again: for the calls that they fit, for as long as they
//! may, and never those of another version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder, ServerResponse, call_initiated};
use tokio::task::JoinSet;

/// What an answer may take longer on a machine that is busy.
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

/// A server, and settings for it, with time for a busy machine: who comes late would not
/// have what the test is about.
fn patient(folder: PluginFolder, settings: &str) -> (PluginFolder, Arc<Server>) {
    let folder = folder.with_settings("10-a", &settings.replace("1500ms", "15s"));
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BUDGET", "15s");
    let server = Arc::new(setup.start());
    (folder, server)
}

/// What a patient server has for a call.
const PATIENCE: Duration = Duration::from_secs(15);

/// A call of its own id, from and to these numbers.
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

async fn calls(server: &Server, plugin: &str) -> u64 {
    server.plugin_status(plugin).await["calls"].as_u64().unwrap()
}

#[tokio::test]
async fn a_verdict_is_used_for_the_calls_that_it_fits_and_filled_for_each() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "to 5001 route ws://a/{from}?u={id}"));
    let server = ServerBuilder::new(folder.path()).start();
    let answer = server.post(call("one", "2000", "5001")).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/2000?u=one"), MISS));
    let answer = server.post(call("two", "2001", "5001")).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/2001?u=two"), HIT));
    // A pass is kept as well, and does not hide behind the answer.
    for expected in [2, 2] {
        assert_eq!(server.post(call("x", "2000", "5002")).await.body, json!({}));
        assert_eq!(calls(&server, "10-a").await, expected);
    }
    let plugin = server.plugin_status("10-a").await;
    assert_eq!(plugin["cached"], json!({"pass": 1, "route": 1, "reject": 0}), "{plugin}");
    for (result, count) in [("hit", 2), ("miss", 2)] {
        let series =
            format!("plugboard_cache_requests_total{{plugin=\"10-a\",result=\"{result}\"}}");
        // The first call came before it was known that there would be a cache.
        assert_eq!(server.metric_value(&series).await, Some(count - u64::from(result == "miss")));
    }
}

/// The first plugin passes for one caller and not for the other; the second one
/// looks at the number only.
#[tokio::test]
async fn what_one_plugin_says_is_not_what_the_chain_says() {
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
    assert_eq!((calls(&server, "10-vip").await, calls(&server, "20-plan").await), (3, 1));
}

/// Which fields count differs from verdict to verdict.
#[tokio::test]
async fn every_field_that_a_verdict_names_counts() {
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
        assert_eq!(calls(&server, "10-a").await, 5, "round {round}");
    }
    // A field that is missing is not one that is empty.
    let mut body: Value = serde_json::from_str(&call("m", "", "5001")).unwrap();
    server.post(body.to_string()).await;
    body["payload"].as_object_mut().unwrap().remove("from");
    body["timestamp"] = json!("2026-02-11T00:00:00Z");
    server.post(body.to_string()).await;
    assert_eq!(calls(&server, "10-a").await, 7);
}

#[tokio::test]
async fn nothing_is_used_longer_than_it_may() {
    let ttl = Duration::from_secs(2);
    let settings = |ttl| rules(ttl, AT_ONCE, "* * route ws://a/?u={id}");
    // Once by the plugin's word, once by the operator's.
    for (asked, most) in [(ttl, "5m"), (MINUTE, "2s")] {
        let folder =
            PluginFolder::new().with_guest("10-a", "rules").with_settings("10-a", &settings(asked));
        let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_MAX_TTL", most).start();
        server.post(call_initiated()).await;
        let kept = Instant::now();
        let mut hits = 0;
        loop {
            // Judged by when the call began: what is answered later may be late.
            let began = kept.elapsed();
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
async fn the_cache_can_be_switched_off_and_asks_for_leave() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_ENABLED", "false").start();
    for _ in 0..2 {
        assert_eq!(cache_status(&server.post(call_initiated()).await), "plugboard; fwd=bypass");
    }
    // A plugin that gives no leave is asked each time.
    let folder = PluginFolder::new().with_guest("10-a", "routes");
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..3 {
        assert_eq!(cache_status(&server.post(call_initiated()).await), MISS);
    }
    assert_eq!(calls(&server, "10-a").await, 3);
}

/// Fifty equal calls at once, and each answered for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_equal_calls_are_one_computation() {
    let plan = "to 5001 route ws://a/?u={id}";
    let slow = rules(MINUTE, Duration::from_millis(300), plan);
    // Also the very first one, of which nobody knows yet what it depends on.
    for known in [true, false] {
        let folder = PluginFolder::new().with_guest("10-a", "rules");
        let (_folder, server) = patient(folder, &slow);
        if known {
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
        assert_eq!(calls(&server, "10-a").await, 1 + u64::from(known));
    }
}

/// The one that asks for all of them fails, or hangs up: the others do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_not_failed_by_who_asks() {
    // Nobody knows yet what the plugin looks at, so all wait for the first one.
    let plan = "from 1 error boom\nto 5001 route ws://a/?u={id}";
    let slow = rules(MINUTE, Duration::from_millis(1_500), plan);
    for hangs_up in [false, true] {
        let folder = PluginFolder::new().with_guest("10-a", "rules");
        let (_folder, server) = patient(folder, &slow);
        let patience = if hangs_up { Duration::from_secs(1) } else { PATIENCE };
        let leader = tests::client_with_timeout(patience);
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
        let led = leader.await.unwrap();
        assert_eq!(led.is_err(), hangs_up);
        let plugin = server.plugin_status("10-a").await;
        assert_eq!(plugin["failures"], u64::from(!hangs_up), "{plugin}");
        if hangs_up {
            // One of those who waited took over, and the rest waited for him.
            assert_eq!(plugin["calls"], 1);
        }
    }
}

/// Nobody knows yet that the number counts, so all wait for the first one; whom
/// its verdict does not fit does not use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_looks_whether_the_verdict_fits() {
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
    assert!(calls(&server, "10-a").await < 20);
}

/// The one that asks for all takes longer than the others can wait idly: they ask
/// themselves, and take what comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_wait_longer_takes_what_comes_first() {
    // It hangs for the leader and for nobody else, or it takes most of the budget
    // for everybody.
    let hangs = rules(MINUTE, AT_ONCE, "from 1 hang -\n* * route ws://a/?u={id}");
    let slow = rules(MINUTE, Duration::from_millis(4500), "* * route ws://a/?u={id}");
    for (settings, within) in [(hangs, 5_000), (slow, 5_900)] {
        let settings = settings.replace("1500ms", "30s");
        let folder =
            PluginFolder::new().with_guest("10-a", "rules").with_settings("10-a", &settings);
        let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BUDGET", "6s");
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

/// Who waits for another one's computation is late by his own clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_keeps_his_own_budget() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, MINUTE, "* * pass").replace("1500ms", "60s"));
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_LIMITS_BUDGET", "6s")
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

/// While one call tries a plugin that was set aside, the others do without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_plugin_that_keeps_failing() {
    let folder = PluginFolder::new().with_guest("10-a", "rules").with_settings(
        "10-a",
        &rules(MINUTE, AT_ONCE, "from 1 hang -\n* * route ws://a/?u={id}").replace("1500ms", "8s"),
    );
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_LIMITS_BUDGET", "8s")
        .env("PLUGBOARD_BREAKER_FAILURES", "1")
        .env("PLUGBOARD_BREAKER_PAUSE", "100ms");
    let server = Arc::new(server.start());
    // So that it is known to give leave, and then set aside.
    server.post(call("good", "2", "5001")).await;
    server.post(call("bad", "1", "5001")).await;
    server.wait_for_plugin("10-a", |row| row["breaker"] == "half_open").await;
    let trial = tokio::spawn({
        let server = server.clone();
        async move { server.post(call("trial", "1", "5001")).await }
    });
    server.wait_for_guests(1).await;
    let answer = server.post(call("other", "1", "5001")).await;
    assert_eq!(answer.body, json!({}));
    // Who waited for the trial would do so for half of his budget.
    assert!(answer.elapsed < SLACK && !trial.is_finished(), "{:?}", answer.elapsed);
    trial.await.unwrap();
}

#[tokio::test]
async fn failures_are_asked_again() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "to 5001 error boom"));
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..3 {
        server.post(call_initiated()).await;
    }
    assert_eq!(calls(&server, "10-a").await, 3);
}

/// The old version is still thinking when the new one takes over; what it comes
/// to is for its own call, and for no later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_never_meets_the_verdict_of_another() {
    let settings = |sleep, host: &str| rules(MINUTE, sleep, &format!("to 5001 route ws://{host}/"));
    let folder = PluginFolder::new().with_guest("10-a", "rules");
    let (folder, server) = patient(folder, &settings(Duration::from_secs(2), "old"));
    // So that it is known what the old version looks at.
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
    // It has landed now.
    let answer = server.post(call_initiated()).await;
    assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://new/"), HIT));
    // Back to the old one: what it said before is not its word today.
    folder.replace_settings("10-a", &settings(Duration::from_millis(1), "old"));
    server.reload().await;
    assert_eq!(cache_status(&server.post(call_initiated()).await), MISS);
}

/// A reload of one plugin leaves the verdicts of the others.
#[tokio::test]
async fn who_is_not_reloaded_stays_warm() {
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", &rules(MINUTE, AT_ONCE, "* * pass"))
        .with_guest("20-b", "alpha");
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated()).await;
    folder.replace_guest("20-b", "beta");
    server.reload().await;
    assert_eq!(server.route_call().await.unwrap().split(':').nth(1), Some("//beta"));
    assert_eq!(calls(&server, "10-a").await, 1);
    // Counting goes on where the old version stopped.
    assert_eq!(calls(&server, "20-b").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_comes_again_gets_the_same_answer() {
    let folder = PluginFolder::new().with_guest("10-a", "rules").with_settings(
        "10-a",
        "[config]\nsleep_ms = 300\nrules = '* * route ws://a/?u={id}'\n[limits]\ntimeout = '1s'\n",
    );
    let serve =
        |keep| ServerBuilder::new(folder.path()).env("PLUGBOARD_CACHE_DELIVERIES", keep).start();
    let server = Arc::new(serve("10m"));
    // Twice at once, and once more after a change.
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
    assert_eq!(calls(&server, "10-a").await, 1);
    server.wait_for_log(|line| line["message"] == "delivered again: the same answer");
    // Another call, another time.
    for body in [call("two", "1", "2"), call("one", "1", "2")] {
        assert_eq!(cache_status(&server.post(body).await), MISS);
    }
    assert_eq!(calls(&server, "10-a").await, 3);

    // Only for a time, or not at all.
    let server = serve("100ms");
    let start = Instant::now();
    while calls(&server, "10-a").await < 2 {
        server.post(&*body).await;
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert!(start.elapsed() > Duration::from_millis(100));
    let server = serve("0s");
    for _ in 0..2 {
        assert_eq!(cache_status(&server.post(&*body).await), MISS);
    }
}

/// For a memory of some verdicts, thousands of callers: what is kept is bounded.
#[tokio::test]
async fn the_cache_has_a_size() {
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
    // A caller who sends pages of text is answered, and not remembered.
    for _ in 0..2 {
        let answer = server.post(call("x", &"9".repeat(100_000), "1")).await;
        assert_eq!((answer.sts_url(), cache_status(&answer)), (Some("ws://a/?u=x"), MISS));
    }
    assert_eq!(server.metric_value("plugboard_cache_refusals_total").await, Some(2));
}

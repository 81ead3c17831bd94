//! Admin API for operators: explained decisions, metrics and circuit breaker states.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, ServerBuilder, call_initiated};

const FAILS: &str = "[config]\nrules = '* * error boom'\n";
const WORKS: &str = "[config]\nrules = '* * route ws://works/'\n";

#[tokio::test]
async fn explain_reports_result_of_each_plugin() {
    let folder = PluginFolder::new()
        .with_guest("10-other", "alpha")
        .with_settings("10-other", "[match]\nto = '6*'\n")
        .with_guest("20-fails", "rules")
        .with_settings("20-fails", FAILS)
        .with_guest("30-passes", "rules")
        .with_settings("30-passes", "[config]\nttl_ms = 60000\nrules = 'from 1 reject no'\n")
        .with_guest("40-alpha", "alpha")
        .with_guest("50-late", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    // Only live calls fill the cache.
    let before = server.post(call_initiated()).await;
    let counted = server.admin_get("/plugins").await.body;
    for _ in 0..2 {
        let answer = server.admin_post("/explain", call_initiated()).await;
        assert_eq!(answer.status, 200);
        let explained = answer.body;
        assert_eq!((&explained["generation"], &explained["platform"]), (&json!(1), &json!("avr")));
        assert_eq!(
            (&explained["outcome"], &explained["by"]),
            (&json!("route"), &json!("40-alpha"))
        );
        assert_eq!((&explained["source"], &explained["failures"]), (&json!("cache"), &json!(1)));
        assert_eq!(explained["answer"], before.body);
        let steps = explained["plugins"].as_array().unwrap();
        let names: Vec<_> = steps.iter().map(|step| step["plugin"].as_str().unwrap()).collect();
        assert_eq!(names, ["10-other", "20-fails", "30-passes", "40-alpha", "50-late"]);
        let step = |nth: usize| {
            let step = &steps[nth];
            (step["matched"].as_bool().unwrap(), step["source"].as_str())
        };
        assert_eq!(step(0), (false, None));
        assert_eq!(step(1), (true, Some("plugin")));
        assert_eq!(step(2), (true, Some("cache")));
        assert_eq!(step(3), (true, Some("cache")));
        assert_eq!(step(4), (true, None));
        assert_eq!(steps[1]["error"]["label"], "guest_error");
        assert!(steps[1]["took_us"].as_u64().unwrap() > 0);
        assert_eq!(steps[2]["decision"], json!({"verdict": "pass"}));
        let url = "ws://alpha:6030/?tag=&uuid={id}";
        assert_eq!(steps[3]["decision"], json!({"verdict": "route", "sts_url": url}));
    }
    // An explanation changes no counter.
    assert_eq!(server.admin_get("/plugins").await.body, counted);
    let answer = server.admin_post("/explain", "{").await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")));
    let ended = tests::fixture("call_ended.json");
    assert_eq!(server.admin_post("/explain", ended).await.status, 400);
}

#[tokio::test]
async fn explain_does_not_fill_cache() {
    let folder = PluginFolder::new().with_guest("10-a", "alpha");
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..2 {
        let explained = server.admin_post("/explain", call_initiated()).await.body;
        assert_eq!(
            (&explained["source"], &explained["plugins"][0]["source"]),
            (&json!("plugin"), &json!("plugin"))
        );
    }
    let answer = server.post(call_initiated()).await;
    assert_eq!(answer.headers["cache-status"], "plugboard; fwd=miss");
}

#[tokio::test]
async fn circuit_opens_after_repeated_failures() {
    let open_duration = Duration::from_secs(10);
    let folder = PluginFolder::new()
        .with_guest("10-a", "rules")
        .with_settings("10-a", FAILS)
        .with_guest("20-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "3")
        .env("PLUGBOARD_CIRCUIT_BREAKER_OPEN_DURATION", "10s")
        .start();
    let calls = async || server.plugin_status("10-a").await["calls"].as_u64().unwrap();
    // Start of the call that opens the circuit.
    let mut opened = std::time::Instant::now();
    for nth in 1..=3 {
        assert_eq!(server.plugin_status("10-a").await["state"], "active");
        opened = std::time::Instant::now();
        assert_eq!(server.route_call().await.as_deref(), Some(ROUTING_GUEST_URL));
        assert_eq!(calls().await, nth);
    }
    let plugin = server.plugin_status("10-a").await;
    assert_eq!((&plugin["state"], &plugin["breaker"]), (&json!("circuit_open"), &json!("open")));
    assert_eq!(plugin["last_error"]["label"], "guest_error");
    server.wait_for_log(|line| line["level"] == "ERROR" && line["plugin"] == "10-a");
    // The open circuit applies `on_failure` without running the plugin.
    assert_eq!(server.route_call().await.as_deref(), Some(ROUTING_GUEST_URL));
    let explained = server.admin_post("/explain", call_initiated()).await.body;
    assert_eq!(explained["plugins"][0]["source"], "circuit_open", "{explained}");
    assert!(opened.elapsed() >= open_duration || calls().await == 3);
    // The probe of the half-open circuit fails and opens it again.
    server.wait_for_plugin("10-a", |row| row["breaker"] == "half_open").await;
    assert!(opened.elapsed() >= open_duration);
    server.route_call().await;
    assert_eq!(
        (calls().await, &server.plugin_status("10-a").await["breaker"]),
        (4, &json!("open"))
    );
    // A new version starts with a closed circuit.
    folder.replace_settings("10-a", &format!("on_failure = 'stop'\n{FAILS}"));
    server.reload().await;
    assert_eq!(server.plugin_status("10-a").await["state"], "active");
    for _ in 0..4 {
        assert_eq!(server.post(call_initiated()).await.body, json!({}));
    }
    assert_eq!(server.plugin_status("10-a").await["state"], "circuit_open");
    assert_eq!(calls().await, 7);
    folder.replace_settings("10-a", WORKS);
    server.reload().await;
    assert_eq!(server.route_call().await.as_deref(), Some("ws://works/"));
}

/// A caller whose number makes the plugin fail does not affect other callers.
#[tokio::test]
async fn one_caller_cannot_open_circuit_for_all() {
    let folder = PluginFolder::new().with_guest("10-a", "rules").with_settings(
        "10-a",
        "[config]\nrules = '''from 666 error boom\n* * route ws://works/{from}'''\n",
    );
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "3")
        .start();
    let post = async |from: &str| {
        let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
        body["payload"]["from"] = json!(from);
        server.post(body.to_string()).await
    };
    for _ in 0..10 {
        post("666").await;
        for _ in 0..2 {
            assert_eq!(post("1").await.sts_url(), Some("ws://works/1"));
        }
    }
    // The circuit stays closed when the cache answers the other callers.
    let plan = "to 666 error boom\n* * route ws://works/{from}";
    folder.replace_settings("10-a", &format!("[config]\nttl_ms = 60000\nrules = '''{plan}'''\n"));
    server.reload().await;
    for nth in 0..10 {
        let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
        body["payload"]["to"] = json!("666");
        server.post(body.to_string()).await;
        for _ in 0..2 {
            assert_eq!(post("1").await.sts_url(), Some("ws://works/1"), "{nth}");
        }
    }
    assert_eq!(server.plugin_status("10-a").await["state"], "active");
    // Caller text that fits no URL does not count as a failure of the plugin.
    for _ in 0..10 {
        assert_eq!(post("..").await.body, json!({}));
    }
    assert_eq!(server.plugin_status("10-a").await["state"], "active");
}

#[tokio::test]
async fn metrics_are_valid_and_exclude_caller_data() {
    let folder = PluginFolder::new()
        .with_guest("10-\"quoted\\name", "rules")
        .with_settings(
            "10-\"quoted\\name",
            "[config]\nttl_ms = 60000\nrules = 'from 2000 error boom'\n",
        )
        .with_guest("20-alpha", "alpha")
        .with_guest("30-broken", "core-module");
    let server = ServerBuilder::new(folder.path()).start();
    for _ in 0..3 {
        server.post(call_initiated()).await;
    }
    server.post("{").await;
    server.reload().await;
    let text = server.metrics_text().await;
    for line in [
        "plugboard_http_requests_total{listener=\"webhooks\",status=\"200\"} 3",
        "plugboard_http_requests_total{listener=\"webhooks\",status=\"400\"} 1",
        "plugboard_http_requests_total{listener=\"admin\",status=\"200\"} 1",
        "plugboard_generation 1",
        "plugboard_pool_instances 200",
        "plugboard_pool_instances_used 0",
        "plugboard_reloads_total{result=\"published\"} 1",
        "plugboard_plugin_load_failures_total{stage=\"compile\"} 1",
        "plugboard_plugin_load_failing{plugin=\"30-broken\"} 1",
        "plugboard_plugin_failures_total{plugin=\"10-\\\"quoted\\\\name\",error=\"guest_error\"} 3",
        "plugboard_plugin_decisions_total{plugin=\"20-alpha\",source=\"plugin\",outcome=\"route\"} 1",
        "plugboard_plugin_decisions_total{plugin=\"20-alpha\",source=\"cache\",outcome=\"route\"} 2",
        "plugboard_plugin_circuit_open{plugin=\"20-alpha\"} 0",
        "plugboard_plugin_call_duration_seconds_count{plugin=\"20-alpha\"} 1",
        "plugboard_plugin_call_duration_seconds_bucket{le=\"+Inf\",plugin=\"20-alpha\"} 1",
        "plugboard_cache_requests_total{plugin=\"20-alpha\",result=\"hit\"} 2",
        "plugboard_cache_evictions_total 0",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: Vec<_> = families.map(|rest| rest.split(' ').next().unwrap()).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(families.iter().any(|family| line.starts_with(family)), "{line} has no type");
    }
    for personal in ["2000", "5001", "935652e3"] {
        assert!(!text.contains(personal), "{personal} in\n{text}");
    }
}

#[tokio::test]
async fn admin_api_requires_token_except_probes() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "t0ken").start();
    for path in ["/plugins", "/metrics"] {
        assert_eq!(server.admin_get(path).await.status, 401, "{path}");
        let credentials = [("authorization", "Bearer t0ken")];
        assert_eq!(server.admin_get_with_headers(path, &credentials).await.status, 200, "{path}");
    }
    for path in ["/reload", "/explain"] {
        assert_eq!(server.admin_post(path, call_initiated()).await.status, 401, "{path}");
    }
    assert_eq!(server.admin_get("/livez").await.status, 200);
}

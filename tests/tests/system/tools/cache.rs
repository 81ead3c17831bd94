//! Cache of tool results: the plugin declares results cacheable, and for which calls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder};

use super::{error, invoke, tool_request, tools};

/// Returns the random number in a result. Each run of the tool makes another one.
async fn nonce(server: &Server, body: String) -> Value {
    let answer = server.post_blackbox(body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body["nonce"].is_u64(), "{answer:?}");
    answer.body["nonce"].clone()
}

fn request_from(number: &str, call: &str) -> String {
    let arguments = json!({"date": "2025-10-25"});
    let mut body: Value = serde_json::from_str(&tool_request("echo", call, &arguments)).unwrap();
    body["endpoint"] = json!(number);
    body.to_string()
}

#[tokio::test]
async fn tool_results_are_not_cached_by_default() {
    let folder = tools(PluginFolder::new(), "10-a", "[grants]\nkv = true\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for nth in 1..5 {
        assert_eq!(invoke(&server, "echo").await.body["nth"], nth);
    }
    // Errors, failures and results with a time to live of 0 are not cached.
    for settings in ["do = 'error'", "do = 'trap'"] {
        folder.replace_settings("10-a", &format!("[config]\n{settings}\n"));
        server.reload().await;
        error(&invoke(&server, "echo").await);
        folder.replace_settings("10-a", "");
        server.reload().await;
        assert_eq!(invoke(&server, "echo").await.body["tool"], "echo");
    }
    folder.replace_settings("10-a", "[config]\ndo = 'cached'\nttl_ms = 0\n");
    server.reload().await;
    let body = || request_from("1", "a");
    assert_ne!(nonce(&server, body()).await, nonce(&server, body()).await);
}

#[tokio::test]
async fn cached_result_is_used_for_matching_calls() {
    let settings =
        "[config]\ndo = 'cached'\nttl_ms = 60000\nvary = 'from'\nnames = 'echo, other'\n";
    let folder = tools(PluginFolder::new(), "10-a", settings);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let first = nonce(&server, request_from("1", "a")).await;
    // The same call again, and another call from the same number.
    assert_eq!(nonce(&server, request_from("1", "a")).await, first);
    assert_eq!(nonce(&server, request_from("1", "b")).await, first);
    // Another number has its own entry.
    let other = nonce(&server, request_from("2", "c")).await;
    assert_ne!(other, first);
    assert_eq!(nonce(&server, request_from("2", "d")).await, other);
    assert_eq!(nonce(&server, request_from("1", "e")).await, first);
    // This call has no number.
    let without_number =
        r#"{"callId":"f","toolName":"echo","toolArguments":{"date":"2025-10-25"}}"#;
    let without_number = nonce(&server, without_number.to_owned()).await;
    assert!(![&first, &other].contains(&&without_number));
    // Other arguments, and another tool with the same arguments.
    let mut seen = vec![first.clone(), other, without_number];
    for (tool, arguments) in [
        ("echo", json!({"date": "2025-10-26"})),
        ("echo", json!({"date": "2025-10-25", "time": 1})),
        ("echo", json!({})),
        ("other", json!({"date": "2025-10-25"})),
    ] {
        let mut body: Value = serde_json::from_str(&tool_request(tool, "g", &arguments)).unwrap();
        body["endpoint"] = json!("1");
        let number = nonce(&server, body.to_string()).await;
        assert!(!seen.contains(&number), "{tool} {arguments}");
        assert_eq!(nonce(&server, body.to_string()).await, number);
        seen.push(number);
    }
    // The log names the plugin of a cached result as well.
    let log = server.wait_for_log(|line| line["cached"] == true);
    assert_eq!((&log["plugin"], &log["outcome"]), (&json!("10-a"), &json!("value")));
    // Another version of the plugin does not use the entries.
    folder.replace_settings("10-a", &format!("{settings}new = 1\n"));
    server.reload().await;
    let later = nonce(&server, request_from("1", "a")).await;
    assert_ne!(later, first);
    assert_eq!(nonce(&server, request_from("1", "b")).await, later);
}

#[tokio::test]
async fn cached_result_expires_after_shorter_limit() {
    for (ttl, max_ttl) in [("400", "60s"), ("60000", "400ms")] {
        let settings = format!("[config]\ndo = 'cached'\nttl_ms = {ttl}\n");
        let folder = tools(PluginFolder::new(), "10-a", &settings);
        let server = ServerBuilder::new(folder.path()).enable_blackbox();
        let server = server.env("PLUGBOARD_CACHE_MAX_TTL", max_ttl).start();
        let start = Instant::now();
        let first = nonce(&server, request_from("1", "a")).await;
        loop {
            let same = nonce(&server, request_from("2", "b")).await == first;
            let age = start.elapsed();
            if !same {
                assert!(age >= Duration::from_millis(400), "{age:?}");
                break;
            }
            // A request within the time to live may be answered slightly later.
            assert!(age < Duration::from_secs(2), "{age:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // The operator has disabled the cache.
    let folder = tools(PluginFolder::new(), "10-a", "[config]\ndo = 'cached'\nttl_ms = 60000\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox();
    let server = server.env("PLUGBOARD_CACHE_ENABLED", "false").start();
    let body = || request_from("1", "a");
    assert_ne!(nonce(&server, body()).await, nonce(&server, body()).await);
}

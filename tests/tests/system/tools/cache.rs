//! Results that are given again: only with the plugin's leave, and only where it says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder};

use super::{error, invoke, tools, used};

/// The random number of a result; another one each time that the tool runs.
async fn nonce(server: &Server, body: String) -> Value {
    let answer = server.post_blackbox(body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body["nonce"].is_u64(), "{answer:?}");
    answer.body["nonce"].clone()
}

fn from(number: &str, call: &str) -> String {
    let arguments = json!({"date": "2025-10-25"});
    let mut body: Value = serde_json::from_str(&used("echo", call, &arguments)).unwrap();
    body["endpoint"] = json!(number);
    body.to_string()
}

#[tokio::test]
async fn nothing_is_given_again_unless_it_is_said() {
    let folder = tools(PluginFolder::new(), "10-a", "[grants]\nkv = true\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for nth in 1..5 {
        assert_eq!(invoke(&server, "echo").await.body["nth"], nth);
    }
    // Nor an error, nor a failure, nor what is good for no time at all.
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
    let body = || from("1", "a");
    assert_ne!(nonce(&server, body()).await, nonce(&server, body()).await);
}

#[tokio::test]
async fn for_the_same_arguments_in_calls_that_are_alike() {
    let settings =
        "[config]\ndo = 'cached'\nttl_ms = 60000\nvary = 'from'\nnames = 'echo, other'\n";
    let folder = tools(PluginFolder::new(), "10-a", settings);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let first = nonce(&server, from("1", "a")).await;
    // Again, and in another call from there.
    assert_eq!(nonce(&server, from("1", "a")).await, first);
    assert_eq!(nonce(&server, from("1", "b")).await, first);
    // From elsewhere; each its own.
    let other = nonce(&server, from("2", "c")).await;
    assert_ne!(other, first);
    assert_eq!(nonce(&server, from("2", "d")).await, other);
    assert_eq!(nonce(&server, from("1", "e")).await, first);
    // From nobody that is known.
    let nobody = r#"{"callId":"f","toolName":"echo","toolArguments":{"date":"2025-10-25"}}"#;
    let nobody = nonce(&server, nobody.to_owned()).await;
    assert!(![&first, &other].contains(&&nobody));
    // Other arguments, and another tool with the same.
    let mut known = vec![first.clone(), other, nobody];
    for (tool, arguments) in [
        ("echo", json!({"date": "2025-10-26"})),
        ("echo", json!({"date": "2025-10-25", "time": 1})),
        ("echo", json!({})),
        ("other", json!({"date": "2025-10-25"})),
    ] {
        let mut body: Value = serde_json::from_str(&used(tool, "g", &arguments)).unwrap();
        body["endpoint"] = json!("1");
        let found = nonce(&server, body.to_string()).await;
        assert!(!known.contains(&found), "{tool} {arguments}");
        assert_eq!(nonce(&server, body.to_string()).await, found);
        known.push(found);
    }
    // Whose word it is, is told as ever.
    let log = server.wait_for_log(|line| line["cached"] == true);
    assert_eq!((&log["plugin"], &log["outcome"]), (&json!("10-a"), &json!("value")));
    // Another version of the plugin knows nothing of it.
    folder.replace_settings("10-a", &format!("{settings}new = 1\n"));
    server.reload().await;
    let later = nonce(&server, from("1", "a")).await;
    assert_ne!(later, first);
    assert_eq!(nonce(&server, from("1", "b")).await, later);
}

#[tokio::test]
async fn for_as_long_as_it_is_good_and_the_operator_says() {
    for (ttl, most) in [("400", "60s"), ("60000", "400ms")] {
        let settings = format!("[config]\ndo = 'cached'\nttl_ms = {ttl}\n");
        let folder = tools(PluginFolder::new(), "10-a", &settings);
        let server = ServerBuilder::new(folder.path()).enable_blackbox();
        let server = server.env("PLUGBOARD_CACHE_MAX_TTL", most).start();
        let asked = Instant::now();
        let first = nonce(&server, from("1", "a")).await;
        loop {
            let same = nonce(&server, from("2", "b")).await == first;
            let age = asked.elapsed();
            if !same {
                assert!(age >= Duration::from_millis(400), "{age:?}");
                break;
            }
            // What was asked in time may be answered a little later.
            assert!(age < Duration::from_secs(2), "{age:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Switched off.
    let folder = tools(PluginFolder::new(), "10-a", "[config]\ndo = 'cached'\nttl_ms = 60000\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox();
    let server = server.env("PLUGBOARD_CACHE_ENABLED", "false").start();
    let body = || from("1", "a");
    assert_ne!(nonce(&server, body()).await, nonce(&server, body()).await);
}

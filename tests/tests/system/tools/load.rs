//! Many concurrent tool requests: decisions do not wait for them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tests::{PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, ServerBuilder, call_initiated};
use tokio::task::JoinSet;

use super::{SLACK, error, tool_request, tools};

const TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_decided_while_fifty_tools_spin_and_fifty_sleep() {
    // The time limit of the plugins is longer than that of the platform.
    let spins = "[limits]\ntool_timeout = '20s'\n[config]\ndo = 'spin'\nnames = 'spin'\n";
    let sleeps = "[limits]\ntool_timeout = '20s'\n[config]\ndo = 'sleep'\nnames = 'sleep'\n";
    let folder = tools(PluginFolder::new(), "10-spins", spins);
    let folder = tools(folder, "20-sleeps", sleeps);
    let folder = tools(folder, "30-echo", "").with_guest("90-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", "3s")
        // All requests must run, so the circuit breaker is disabled.
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0")
        .env("PLUGBOARD_CACHE_ENABLED", "false")
        .start();
    let server = Arc::new(server);
    let mut requests = JoinSet::new();
    for nth in 0..100 {
        let server = server.clone();
        requests.spawn(async move {
            let tool = if nth % 2 == 0 { "spin" } else { "sleep" };
            server.post_blackbox(tool_request(tool, &format!("call-{nth}"), &json!({}))).await
        });
    }
    server.wait_for_guests(30).await;
    let client = tests::client();
    let (mut latencies, mut answered, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let mut codes = std::collections::BTreeMap::<String, u32>::new();
    while answered < 100 {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
        latencies.push(answer.elapsed);
        while let Some(answer) = requests.try_join_next() {
            let answer = answer.unwrap();
            let (status, _, code) = error(&answer);
            assert_eq!(status, 200);
            assert!(["TOOL_TIMEOUT", "TOOL_BUSY"].contains(&code), "{answer:?}");
            *codes.entry(code.to_owned()).or_default() += 1;
            slowest = slowest.max(answer.elapsed);
            answered += 1;
        }
    }
    latencies.sort();
    let (p90, max) = (latencies[(latencies.len() - 1) * 9 / 10], *latencies.last().unwrap());
    println!(
        "{} decisions within {p90:?} (nine of ten) and {max:?}; 100 tools within {slowest:?}: {codes:?}",
        latencies.len()
    );
    assert!(latencies.len() > 20, "{latencies:?}");
    assert!(p90 < Duration::from_millis(200), "{latencies:?}");
    // All hundred connections open at once on one machine, so the limits are wide.
    assert!(codes["TOOL_TIMEOUT"] > 25, "{codes:?}");
    assert!(slowest < 3 * TIMEOUT + SLACK, "{slowest:?}");
    // Afterwards, instances are available again.
    let answer = server.post_blackbox(tool_request("echo", "after", &json!({}))).await;
    assert_eq!(answer.body["tool"], "echo", "{answer:?}");
}

/// A running tool continues when the platform hangs up. A redelivery of the request gets
/// its answer.
#[tokio::test]
async fn tool_continues_when_platform_hangs_up() {
    let settings = "[grants]\nkv = true\n[config]\ndo = 'slow'\ndelay_ms = 1000\nnames = 'slow'\n";
    let folder = tools(PluginFolder::new(), "10-slow", settings);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let client = tests::client_with_timeout(Duration::from_millis(300));
    let url = format!("http://{}/blackbox", server.webhook_address());
    let delivery = ("X-BlackBox-Delivery-ID", "d-1");
    let body = tool_request("slow", "a", &json!({}));
    let request = client.post(url).header(delivery.0, delivery.1).body(body.clone());
    assert!(request.send().await.is_err());
    let answer = server.post_to("/blackbox", &[delivery], body).await;
    assert_eq!((answer.status, &answer.body["nth"]), (200, &json!(1)), "{answer:?}");
}

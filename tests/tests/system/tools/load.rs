//! Many tools at the same time: who sets up a call does not wait for them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tests::{PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, ServerBuilder, call_initiated};
use tokio::task::JoinSet;

use super::{SLACK, error, tools, used};

const TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_decided_while_fifty_tools_spin_and_fifty_sleep() {
    // Their own time is longer than the platform's.
    let spins = "[limits]\ntool_timeout = '20s'\n[config]\ndo = 'spin'\nnames = 'spin'\n";
    let sleeps = "[limits]\ntool_timeout = '20s'\n[config]\ndo = 'sleep'\nnames = 'sleep'\n";
    let folder = tools(PluginFolder::new(), "10-spins", spins);
    let folder = tools(folder, "20-sleeps", sleeps);
    let folder = tools(folder, "30-echo", "").with_guest("90-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", "3s")
        // All of them shall run.
        .env("PLUGBOARD_BREAKER_FAILURES", "0")
        .env("PLUGBOARD_CACHE_ENABLED", "false")
        .start();
    let server = Arc::new(server);
    let mut uses = JoinSet::new();
    for nth in 0..100 {
        let server = server.clone();
        uses.spawn(async move {
            let tool = if nth % 2 == 0 { "spin" } else { "sleep" };
            server.post_blackbox(used(tool, &format!("call-{nth}"), &json!({}))).await
        });
    }
    server.wait_for_guests(30).await;
    let client = tests::client();
    let (mut quick, mut answered, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let mut codes = std::collections::BTreeMap::<String, u32>::new();
    while answered < 100 {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
        quick.push(answer.elapsed);
        while let Some(answer) = uses.try_join_next() {
            let answer = answer.unwrap();
            let (status, _, code) = error(&answer);
            assert_eq!(status, 200);
            assert!(["TOOL_TIMEOUT", "TOOL_BUSY"].contains(&code), "{answer:?}");
            *codes.entry(code.to_owned()).or_default() += 1;
            slowest = slowest.max(answer.elapsed);
            answered += 1;
        }
    }
    quick.sort();
    let (usual, worst) = (quick[(quick.len() - 1) * 9 / 10], *quick.last().unwrap());
    println!(
        "{} decisions within {usual:?} (nine of ten) and {worst:?}; 100 tools within {slowest:?}: {codes:?}",
        quick.len()
    );
    assert!(quick.len() > 20, "{quick:?}");
    assert!(usual < Duration::from_millis(200), "{quick:?}");
    // A hundred connections are made at once, on the same machine.
    assert!(codes["TOOL_TIMEOUT"] > 25, "{codes:?}");
    assert!(slowest < 3 * TIMEOUT + SLACK, "{slowest:?}");
    // When they are through, there is room again.
    let answer = server.post_blackbox(used("echo", "after", &json!({}))).await;
    assert_eq!(answer.body["tool"], "echo", "{answer:?}");
}

/// What was begun is not left half done: it goes on when the platform hangs up, and its
/// answer is there when the same is delivered again.
#[tokio::test]
async fn a_tool_goes_on_when_the_platform_hangs_up() {
    let settings = "[grants]\nkv = true\n[config]\ndo = 'slow'\ndelay_ms = 1000\nnames = 'slow'\n";
    let folder = tools(PluginFolder::new(), "10-slow", settings);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let client = tests::client_with_timeout(Duration::from_millis(300));
    let url = format!("http://{}/blackbox", server.webhook_address());
    let delivery = ("X-BlackBox-Delivery-ID", "d-1");
    let body = used("slow", "a", &json!({}));
    let request = client.post(url).header(delivery.0, delivery.1).body(body.clone());
    assert!(request.send().await.is_err());
    let answer = server.post_to("/blackbox", &[delivery], body).await;
    assert_eq!((answer.status, &answer.body["nth"]), (200, &json!(1)), "{answer:?}");
}

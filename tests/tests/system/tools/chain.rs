//! Tools that several plugins offer: the chain of plugins and their circuit breakers.

use std::time::Duration;

use serde_json::json;
use tests::{PluginFolder, ServerBuilder, call_initiated};

use super::{SLACK, error, invoke, tools};

#[tokio::test]
async fn first_working_plugin_answers_tool() {
    for failure in ["do = 'trap'", "do = 'deep'\ndepth = 1000", "do = 'sleep'", "do = 'spin'"] {
        for on_failure in ["pass", "stop"] {
            let first = format!(
                "on_failure = '{on_failure}'\n[limits]\ntool_timeout = '200ms'\n[config]\n{failure}\n"
            );
            let folder = tools(PluginFolder::new(), "10-first", &first);
            let folder = tools(folder, "20-second", "");
            let server = ServerBuilder::new(folder.path())
                .enable_blackbox()
                .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", "20s")
                .env("PLUGBOARD_PLUGIN_LIMITS_TOOL_TIMEOUT", "20s")
                .start();
            let answer = invoke(&server, "echo").await;
            if on_failure == "pass" {
                assert_eq!(answer.body["tool"], "echo", "{failure}: {answer:?}");
            } else {
                assert!(error(&answer).2.starts_with("TOOL_"), "{failure}: {answer:?}");
            }
            assert!(answer.elapsed < Duration::from_millis(200) + SLACK, "{:?}", answer.elapsed);
        }
    }
    // An error is an answer, so the second plugin does not run.
    let folder = tools(PluginFolder::new(), "10-first", "[config]\ndo = 'error'\n");
    let server =
        ServerBuilder::new(tools(folder, "20-second", "").path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "echo").await).2, "NO_SUCH_DAY");
}

/// The time of the whole chain is limited as well.
#[tokio::test]
async fn slow_plugins_share_one_deadline() {
    let slow = "[limits]\ntool_timeout = '1500ms'\n[config]\ndo = 'sleep'\n";
    let names = ["10-a", "20-b", "30-c", "40-d"];
    let folder = names.into_iter().fold(PluginFolder::new(), |it, name| tools(it, name, slow));
    let server = ServerBuilder::new(tools(folder, "50-e", "").path())
        .enable_blackbox()
        .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", "2s")
        .start();
    let answer = invoke(&server, "echo").await;
    assert_eq!(error(&answer).2, "TOOL_TIMEOUT");
    assert!(answer.elapsed < Duration::from_secs(2) + SLACK, "{:?}", answer.elapsed);
}

#[tokio::test]
async fn tool_request_skips_plugins_that_do_not_match() {
    let folder =
        tools(PluginFolder::new(), "10-avr", "platforms = ['avr']\n[config]\ndo = 'error'\n");
    let folder = tools(folder, "20-agent", "[match]\nagent = 'sales'\n[config]\ndo = 'error'\n");
    let folder =
        tools(folder, "30-from", "[match]\nfrom = '+39*'\n[config]\nnames = 'echo, mine'\n");
    let folder = tools(folder, "40-off", "enabled = false\n[config]\nnames = 'off'\n");
    let folder = tools(folder, "50-last", "platforms = ['blackbox', 'avr']\n[grants]\nkv = true\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(invoke(&server, "echo").await.body["nth"], 1);
    // The tool exists, but not for this call.
    assert_eq!(error(&invoke(&server, "mine").await).2, "UNKNOWN_TOOL");
    assert_eq!(invoke(&server, "mine").await.status, 404);
    assert_eq!(error(&invoke(&server, "off").await).2, "UNKNOWN_TOOL");
    let body = r#"{"callId":"it","toolName":"mine","endpoint":"+391"}"#;
    let answer = server.post_blackbox(body).await;
    assert_eq!((&answer.body["tool"], &answer.body["nth"]), (&json!("mine"), &json!(null)));
}

/// The names in the settings replace those of the plugin.
#[tokio::test]
async fn settings_replace_tool_names() {
    let names = "[tools]\nnames = ['check', 'book it']\n";
    let folder = tools(PluginFolder::new(), "10-a", names);
    let folder = tools(folder, "20-b", "[tools]\nnames = []\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "echo").await).2, "UNKNOWN_TOOL");
    let log = server.wait_for_log(|line| line["message"] == "unknown tool");
    assert_eq!(log["known"], "book it, check");
    // The plugin does not have this tool, and its error reaches the agent.
    assert_eq!(error(&invoke(&server, "check").await).2, "UNKNOWN_TOOL");
    assert_eq!(invoke(&server, "check").await.status, 200);
    for (settings, label) in [
        ("[config]\nnames_count = 65\n", "tool_names"),
        ("[config]\nnames_length = 10000\n", "tool_names"),
        ("[config]\nnames_do = 'trap'\n", "instantiate"),
        ("[config]\nnames_do = 'spin'\n", "instantiate"),
        ("[config]\nnames_do = 'sleep'\n", "instantiate"),
    ] {
        folder.replace_settings("20-b", settings);
        server.reload().await;
        let plugin = server.plugin_status("20-b").await;
        assert_eq!(plugin["last_error"]["label"], label, "{settings}: {plugin}");
        // The other plugins keep serving.
        assert_eq!(invoke(&server, "check").await.status, 200);
    }
    folder.replace_settings("20-b", "[config]\nnames_count = 64\n");
    server.reload().await;
    assert_eq!(invoke(&server, "tool-63").await.body["tool"], "tool-63");
    // This plugin has no tools, although its settings name one.
    let folder = PluginFolder::new()
        .with_guest("10-good", tests::ROUTING_GUEST)
        .with_settings("10-good", "[tools]\nnames = ['check']\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(server.plugin_status("10-good").await["last_error"]["label"], "tool_names");
}

/// The circuit breaker of the tools opens, and other hooks of the plugin continue.
#[tokio::test]
async fn tool_circuit_opens_after_repeated_failures() {
    let bad = "[limits]\ntool_timeout = '100ms'\n[config]\ndo = 'sleep'\n";
    let folder =
        tools(PluginFolder::new(), "10-bad", bad).with_guest("90-good", tests::ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "3")
        .env("PLUGBOARD_CIRCUIT_BREAKER_OPEN_DURATION", "5s")
        .start();
    for _ in 0..3 {
        assert_eq!(error(&invoke(&server, "echo").await).2, "TOOL_TIMEOUT");
    }
    let log = server.wait_for_log(|line| line["hook"] == "tools");
    assert_eq!((&log["plugin"], &log["level"]), (&json!("10-bad"), &json!("ERROR")));
    for _ in 0..3 {
        let answer = invoke(&server, "echo").await;
        assert_eq!(error(&answer), (200, "The tool does not work at the moment.", "TOOL_FAILED"));
    }
    assert!(server.post(call_initiated()).await.sts_url().is_some());
    let row = server.plugin_status("10-bad").await;
    assert_eq!((&row["state"], &row["tools"]["breaker"]), (&json!("circuit_open"), &json!("open")));
    assert_eq!(row["tools"]["failed"], 3);
    let series = "plugboard_plugin_mid_call_requests_total{plugin=\"10-bad\",hook=\"tools\",result=\"failed\"}";
    assert_eq!(server.metric_value(series).await, Some(3));
    // A fixed plugin answers at once.
    folder.replace_settings("10-bad", "");
    server.reload().await;
    assert_eq!(invoke(&server, "echo").await.body["tool"], "echo");
    // Otherwise, a probe runs the plugin after the open duration.
    folder.replace_settings("10-bad", "[grants]\nkv = true\n[config]\ndo = 'trap'\n");
    server.reload().await;
    for _ in 0..4 {
        assert_eq!(error(&invoke(&server, "echo").await).2, "TOOL_FAILED");
    }
    let traps = || server.log_text().matches("\"error\":\"trap\"").count();
    let before = traps();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while traps() == before {
        assert!(std::time::Instant::now() < deadline, "no probe ran the plugin");
        assert_eq!(error(&invoke(&server, "echo").await).2, "TOOL_FAILED");
    }
}

/// A plugin whose tools fail keeps deciding calls and transfers.
#[tokio::test]
async fn circuit_opens_for_failing_hook_only() {
    let folder = PluginFolder::new()
        .with_guest("10-full", "full")
        // Without the grant, the tool fails. The decision does not need the grant.
        .with_settings("10-full", "")
        .with_guest("20-transfers", "transfers")
        .with_settings("20-transfers", "[config]\ndo = 'trap'\n");
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "2")
        .start();
    for _ in 0..5 {
        error(&invoke(&server, "seen").await);
    }
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-full/"));
    let transfer = r#"{"type":"TransferWebHookPayload","callId":"c"}"#;
    assert_eq!(server.post_blackbox(transfer).await.text, "{\"full\":true}");
}

//! Who answers a tool that several plugins have, and who is set aside.

use std::time::Duration;

use serde_json::json;
use tests::{PluginFolder, ServerBuilder, call_initiated};

use super::{SLACK, error, invoke, tools};

#[tokio::test]
async fn the_first_plugin_that_can_answers() {
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
    // An error is an answer: nobody else is asked.
    let folder = tools(PluginFolder::new(), "10-first", "[config]\ndo = 'error'\n");
    let server =
        ServerBuilder::new(tools(folder, "20-second", "").path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "echo").await).2, "NO_SUCH_DAY");
}

/// The time of all together is bounded as well.
#[tokio::test]
async fn several_that_are_slow_have_one_deadline() {
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
async fn only_who_is_concerned_is_asked() {
    let folder =
        tools(PluginFolder::new(), "10-avr", "platforms = ['avr']\n[config]\ndo = 'error'\n");
    let folder = tools(folder, "20-agent", "[match]\nagent = 'sales'\n[config]\ndo = 'error'\n");
    let folder =
        tools(folder, "30-from", "[match]\nfrom = '+39*'\n[config]\nnames = 'echo, mine'\n");
    let folder = tools(folder, "40-off", "enabled = false\n[config]\nnames = 'off'\n");
    let folder = tools(folder, "50-last", "platforms = ['blackbox', 'avr']\n[grants]\nkv = true\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(invoke(&server, "echo").await.body["nth"], 1);
    // There is such a tool, but not for this call.
    assert_eq!(error(&invoke(&server, "mine").await).2, "UNKNOWN_TOOL");
    assert_eq!(invoke(&server, "mine").await.status, 404);
    assert_eq!(error(&invoke(&server, "off").await).2, "UNKNOWN_TOOL");
    let body = r#"{"callId":"it","toolName":"mine","endpoint":"+391"}"#;
    let answer = server.post_blackbox(body).await;
    assert_eq!((&answer.body["tool"], &answer.body["nth"]), (&json!("mine"), &json!(null)));
}

/// What the operator names counts, and what he takes away is gone.
#[tokio::test]
async fn settings_name_the_tools() {
    let names = "[tools]\nnames = ['check', 'book it']\n";
    let folder = tools(PluginFolder::new(), "10-a", names);
    let folder = tools(folder, "20-b", "[tools]\nnames = []\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "echo").await).2, "UNKNOWN_TOOL");
    let log = server.wait_for_log(|line| line["message"] == "no plugin knows this tool");
    assert_eq!(log["known"], "book it, check");
    // The SDK's box has no such tool, which the agent is told.
    assert_eq!(error(&invoke(&server, "check").await).2, "UNKNOWN_TOOL");
    assert_eq!(invoke(&server, "check").await.status, 200);
    for (settings, word) in [
        ("[config]\nnames_count = 65\n", "tool_names"),
        ("[config]\nnames_length = 10000\n", "tool_names"),
        ("[config]\nnames_do = 'trap'\n", "instantiate"),
        ("[config]\nnames_do = 'spin'\n", "instantiate"),
        ("[config]\nnames_do = 'sleep'\n", "instantiate"),
    ] {
        folder.replace_settings("20-b", settings);
        server.reload().await;
        let plugin = server.plugin_status("20-b").await;
        assert_eq!(plugin["last_error"]["label"], word, "{settings}: {plugin}");
        // The others go on.
        assert_eq!(invoke(&server, "check").await.status, 200);
    }
    folder.replace_settings("20-b", "[config]\nnames_count = 64\n");
    server.reload().await;
    assert_eq!(invoke(&server, "tool-63").await.body["tool"], "tool-63");
    // Exports none, and should have some.
    let folder = PluginFolder::new()
        .with_guest("10-good", tests::ROUTING_GUEST)
        .with_settings("10-good", "[tools]\nnames = ['check']\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(server.plugin_status("10-good").await["last_error"]["label"], "tool_names");
}

/// Whoever keeps failing is not asked for a while, and what else it does goes on.
#[tokio::test]
async fn a_tool_that_keeps_failing_is_set_aside() {
    let bad = "[limits]\ntool_timeout = '100ms'\n[config]\ndo = 'sleep'\n";
    let folder =
        tools(PluginFolder::new(), "10-bad", bad).with_guest("90-good", tests::ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_BREAKER_FAILURES", "3")
        .env("PLUGBOARD_BREAKER_PAUSE", "5s")
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
    assert_eq!((&row["state"], &row["tools"]["breaker"]), (&json!("set_aside"), &json!("open")));
    assert_eq!(row["tools"]["failed"], 3);
    let series = "plugboard_plugin_uses_total{plugin=\"10-bad\",hook=\"tools\",result=\"failed\"}";
    assert_eq!(server.metric_value(series).await, Some(3));
    // Mended, it answers at once.
    folder.replace_settings("10-bad", "");
    server.reload().await;
    assert_eq!(invoke(&server, "echo").await.body["tool"], "echo");
    // Or when it is tried again.
    folder.replace_settings("10-bad", "[grants]\nkv = true\n[config]\ndo = 'trap'\n");
    server.reload().await;
    for _ in 0..4 {
        assert_eq!(error(&invoke(&server, "echo").await).2, "TOOL_FAILED");
    }
    let traps = || server.log_text().matches("\"error\":\"trap\"").count();
    let before = traps();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while traps() == before {
        assert!(std::time::Instant::now() < deadline, "it is never tried again");
        assert_eq!(error(&invoke(&server, "echo").await).2, "TOOL_FAILED");
    }
}

/// Whoever fails as a tool still decides, and the other way round.
#[tokio::test]
async fn a_plugin_is_set_aside_only_where_it_fails() {
    let folder = PluginFolder::new()
        .with_guest("10-full", "full")
        // Without the grant the tool fails, and the decision does not need it.
        .with_settings("10-full", "")
        .with_guest("20-transfers", "transfers")
        .with_settings("20-transfers", "[config]\ndo = 'trap'\n");
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_BREAKER_FAILURES", "2")
        .start();
    for _ in 0..5 {
        error(&invoke(&server, "seen").await);
    }
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-full/"));
    let transfer = r#"{"type":"TransferWebHookPayload","callId":"c"}"#;
    assert_eq!(server.post_blackbox(transfer).await.text, "{\"full\":true}");
}

//! Admin API and endpoints with the BlackBox platform enabled.

use serde_json::json;
use tests::{
    PluginFolder, ROUTING_GUEST, Server, ServerBuilder, blackbox_document, blackbox_fixture,
    call_initiated, fixture,
};

#[tokio::test]
async fn blackbox_is_served_only_when_enabled() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let answer = server.post_blackbox(blackbox_fixture("start.json")).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &json!("not_found")));
    assert_eq!(server.post(call_initiated()).await.status, 200);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_AVR_ENABLED", "false")
        .start();
    assert_eq!(server.post_blackbox(blackbox_fixture("start.json")).await.status, 200);
    assert_eq!(server.post(call_initiated()).await.status, 404);
    assert_eq!(server.get("/instructions").await.status, 404);
    let answer = server.get("/blackbox").await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (405, &json!("method_not_allowed")));
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn documents_of_other_platform_are_rejected() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = server.post_blackbox(fixture("call_initiated.json")).await;
    assert_eq!(answer.status, 400);
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("`callId`"), "{message}");
    let answer = server.post(blackbox_fixture("start.json")).await;
    assert_eq!(answer.status, 400);
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("`uuid`"), "{message}");
    assert_eq!(server.plugin_status("10-good").await["calls"], 0);
}

async fn explain(server: &Server, body: String) -> serde_json::Value {
    let answer = server.admin_post("/explain", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn explain_uses_answer_format_of_platform() {
    let folder = PluginFolder::new()
        .with_guest("10-avr", "rejects")
        .with_settings("10-avr", "platforms = ['avr']\n")
        .with_guest("20-passes", "passes")
        .with_guest("30-traps", "traps")
        .with_guest("40-full", "full")
        .with_settings("40-full", "[grants]\nkv = true\n[match]\nto = 'agent-line'\n")
        .with_guest("50-rejects", "rejects");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let body = || blackbox_document("start.json", "c").to_string();
    let explained = explain(&server, body()).await;
    assert_eq!(explained["platform"], "blackbox");
    assert_eq!((&explained["outcome"], &explained["by"]), (&json!("route"), &json!("40-full")));
    assert_eq!(explained["answer"], json!({"accept": true, "customPrompt": "Be brief, call c"}));
    assert_eq!(explained["failures"], 1);
    let matched: Vec<_> =
        explained["plugins"].as_array().unwrap().iter().map(|it| it["matched"].as_bool()).collect();
    assert_eq!(matched[..4], [Some(false), Some(true), Some(true), Some(true)]);
    assert_eq!(explained["plugins"][2]["error"]["label"], "trap");
    // The explained answer equals the answer to a real call.
    assert_eq!(server.post_blackbox(body()).await.body, explained["answer"]);

    let rejected = explain(&server, body().replace("agent-line", "other")).await;
    assert_eq!(rejected["answer"], json!({"accept": false, "reasonMessage": "closed"}));
    assert_eq!(explain(&server, call_initiated()).await["platform"], "avr");
    // Only the start of a call is decided. The error has the reasons of both platforms.
    for file in ["tool.json", "tool_untyped.json", "transfer.json", "completed.json"] {
        let answer = server.admin_post("/explain", blackbox_fixture(file)).await;
        assert_eq!(answer.status, 400, "{file}");
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("as blackbox: expected the start of a call"), "{message}");
        assert!(message.contains("as avr: "), "{message}");
    }
    let deep = format!("{{\"callId\":\"c\",\"x\":{}", "[".repeat(100_000));
    assert_eq!(server.admin_post("/explain", deep).await.status, 400);
}

#[tokio::test]
async fn plugin_status_lists_hooks() {
    let folder = PluginFolder::new()
        .with_guest("10-full", "full")
        .with_settings("10-full", "[grants]\nkv = true\n")
        .with_guest("20-tools", "tools")
        .with_guest("30-transfers", "transfers")
        .with_sample("40-appointments", "40-appointments")
        .with_settings("40-appointments", "[grants]\nkv = true\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let exports = async |name| server.plugin_status(name).await["exports"].clone();
    assert_eq!(exports("10-full").await, json!(["router", "observer", "tools", "transfers"]));
    assert_eq!(exports("20-tools").await, json!(["tools"]));
    assert_eq!(exports("30-transfers").await, json!(["transfers"]));
    assert_eq!(exports("40-appointments").await, json!(["tools"]));
    assert_eq!(server.plugin_status("20-tools").await["state"], "active");
    let names = async |name| server.plugin_status(name).await["tools"]["names"].clone();
    assert_eq!(names("10-full").await, json!(["seen"]));
    let appointment_tools = json!(["check_availability", "book_appointment"]);
    assert_eq!(names("40-appointments").await, appointment_tools);
    assert_eq!(names("30-transfers").await, json!(null));
    assert_eq!(
        server.post_blackbox(blackbox_fixture("transfer.json")).await.text,
        r#"{"full":true}"#
    );
    let tool = r#"{"toolName":"seen","callId":"c"}"#;
    // The observer hook also receives the event of the transfer, now or later.
    assert!(server.post_blackbox(tool).await.body.is_u64());
    let row = server.plugin_status("10-full").await;
    for hook in ["tools", "transfers"] {
        assert_eq!((&row[hook]["answered"], &row[hook]["failed"]), (&json!(1), &json!(0)), "{row}");
    }
    assert_eq!(server.plugin_status("30-transfers").await["transfers"]["answered"], 0);
}

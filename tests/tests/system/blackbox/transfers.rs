//! Transfers: documents pass unchanged in both directions, and a failing plugin does not
//! delay the call.

use std::time::Duration;

use serde_json::json;
use tests::{Collector, PluginFolder, ServerBuilder, blackbox_fixture};

/// Document that serialization would change: key order, spaces, number formats,
/// duplicate keys.
const ODD: &str = "{ \"type\":\"TransferWebHookPayload\" ,\n \"callId\":\"odd\",\t\"b\":1.50,\
                   \"a\":1e3,\"c\":12345678901234567890123,\"new\":{\"z\":1,\"z\":2},\"d\":\"\\u0041\"}";

const ODD_ANSWER: &str = r#"{ "to":"+1415" , "n":1.500, "n":2E2,	"s":"\u0041"}"#;

#[tokio::test]
async fn transfer_documents_pass_unchanged() {
    let collector = Collector::start().await;
    let folder = PluginFolder::new()
        .with_guest("10-nothing", "transfers")
        .with_settings("10-nothing", "[config]\ndo = 'nothing'\n")
        .with_guest("20-seen", "transfers")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""));
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = server.post_blackbox(ODD).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text, format!("{{\"accept\":true,\"seen\":{ODD}}}"));
    let event = collector.wait_for(|events| !events.is_empty()).await.remove(0);
    assert_eq!(event["kind"], "other");
    assert_eq!(event["detail"]["kind"], "TransferWebHookPayload");
    assert_eq!(event["detail"]["payload"]["callId"], "odd");

    folder.replace_settings("20-seen", &format!("[config]\nanswer = '''{ODD_ANSWER}'''\n"));
    server.reload().await;
    let answer = server.post_blackbox(ODD).await;
    assert_eq!((answer.status, &*answer.text), (200, ODD_ANSWER));
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn declined_or_failed_transfer_is_left_to_platform() {
    let transfer = || blackbox_fixture("transfer.json");
    // No plugin has the `transfers` hook.
    let folder = PluginFolder::new().with_guest("10-good", tests::ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = server.post_blackbox(transfer()).await;
    assert_eq!((answer.status, &*answer.text), (200, "{}"));
    for (number, action) in
        ["nothing", "error", "trap", "invalid", "sleep", "spin"].into_iter().enumerate()
    {
        let settings = format!("[config]\ndo = '{action}'\n");
        let folder = PluginFolder::new()
            .with_guest("10-first", "transfers")
            .with_settings("10-first", &settings);
        let setup =
            ServerBuilder::new(folder.path()).env("PLUGBOARD_PLUGIN_LIMITS_TIMEOUT", "250ms");
        let server = setup.enable_blackbox().start();
        let answer = server.post_blackbox(transfer()).await;
        assert_eq!((answer.status, &*answer.text), (200, "{}"), "{action}");
        assert!(answer.elapsed < Duration::from_millis(1_900), "{action}: {:?}", answer.elapsed);
        if number > 0 {
            server.wait_for_log(|line| line["plugin"] == "10-first" && line["level"] == "WARN");
        }
        drop(server);
        // The next plugin runs, unless `on_failure` of the failed one is `stop`.
        for (more, expected) in [("", json!(true)), ("on_failure = 'stop'\n", json!(null))] {
            let folder = PluginFolder::new()
                .with_guest("10-first", "transfers")
                .with_settings("10-first", &format!("{more}{settings}"))
                .with_guest("20-second", "transfers");
            let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
            let answer = server.post_blackbox(transfer()).await;
            let expected = if action == "nothing" { json!(true) } else { expected };
            assert_eq!(
                (answer.status, &answer.body["accept"]),
                (200, &expected),
                "{action} {more}"
            );
        }
    }
}

#[tokio::test]
async fn only_matching_plugins_answer_transfer() {
    let folder = PluginFolder::new()
        .with_guest("10-avr", "transfers")
        .with_settings("10-avr", "platforms = ['avr']\n[config]\nanswer = '1'\n")
        .with_guest("20-other", "transfers")
        .with_settings("20-other", "[match]\nagent = 'sales-*'\n[config]\nanswer = '2'\n")
        .with_guest("30-this", "transfers")
        .with_settings("30-this", "[match]\nagent = 'agent_*'\n[config]\nanswer = '3'\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(server.post_blackbox(blackbox_fixture("transfer.json")).await.text, "3");
    let log = server.wait_for_log(|line| line["message"] == "transfer answered");
    assert_eq!((&log["plugin"], &log["call"]), (&json!("30-this"), &json!("call_abc123def456")));
}

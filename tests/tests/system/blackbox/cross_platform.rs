//! One plugin, to the byte the same file, for both platforms.

use serde_json::{Value, json};
use tests::{PluginFolder, ServerBuilder, blackbox_document, call_initiated_for};

const HOURS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Settings of the sample by which it is always the same.
fn hours(more: &str, span: Option<&str>) -> String {
    let days = span.into_iter().flat_map(|span| HOURS.map(|day| format!("{day} = '{span}'\n")));
    format!(
        "[config]\ntime_zone = 'Europe/Rome'\n{more}\n[config.hours]\n{}",
        days.collect::<String>()
    )
}

const OPEN: Option<&str> = Some("00:00-24:00");

/// Each another call, so that nothing is an answer to a delivery that comes again.
#[tokio::test]
async fn office_hours_hold_on_both_platforms() {
    let folder = PluginFolder::new()
        .with_sample("05-office-hours", "05-office-hours")
        .with_settings("05-office-hours", &hours("closed = 'reject'", OPEN))
        .with_guest("90-good", tests::ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_REJECT_STS_URL", "ws://sts-closed/{id}")
        .start();
    let digest = server.plugin_status("05-office-hours").await["digest"].clone();
    let mut nth = 0;
    let mut ask = async |settings: String| -> (Value, Value, String) {
        nth += 1;
        let id = format!("call-{nth}");
        folder.replace_settings("05-office-hours", &settings);
        server.reload().await;
        let plugin = server.plugin_status("05-office-hours").await;
        assert_eq!((&plugin["state"], &plugin["digest"]), (&json!("active"), &digest));
        let avr = server.post(call_initiated_for(&id, "5001")).await;
        let blackbox = server.post_blackbox(blackbox_document("start.json", &id).to_string()).await;
        assert_eq!((avr.status, blackbox.status), (200, 200));
        (avr.body, blackbox.body, id)
    };
    // Open: the next plugin decides.
    let (avr, blackbox, id) = ask(hours("closed = 'reject'", OPEN)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-good:6030/?uuid={id}")}));
    assert_eq!(blackbox, json!({"accept": true}));
    // Closed: nobody takes the call; where that cannot be said, it goes elsewhere.
    let reject = "closed = 'reject'\nclosed_message = 'Closed until Monday.'";
    let (avr, blackbox, id) = ask(hours(reject, None)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-closed/{id}")}));
    assert_eq!(blackbox, json!({"accept": false, "reasonMessage": "Closed until Monday."}));
    // Closed: the agent takes it and says so.
    let prompt = "closed = 'prompt'\nclosed_prompt = 'Say that it is closed.'\n\
                  closed_sts_url = 'ws://sts-night/{id}'";
    let (avr, blackbox, id) = ask(hours(prompt, None)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-night/{id}")}));
    assert_eq!(blackbox, json!({"accept": true, "customPrompt": "Say that it is closed."}));
    let instructions = server.get_with_headers("/instructions", &[("X-AVR-UUID", &id)]).await;
    assert_eq!(instructions.body, json!({"system": "Say that it is closed."}));
    // Open, and the agent is told so.
    let (avr, blackbox, id) = ask(hours("open_prompt = 'Offer a visit.'", OPEN)).await;
    assert_eq!(avr, json!({}));
    assert_eq!(blackbox, json!({"accept": true, "customPrompt": "Offer a visit."}));
    let instructions = server.get_with_headers("/instructions", &[("X-AVR-UUID", &id)]).await;
    assert_eq!(instructions.body, json!({"system": "Offer a visit."}));
}

#[tokio::test]
async fn one_dial_plan_serves_both_platforms() {
    let plan = "[config]\n5001 = 'ws://sts/?uuid={id}&from={from}'\n'6*' = 'ws://other/'\n";
    let folder = PluginFolder::new()
        .with_sample("10-number-plan", "10-number-plan")
        .with_settings("10-number-plan", plan)
        .with_guest("90-rejects", "rejects")
        .with_settings("90-rejects", "platforms = ['blackbox']\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let start = |to: &str| {
        let mut document = blackbox_document("start.json", &format!("to {to}"));
        document["sip"]["toUser"] = json!(to);
        document.to_string()
    };
    let refused = json!({"accept": false, "reasonMessage": "closed"});
    for (to, avr, blackbox) in [
        ("5001", json!({"sts_url": "ws://sts/?uuid=c&from=2000"}), json!({"accept": true})),
        ("6123", json!({"sts_url": "ws://other/"}), json!({"accept": true})),
        ("7000", json!({}), refused),
    ] {
        assert_eq!(server.post(call_initiated_for("c", to)).await.body, avr, "{to}");
        assert_eq!(server.post_blackbox(start(to)).await.body, blackbox, "{to}");
    }
}

/// A call of the same name on the other platform is another one.
#[tokio::test]
async fn calls_of_the_same_name_are_not_mixed_up() {
    let collector = tests::Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(server.post(call_initiated_for("same", "5001")).await.status, 200);
    let tool = json!({"toolName": "check_availability", "callId": "same"}).to_string();
    let told = server.post_blackbox(tool.clone()).await.body;
    assert_eq!((&told["platform"], &told["to"]), (&json!("blackbox"), &json!(null)));
    let start = blackbox_document("start.json", "same");
    assert_eq!(server.post_blackbox(start.to_string()).await.status, 200);
    let told = server.post_blackbox(tool).await.body;
    assert_eq!((&told["platform"], &told["to"]), (&json!("blackbox"), &json!("agent-line")));
    server.post(tests::user_transcription("same", 1, "hello")).await;
    let said = collector.wait_for(|told| told.iter().any(|it| it["kind"] == "transcription")).await;
    let said = said.iter().find(|it| it["kind"] == "transcription").unwrap();
    assert_eq!((&said["platform"], &said["to"]), (&json!("avr"), &json!("5001")));
}

//! Plugins that serve both platforms with the same file.

use serde_json::{Value, json};
use tests::{PluginFolder, ServerBuilder, blackbox_document, call_initiated_for};

const HOURS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Settings of the sample with the same hours on every day.
fn hours(more: &str, span: Option<&str>) -> String {
    let days = span.into_iter().flat_map(|span| HOURS.map(|day| format!("{day} = '{span}'\n")));
    format!(
        "[config]\ntime_zone = 'Europe/Rome'\n{more}\n[config.hours]\n{}",
        days.collect::<String>()
    )
}

const OPEN: Option<&str> = Some("00:00-24:00");

/// Each step has another call ID, so that no answer comes from the idempotency cache.
#[tokio::test]
async fn office_hours_apply_on_both_platforms() {
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
    let mut decide = async |settings: String| -> (Value, Value, String) {
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
    let (avr, blackbox, id) = decide(hours("closed = 'reject'", OPEN)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-good:6030/?uuid={id}")}));
    assert_eq!(blackbox, json!({"accept": true}));
    // Closed: the call is rejected. AVR cannot reject and gets `reject_sts_url`.
    let reject = "closed = 'reject'\nclosed_message = 'Closed until Monday.'";
    let (avr, blackbox, id) = decide(hours(reject, None)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-closed/{id}")}));
    assert_eq!(blackbox, json!({"accept": false, "reasonMessage": "Closed until Monday."}));
    // Closed: the agent takes the call with the prompt for closed hours.
    let prompt = "closed = 'prompt'\nclosed_prompt = 'Say that it is closed.'\n\
                  closed_sts_url = 'ws://sts-night/{id}'";
    let (avr, blackbox, id) = decide(hours(prompt, None)).await;
    assert_eq!(avr, json!({"sts_url": format!("ws://sts-night/{id}")}));
    assert_eq!(blackbox, json!({"accept": true, "customPrompt": "Say that it is closed."}));
    let instructions = server.get_with_headers("/instructions", &[("X-AVR-UUID", &id)]).await;
    assert_eq!(instructions.body, json!({"system": "Say that it is closed."}));
    // Open: the agent gets the prompt for open hours.
    let (avr, blackbox, id) = decide(hours("open_prompt = 'Offer a visit.'", OPEN)).await;
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
    let rejected = json!({"accept": false, "reasonMessage": "closed"});
    for (to, avr, blackbox) in [
        ("5001", json!({"sts_url": "ws://sts/?uuid=c&from=2000"}), json!({"accept": true})),
        ("6123", json!({"sts_url": "ws://other/"}), json!({"accept": true})),
        ("7000", json!({}), rejected),
    ] {
        assert_eq!(server.post(call_initiated_for("c", to)).await.body, avr, "{to}");
        assert_eq!(server.post_blackbox(start(to)).await.body, blackbox, "{to}");
    }
}

#[tokio::test]
async fn calls_with_same_id_are_separate_per_platform() {
    let collector = tests::Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(server.post(call_initiated_for("same", "5001")).await.status, 200);
    let tool = json!({"toolName": "check_availability", "callId": "same"}).to_string();
    let echo = server.post_blackbox(tool.clone()).await.body;
    assert_eq!((&echo["platform"], &echo["to"]), (&json!("blackbox"), &json!(null)));
    let start = blackbox_document("start.json", "same");
    assert_eq!(server.post_blackbox(start.to_string()).await.status, 200);
    let echo = server.post_blackbox(tool).await.body;
    assert_eq!((&echo["platform"], &echo["to"]), (&json!("blackbox"), &json!("agent-line")));
    server.post(tests::user_transcription("same", 1, "hello")).await;
    let events =
        collector.wait_for(|events| events.iter().any(|it| it["kind"] == "transcription")).await;
    let transcription = events.iter().find(|it| it["kind"] == "transcription").unwrap();
    assert_eq!((&transcription["platform"], &transcription["to"]), (&json!("avr"), &json!("5001")));
}

//! Start of a BlackBox call: every decision, each answer valid by the platform's schema.

use std::time::Duration;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use tests::{PluginFolder, ROUTING_GUEST, ServerBuilder, blackbox_document, blackbox_fixture};

/// JSON schema that the platform applies to answers.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let name = "start-answer.schema.json";
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        let schema = serde_json::from_str(&blackbox_fixture(name)).unwrap();
        compiler.add_resource(name, schema).unwrap();
        let index = compiler.compile(name, &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn accepts(&self, answer: &Value) -> bool {
        self.schemas.validate(answer, self.index).is_ok()
    }
}

#[test]
fn schema_rejects_invalid_answers() {
    let schema = Schema::new();
    for good in [
        json!({"accept": true}),
        json!({"accept": false}),
        json!({"accept": true, "customPrompt": "x"}),
        json!({"accept": false, "reasonMessage": "x"}),
    ] {
        assert!(schema.accepts(&good), "{good}");
    }
    for bad in [
        json!({}),
        json!([]),
        json!(null),
        json!({"accept": 1}),
        json!({"accept": "true"}),
        json!({"accept": null}),
        json!({"customPrompt": "x"}),
        json!({"accept": true, "sts_url": "ws://x/"}),
        json!({"accept": true, "customPrompt": null}),
        json!({"accept": true, "custom_prompt": "x"}),
        json!({"accept": true, "reasonMessage": "x"}),
        json!({"accept": false, "customPrompt": "x"}),
        json!({"accept": false, "customPrompt": "x", "reasonMessage": "x"}),
        json!({"accept": true, "status": "ok"}),
    ] {
        assert!(!schema.accepts(&bad), "{bad}");
    }
}

const PROMPT: &str = "Say \"hello\" – briefly.\nThen listen. ☎";

/// Guests with their settings, settings of the server, expected answer.
type Case =
    (&'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)], Value);

#[tokio::test]
async fn every_decision_gets_valid_platform_answer() {
    let schema = Schema::new();
    let accept = || json!({"accept": true});
    const STOP: &str = "on_failure = 'stop'\n";
    const SHORT: &str = "[limits]\ntimeout = '250ms'\n";
    const SHORT_STOP: &str = "on_failure = 'stop'\n[limits]\ntimeout = '250ms'\n";
    let prompt: &[_] = &[("PLUGBOARD_BLACKBOX_FALLBACK_PROMPT", PROMPT)];
    let reject: &[_] = &[("PLUGBOARD_BLACKBOX_FALLBACK", "reject")];
    let reason: &[_] = &[
        ("PLUGBOARD_BLACKBOX_FALLBACK", "reject"),
        ("PLUGBOARD_BLACKBOX_FALLBACK_REASON", "Call again later"),
    ];
    let prompted = || json!({"accept": true, "customPrompt": PROMPT});
    let no_plugin = || json!({"accept": false, "reasonMessage": "No plugin accepts the call"});
    let later = || json!({"accept": false, "reasonMessage": "Call again later"});
    let cases: &[Case] = &[
        (&[(ROUTING_GUEST, "")], reject, accept()),
        (
            &[("full", "[grants]\nkv = true\n")],
            reject,
            json!({
                "accept": true, "customPrompt": "Be brief, call the-call",
            }),
        ),
        (&[("rejects", "")], prompt, json!({"accept": false, "reasonMessage": "closed"})),
        // No plugin decides the call.
        (&[], &[], accept()),
        (&[("passes", "")], &[], accept()),
        (&[("passes", "")], prompt, prompted()),
        (&[("passes", "")], reject, no_plugin()),
        (&[("passes", "")], reason, later()),
        // The plugin does not match this call.
        (&[("rejects", "platforms = ['avr']\n")], prompt, prompted()),
        (&[("rejects", "[match]\nto = 'other'\n")], prompt, prompted()),
        (
            &[("rejects", "[match]\nto = 'agent-*'\n")],
            prompt,
            json!({
                "accept": false, "reasonMessage": "closed",
            }),
        ),
        // The first plugin fails. The next plugin or the fallback decides.
        (&[("traps", ""), (ROUTING_GUEST, "")], reject, accept()),
        (
            &[("errs", ""), ("rejects", "")],
            &[],
            json!({
                "accept": false, "reasonMessage": "closed",
            }),
        ),
        (&[("traps", "")], prompt, prompted()),
        (&[("panics", STOP), (ROUTING_GUEST, "")], reason, later()),
        (&[("bad-url", "")], reject, no_plugin()),
        // The first plugin exceeds its timeout.
        (&[("sleeps", SHORT), (ROUTING_GUEST, "")], reject, accept()),
        (&[("spins", SHORT_STOP), (ROUTING_GUEST, "")], reason, later()),
    ];
    for (number, (guests, settings, expected)) in cases.iter().enumerate() {
        assert!(schema.accepts(expected), "{expected}");
        let mut folder = PluginFolder::new();
        for (place, (guest, settings)) in guests.iter().enumerate() {
            let name = format!("{place}0-{guest}");
            folder = folder.with_guest(&name, guest).with_settings(&name, settings);
        }
        let setup = ServerBuilder::new(folder.path()).enable_blackbox();
        let setup = settings.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
        let server = setup.start();
        let body = blackbox_document("start.json", "the-call").to_string();
        let answer = server.post_blackbox(body).await;
        assert_eq!((answer.status, &answer.body), (200, expected), "case {number}");
        assert!(schema.accepts(&answer.body), "case {number}: {}", answer.body);
        assert!(answer.elapsed < Duration::from_secs(2), "case {number}: {:?}", answer.elapsed);
    }
}

/// The plugin's timeout is longer than the decision timeout.
#[tokio::test]
async fn fallback_answers_at_decision_deadline() {
    let folder = PluginFolder::new()
        .with_guest("10-sleeps", "sleeps")
        .with_settings("10-sleeps", "[limits]\ntimeout = '60s'\n")
        .with_guest("20-rejects", "rejects");
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "500ms")
        .env("PLUGBOARD_BLACKBOX_FALLBACK_PROMPT", PROMPT)
        .start();
    let answer = server.post_blackbox(blackbox_fixture("start.json")).await;
    assert_eq!(answer.body, json!({"accept": true, "customPrompt": PROMPT}));
    assert!(Schema::new().accepts(&answer.body));
    let (least, most) = (Duration::from_millis(450), Duration::from_millis(1_900));
    assert!((least..most).contains(&answer.elapsed), "{:?}", answer.elapsed);
    assert_eq!(server.plugin_status("20-rejects").await["calls"], 0);
}

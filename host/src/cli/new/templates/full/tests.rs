use plugboard_sdk::testing::Host;
use serde_json::json;

use super::*;

const STS_URL: &str = "ws://sts-sales:6030/?uuid={id}";

/// A fake host with the settings of plugin-name.toml.
fn host() -> Host {
    Host::new()
        .with_config("numbers", r#"["5001"]"#)
        .with_config("sts_url", STS_URL)
        .with_config("hours", r#"{"monday": "09:00-18:00"}"#)
        .with_config("transfer", r#"{"accept": true}"#)
}

#[test]
fn listed_number_is_routed_to_service() {
    let url = |to| {
        let call = Call::new("1").with_to(to);
        let decision = host().decide::<PluginName>(&call).unwrap();
        decision.sts_url().map(str::to_owned)
    };
    assert_eq!(url("5001").as_deref(), Some(STS_URL));
    assert_eq!(url("5002"), None);
}

#[test]
fn redelivered_end_of_call_counts_once() {
    let host = host();
    let ended = Event::new(Call::new("1"), EventBody::Ended(Default::default()));
    for _ in 0..2 {
        host.observe::<PluginName>(&ended).unwrap();
    }
    assert_eq!(host.counter("calls", &[("platform", "avr")]), 1);
}

#[test]
fn tool_returns_hours_of_day() {
    let ask = |day| {
        let arguments = json!({ "day": day });
        host().invoke::<PluginName>(&Call::new("1"), "opening_hours", arguments)
    };
    assert_eq!(ask("Monday").unwrap(), json!({"hours": "09:00-18:00"}));
    assert_eq!(ask("sunday").unwrap_err().code(), Some("CLOSED"));
}

#[test]
fn transfer_gets_answer_of_settings() {
    let answer = |host: Host| {
        let call = Call::new("1");
        host.transfer::<PluginName>(&call, json!({})).unwrap()
    };
    assert_eq!(answer(host()).unwrap(), json!({"accept": true}));
    assert_eq!(answer(Host::new()), None);
}

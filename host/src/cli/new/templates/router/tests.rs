use plugboard_sdk::testing::Host;

use super::*;

const STS_URL: &str = "ws://sts-vip:6030/?uuid={id}";

/// A fake host with the settings of plugin-name.toml.
fn host() -> Host {
    Host::new()
        .with_config("callers", r#"["2000", "2001"]"#)
        .with_config("sts_url", STS_URL)
}

fn decide(call: Call) -> Decision {
    host().decide::<PluginName>(&call).unwrap()
}

#[test]
fn listed_caller_is_routed_to_service() {
    let decision = decide(Call::new("1").with_from("2001").with_to("5001"));
    assert_eq!(decision.sts_url(), Some(STS_URL));
}

#[test]
fn other_callers_are_passed() {
    for call in [Call::new("1"), Call::new("1").with_from("20010")] {
        assert_eq!(decide(call).sts_url(), None);
    }
}

#[test]
fn missing_url_is_named_in_error() {
    let host = Host::new().with_config("callers", r#"["2000"]"#);
    let call = Call::new("1").with_from("2000");
    let error = host.decide::<PluginName>(&call).unwrap_err();
    assert_eq!(error.to_string(), "[config] has no `sts_url`");
}

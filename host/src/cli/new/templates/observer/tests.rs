use plugboard_sdk::testing::Host;

use super::*;

const AVR: [(&str, &str); 1] = [("platform", "avr")];

/// A fake host with the settings of plugin-name.toml.
fn host() -> Host {
    Host::new().with_config("long_call_seconds", "600")
}

fn at(ms: u64, body: EventBody) -> Event {
    Event::new(Call::new("1"), body).at_unix_ms(ms)
}

fn observe(host: &Host, event: &Event) {
    host.observe::<PluginName>(event).unwrap();
}

#[test]
fn redelivered_events_are_measured_once() {
    let host = host();
    let started = at(1_000, EventBody::Started);
    let ended = at(61_500, EventBody::Ended(Ending::default()));
    for event in [&started, &started, &ended, &ended] {
        observe(&host, event);
    }
    assert_eq!(host.observed("call_seconds", &AVR), [60.5]);
    assert!(host.log().is_empty());
}

#[test]
fn duration_of_platform_takes_precedence() {
    let host = host();
    observe(&host, &at(1_000, EventBody::Started));
    let ending = Ending {
        duration: Some(Duration::from_secs(601)),
        ..Ending::default()
    };
    observe(&host, &at(2_000, EventBody::Ended(ending)));
    assert_eq!(host.observed("call_seconds", &AVR), [601.0]);
    assert_eq!(host.log()[0].1, "long call: 601 s");
}

#[test]
fn call_without_start_is_not_measured() {
    let host = host();
    observe(&host, &at(1_000, EventBody::Ended(Ending::default())));
    assert!(host.observed("call_seconds", &AVR).is_empty());
}

use plugboard_sdk::testing::Host;

use super::*;

const AVR: [(&str, &str); 1] = [("platform", "avr")];

/// A host with settings as in plugin-name.toml.
fn host() -> Host {
    Host::new().with_config("long_call_seconds", "600")
}

fn at(ms: u64, body: EventBody) -> Event {
    Event::new(Call::new("1"), body).at_unix_ms(ms)
}

fn tell(host: &Host, event: &Event) {
    host.observe::<PluginName>(event).unwrap();
}

#[test]
fn a_call_is_measured_once_however_often_its_events_come() {
    let host = host();
    let started = at(1_000, EventBody::Started);
    let ended = at(61_500, EventBody::Ended(Ending::default()));
    for event in [&started, &started, &ended, &ended] {
        tell(&host, event);
    }
    assert_eq!(host.observed("call_seconds", &AVR), [60.5]);
    assert!(host.log().is_empty());
}

#[test]
fn the_platform_knows_best_how_long_a_call_was() {
    let host = host();
    tell(&host, &at(1_000, EventBody::Started));
    let ending = Ending {
        duration: Some(Duration::from_secs(601)),
        ..Ending::default()
    };
    tell(&host, &at(2_000, EventBody::Ended(ending)));
    assert_eq!(host.observed("call_seconds", &AVR), [601.0]);
    assert_eq!(host.log()[0].1, "a long call: 601 s");
}

#[test]
fn a_call_whose_start_is_not_known_is_left_out() {
    let host = host();
    tell(&host, &at(1_000, EventBody::Ended(Ending::default())));
    assert!(host.observed("call_seconds", &AVR).is_empty());
}

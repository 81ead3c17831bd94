//! Statistics of calls: turns, interruptions, duration.
//!
//! During a call, its statistics are a document in the store, `call/ID`. When the call
//! ends, the plugin adds them to the metrics and to `total/...` in the store.

use plugboard_sdk::prelude::*;
use plugboard_sdk::{Ending, Role};
use serde::{Deserialize, Serialize};

/// Time to live of a call's statistics before its end.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Time to live after the end of the call, because `ended` can be delivered again.
const TTL_AFTER_END: Duration = Duration::from_secs(600);

/// Number of event ids that are kept to recognise a redelivery. Later events of the call
/// wait for a redelivery, so the last few ids suffice.
const MAX_EVENT_IDS: usize = 8;

/// The statistics of a call.
#[derive(Default, Serialize, Deserialize)]
struct CallStats {
    started: Option<String>,
    started_ms: Option<u64>,
    user_turns: u64,
    agent_turns: u64,
    interruptions: u64,
    ended: Option<String>,
    seconds: Option<f64>,
    /// The ids of the last events, so that no event counts twice.
    events: Vec<String>,
}

struct CallAnalytics;

impl Observer for CallAnalytics {
    fn on_event(event: &Event) -> Result<()> {
        let mut is_ended = false;
        let key = format!("call/{}", event.call().id());
        let stats = kv::update_json_for(&key, TTL, |stats: Option<CallStats>| {
            let mut stats = stats.unwrap_or_default();
            let was_ended = stats.ended.is_some();
            stats.add(event);
            is_ended = stats.ended.is_some() && !was_ended;
            stats
        })?;
        // The store already records the end of the call. If this fails, metrics are lost,
        // but no call counts twice.
        if is_ended {
            stats.report(event.call().platform())?;
            // Without event ids and with a short time to live, because storage is limited.
            kv::set_json_for(&key, &CallStats { events: Vec::new(), ..stats }, TTL_AFTER_END)?;
        }
        Ok(())
    }
}

impl CallStats {
    fn add(&mut self, event: &Event) {
        if self.events.iter().any(|id| id == event.id()) {
            return;
        }
        if self.events.len() == MAX_EVENT_IDS {
            self.events.remove(0);
        }
        self.events.push(event.id().to_owned());
        match event.body() {
            EventBody::Started => {
                self.started = Some(event.timestamp().to_owned());
                self.started_ms = Some(event.unix_ms());
            }
            EventBody::Transcription { role: Role::User, .. } => self.user_turns += 1,
            EventBody::Transcription { role: Role::Agent, .. } => self.agent_turns += 1,
            EventBody::Interruption => self.interruptions += 1,
            EventBody::Ended(ending) if self.ended.is_none() => {
                self.ended = Some(event.timestamp().to_owned());
                self.seconds = self.length(ending, event.unix_ms());
            }
            _ => {}
        }
    }

    /// Returns the duration that the platform reports, or the time since `started`.
    fn length(&self, ending: &Ending, ended_ms: u64) -> Option<f64> {
        let seen = || Some(Duration::from_millis(ended_ms.checked_sub(self.started_ms?)?));
        ending.duration.or_else(seen).map(|length| length.as_secs_f64())
    }

    fn report(&self, platform: &str) -> Result<()> {
        let turns = self.user_turns + self.agent_turns;
        let labels = [("platform", platform)];
        if let Some(seconds) = self.seconds {
            metrics::observe("call_seconds", &labels, seconds)?;
        }
        for (name, by) in [("calls", 1), ("turns", turns), ("interruptions", self.interruptions)] {
            metrics::count(name, &labels, by)?;
            kv::increment(&format!("total/{name}"), by.cast_signed())?;
        }
        Ok(())
    }
}

plugboard_sdk::export!(CallAnalytics: Observer);

#[cfg(test)]
mod tests {
    use plugboard_sdk::testing::Host;

    use super::*;

    const AVR: [(&str, &str); 1] = [("platform", "avr")];

    fn at(ms: u64, body: EventBody) -> Event {
        Event::new(Call::new("c"), body).at_unix_ms(ms)
    }

    fn transcription(role: Role) -> Event {
        at(2_000, EventBody::Transcription { role, text: "secret words".to_owned() })
    }

    fn ended(ms: u64) -> Event {
        at(ms, EventBody::Ended(Ending::default()))
    }

    fn total(host: &Host, name: &str) -> String {
        String::from_utf8(host.kv(&format!("total/{name}")).unwrap_or_default()).unwrap()
    }

    #[test]
    fn redelivered_events_count_once() {
        let host = Host::new();
        let events = [
            at(1_000, EventBody::Started),
            transcription(Role::Agent),
            transcription(Role::User),
            at(3_000, EventBody::Interruption),
            transcription(Role::User),
            ended(61_500),
        ];
        for event in &events {
            host.observe::<CallAnalytics>(event).unwrap();
            host.observe::<CallAnalytics>(event).unwrap();
        }
        // Another `ended` of the same call.
        host.observe::<CallAnalytics>(&ended(99_000)).unwrap();
        assert_eq!(host.counter("calls", &AVR), 1);
        assert_eq!(host.counter("turns", &AVR), 3);
        assert_eq!(host.counter("interruptions", &AVR), 1);
        assert_eq!(host.observed("call_seconds", &AVR), [60.5]);
        assert_eq!((total(&host, "calls"), total(&host, "turns")), ("1".into(), "3".into()));

        let stats: CallStats = serde_json::from_slice(&host.kv("call/c").unwrap()).unwrap();
        assert_eq!((stats.user_turns, stats.agent_turns), (2, 1));
        assert_eq!(stats.started.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(stats.ended.as_deref(), Some("1970-01-01T00:01:01.500Z"));
        host.advance(TTL);
        assert_eq!(host.kv("call/c"), None);
    }

    #[test]
    fn duration_of_platform_takes_precedence() {
        let host = Host::new();
        let ending = Ending { duration: Some(Duration::from_secs(7)), ..Ending::default() };
        host.observe::<CallAnalytics>(&at(9_000, EventBody::Ended(ending))).unwrap();
        assert_eq!(host.observed("call_seconds", &AVR), [7.0]);
    }

    #[test]
    fn duration_is_unknown_without_start() {
        let host = Host::new();
        host.observe::<CallAnalytics>(&ended(9_000)).unwrap();
        assert_eq!(host.counter("calls", &AVR), 1);
        assert!(host.observed("call_seconds", &AVR).is_empty());
    }

    #[test]
    fn stored_stats_stay_small() {
        let host = Host::new();
        for _ in 0..1000 {
            host.observe::<CallAnalytics>(&transcription(Role::User)).unwrap();
        }
        let stats = host.kv("call/c").unwrap();
        assert!(stats.len() < 1024, "{}", stats.len());
        assert!(!String::from_utf8(stats).unwrap().contains("secret"));
    }

    #[test]
    fn missing_grant_is_an_error() {
        let error = Host::new().without_kv().observe::<CallAnalytics>(&ended(1)).unwrap_err();
        assert!(error.to_string().contains("kv = true"), "{error}");
    }
}

//! What calls are made of: turns, interruptions, length.
//!
//! While a call lasts, its story is a document in the store, `call/ID`. When it
//! ends, the story goes into the metrics and into `total/...` in the store.

use plugboard_sdk::prelude::*;
use plugboard_sdk::{Ending, Role};
use serde::{Deserialize, Serialize};

/// For how long a call's story is kept while no end is told.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// For how long it is kept after the end, which may be told again.
const AFTER: Duration = Duration::from_secs(600);

/// How many events a story remembers. The same event comes again soon or not at
/// all: a call's later events wait for it.
const REMEMBERED: usize = 8;

/// What is known of a call.
#[derive(Default, Serialize, Deserialize)]
struct Story {
    started: Option<String>,
    started_ms: Option<u64>,
    user_turns: u64,
    agent_turns: u64,
    interruptions: u64,
    ended: Option<String>,
    seconds: Option<f64>,
    /// The last events in here, so that none counts twice.
    events: Vec<String>,
}

struct CallAnalytics;

impl Observer for CallAnalytics {
    fn on_event(event: &Event) -> Result<()> {
        let mut over = false;
        let key = format!("call/{}", event.call().id());
        let story = kv::update_json_for(&key, TTL, |story: Option<Story>| {
            let mut story = story.unwrap_or_default();
            let was_over = story.ended.is_some();
            story.add(event);
            over = story.ended.is_some() && !was_over;
            story
        })?;
        // After it is written down that the call is over: figures may get lost when
        // something fails right here, but none counts twice.
        if over {
            story.tell(event.call().platform())?;
            // Small and not for long, as there is a bound to what a plugin keeps.
            kv::set_json_for(&key, &Story { events: Vec::new(), ..story }, AFTER)?;
        }
        Ok(())
    }
}

impl Story {
    fn add(&mut self, event: &Event) {
        if self.events.iter().any(|id| id == event.id()) {
            return;
        }
        if self.events.len() == REMEMBERED {
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

    /// What the platform says, or what its clock says.
    fn length(&self, ending: &Ending, ended_ms: u64) -> Option<f64> {
        let seen = || Some(Duration::from_millis(ended_ms.checked_sub(self.started_ms?)?));
        ending.duration.or_else(seen).map(|length| length.as_secs_f64())
    }

    fn tell(&self, platform: &str) -> Result<()> {
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

    fn said(role: Role) -> Event {
        at(2_000, EventBody::Transcription { role, text: "secret words".to_owned() })
    }

    fn ended(ms: u64) -> Event {
        at(ms, EventBody::Ended(Ending::default()))
    }

    fn total(host: &Host, name: &str) -> String {
        String::from_utf8(host.kv(&format!("total/{name}")).unwrap_or_default()).unwrap()
    }

    #[test]
    fn a_call_counts_once_however_often_its_events_come() {
        let host = Host::new();
        let events = [
            at(1_000, EventBody::Started),
            said(Role::Agent),
            said(Role::User),
            at(3_000, EventBody::Interruption),
            said(Role::User),
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

        let story: Story = serde_json::from_slice(&host.kv("call/c").unwrap()).unwrap();
        assert_eq!((story.user_turns, story.agent_turns), (2, 1));
        assert_eq!(story.started.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(story.ended.as_deref(), Some("1970-01-01T00:01:01.500Z"));
        host.advance(TTL);
        assert_eq!(host.kv("call/c"), None);
    }

    #[test]
    fn the_platform_knows_best_how_long_a_call_was() {
        let host = Host::new();
        let ending = Ending { duration: Some(Duration::from_secs(7)), ..Ending::default() };
        host.observe::<CallAnalytics>(&at(9_000, EventBody::Ended(ending))).unwrap();
        assert_eq!(host.observed("call_seconds", &AVR), [7.0]);
    }

    #[test]
    fn without_a_start_the_length_is_not_known() {
        let host = Host::new();
        host.observe::<CallAnalytics>(&ended(9_000)).unwrap();
        assert_eq!(host.counter("calls", &AVR), 1);
        assert!(host.observed("call_seconds", &AVR).is_empty());
    }

    #[test]
    fn a_story_stays_small() {
        let host = Host::new();
        for _ in 0..1000 {
            host.observe::<CallAnalytics>(&said(Role::User)).unwrap();
        }
        let story = host.kv("call/c").unwrap();
        assert!(story.len() < 1024, "{}", story.len());
        assert!(!String::from_utf8(story).unwrap().contains("secret"));
    }

    #[test]
    fn without_a_grant_the_operator_is_told() {
        let error = Host::new().without_kv().observe::<CallAnalytics>(&ended(1)).unwrap_err();
        assert!(error.to_string().contains("kv = true"), "{error}");
    }
}

//! The scenario of a simulated call: its events, as AVR Core sends them.

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// Sentences of a conversation. A turn includes its number, so that no two are equal.
const AGENT_LINES: [&str; 5] = [
    "Hello, how can I help you?",
    "One moment, let me look that up.",
    "Could you tell me a little more?",
    "That is done. Is there anything else?",
    "Thank you for your patience.",
];
const USER_LINES: [&str; 5] = [
    "Good morning, I have a question.",
    "Yes, please.",
    "No, that is not quite what I meant.",
    "When are you open?",
    "Thank you, that helps.",
];

/// The properties that all calls of a run share.
pub struct CallScript {
    /// The number of the caller.
    pub from: String,
    /// The called numbers, used in turn.
    pub to: Vec<String>,
    /// Number of events of a call between `call_started` and `call_ended`.
    pub event_count: u32,
    /// The seed of the conversation; the same seed gives the same text.
    pub seed: u64,
}

/// The type of a simulated event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedEventKind {
    /// The platform requests the decision.
    Initiated,
    /// The call has audio.
    Started,
    /// A turn of the conversation.
    Transcription,
    /// The caller interrupted the agent.
    Interruption,
    /// The caller pressed a key.
    Digit,
    /// The call has ended.
    Ended,
}

/// One event, ready to be posted.
pub struct SimulatedEvent {
    /// The position of the event in its call, from 0.
    pub index: u64,
    /// The type of the event.
    pub kind: SimulatedEventKind,
    /// The time in ISO 8601 with milliseconds. Call, type and timestamp identify the delivery.
    pub timestamp: String,
    /// The body to post.
    pub body: String,
}

/// A call in progress.
pub struct SimulatedCall<'a> {
    script: &'a CallScript,
    number: u64,
    uuid: Uuid,
    random: Rng,
    next_index: u64,
    last_millisecond: i64,
    turn_count: u64,
    // True after a turn of the agent. Only then is an interruption possible.
    is_agent_speaking: bool,
}

impl SimulatedEventKind {
    /// Returns the type as AVR Core writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiated => "call_initiated",
            Self::Started => "call_started",
            Self::Transcription => "transcription",
            Self::Interruption => "interruption",
            Self::Digit => "dtmf_digit",
            Self::Ended => "call_ended",
        }
    }
}

impl<'a> SimulatedCall<'a> {
    /// Creates the call of this number, counted from 1, before its first event.
    pub fn new(script: &'a CallScript, number: u64, uuid: Uuid) -> Self {
        // Adjacent numbers get distant seeds (the constant is 2^64 divided by the golden ratio,
        // as in splitmix64).
        let seed = script.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            script,
            number,
            uuid,
            random: Rng::with_seed(seed),
            next_index: 0,
            last_millisecond: i64::MIN,
            turn_count: 0,
            is_agent_speaking: false,
        }
    }

    /// Returns the platform's id of the call.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns whether the last event was created.
    pub fn is_over(&self) -> bool {
        self.next_index > self.last_index()
    }

    /// Creates the next event, at least a millisecond later than the previous one, even if the
    /// clock stands still. Two events with the same time would be one delivery.
    pub fn next_event(&mut self, now: Timestamp) -> Option<SimulatedEvent> {
        if self.is_over() {
            return None;
        }
        let index = self.next_index;
        self.next_index += 1;
        self.last_millisecond = now.as_millisecond().max(self.last_millisecond.saturating_add(1));
        let time = Timestamp::from_millisecond(self.last_millisecond).unwrap_or(now);
        let (kind, payload) = match index {
            0 => (SimulatedEventKind::Initiated, self.metadata(time)),
            1 => (SimulatedEventKind::Started, json!({})),
            nth if nth == self.last_index() => (SimulatedEventKind::Ended, json!({})),
            _ => self.random_event(),
        };
        let timestamp = format!("{time:.3}");
        let (uuid, name) = (self.uuid, kind.name());
        let body = format!(
            r#"{{"uuid":"{uuid}","type":"{name}","timestamp":"{timestamp}","payload":{payload}}}"#
        );
        Some(SimulatedEvent { index, kind, timestamp, body })
    }

    /// Returns the position of `call_ended`.
    fn last_index(&self) -> u64 {
        u64::from(self.script.event_count) + 2
    }

    fn metadata(&self, time: Timestamp) -> Value {
        let CallScript { from, to, .. } = self.script;
        let index = (self.number.saturating_sub(1)) as usize % to.len().max(1);
        json!({
            "from": from,
            "to": to.get(index),
            "uniqueid": format!("{}.{}", time.as_second(), self.number),
            "channel": format!("PJSIP/{from}-{:08x}", self.number),
        })
    }

    /// Selects the type of an event: mostly turns, beginning with the agent's, sometimes
    /// another one.
    fn random_event(&mut self) -> (SimulatedEventKind, Value) {
        let draw = self.random.u8(..10);
        if draw == 0 && self.is_agent_speaking {
            self.is_agent_speaking = false;
            return (SimulatedEventKind::Interruption, json!({}));
        }
        if draw == 1 && self.turn_count > 0 {
            let digit = self.random.u8(..10).to_string();
            return (SimulatedEventKind::Digit, json!({ "digit": digit }));
        }
        self.turn_count += 1;
        self.is_agent_speaking = self.turn_count % 2 == 1;
        let (role, lines) =
            if self.is_agent_speaking { ("agent", AGENT_LINES) } else { ("user", USER_LINES) };
        let line = self.random.choice(lines).unwrap_or_default();
        let text = format!("{line} (turn {} of call {})", self.turn_count, self.number);
        (SimulatedEventKind::Transcription, json!({ "role": role, "text": text }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn script(events: u32, seed: u64) -> CallScript {
        CallScript {
            from: "20\"00".to_owned(),
            to: vec!["1".to_owned(), "2".to_owned()],
            event_count: events,
            seed,
        }
    }

    fn events(script: &CallScript, number: u64) -> Vec<SimulatedEvent> {
        let mut call = SimulatedCall::new(script, number, Uuid::nil());
        let now = "2026-01-01T12:00:00.0005Z".parse().unwrap();
        std::iter::from_fn(|| call.next_event(now)).collect()
    }

    #[test]
    fn simulated_call_matches_avr_events() {
        let events = events(&script(200, 7), 2);
        assert_eq!(events.len(), 203);
        let first = &events[0];
        assert_eq!(
            serde_json::from_str::<Value>(&first.body).unwrap(),
            json!({
                "uuid": "00000000-0000-0000-0000-000000000000",
                "type": "call_initiated",
                "timestamp": "2026-01-01T12:00:00.000Z",
                "payload": {
                    "from": "20\"00",
                    "to": "2",
                    "uniqueid": "1767268800.2",
                    "channel": "PJSIP/20\"00-00000002",
                },
            })
        );
        assert_eq!(events[1].kind, SimulatedEventKind::Started);
        assert_eq!(events[2].kind, SimulatedEventKind::Transcription);
        assert_eq!(events[202].kind, SimulatedEventKind::Ended);
        for kind in [
            SimulatedEventKind::Transcription,
            SimulatedEventKind::Interruption,
            SimulatedEventKind::Digit,
        ] {
            assert!(events.iter().any(|event| event.kind == kind), "{kind:?}");
        }
        let mut agent_speaks = false;
        for (nth, event) in events.iter().enumerate() {
            assert_eq!(event.index, nth as u64);
            let body: Value = serde_json::from_str(&event.body).unwrap();
            assert_eq!(body["type"], event.kind.name());
            match event.kind {
                SimulatedEventKind::Transcription => {
                    agent_speaks = body["payload"]["role"] == "agent"
                }
                SimulatedEventKind::Interruption => assert!(agent_speaks),
                _ => {}
            }
        }
    }

    #[test]
    fn timestamps_increase_while_clock_stands_still() {
        let events = events(&script(8, 0), 1);
        let times: HashSet<&str> = events.iter().map(|event| &*event.timestamp).collect();
        assert_eq!(times.len(), events.len());
        assert_eq!(events[10].timestamp, "2026-01-01T12:00:00.010Z");
    }

    #[test]
    fn same_seed_produces_same_bodies() {
        let bodies = |seed, number| -> Vec<String> {
            events(&script(20, seed), number).into_iter().map(|event| event.body).collect()
        };
        assert_eq!(bodies(1, 1), bodies(1, 1));
        assert_ne!(bodies(1, 1), bodies(2, 1));
        assert_ne!(bodies(1, 1)[2..], bodies(1, 3)[2..]);
    }

    #[test]
    fn call_without_extra_events_has_start_and_end() {
        let kinds: Vec<SimulatedEventKind> =
            events(&script(0, 0), 1).iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [SimulatedEventKind::Initiated, SimulatedEventKind::Started, SimulatedEventKind::Ended]
        );
    }
}

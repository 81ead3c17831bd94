//! What a simulated call consists of: its events, as AVR Core sends them.

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// Harmless things to say. A turn says which one it is, so that no two are alike.
const AGENT: [&str; 5] = [
    "Hello, how can I help you?",
    "One moment, let me look that up.",
    "Could you tell me a little more?",
    "That is done. Is there anything else?",
    "Thank you for your patience.",
];
const USER: [&str; 5] = [
    "Good morning, I have a question.",
    "Yes, please.",
    "No, that is not quite what I meant.",
    "When are you open?",
    "Thank you, that helps.",
];

/// What all calls of a run have in common.
pub struct Script {
    /// Who calls.
    pub from: String,
    /// Whom they call, in turn.
    pub to: Vec<String>,
    /// Events of a call between `call_started` and `call_ended`.
    pub events: u32,
    /// Decides what is said; the same seed says the same.
    pub seed: u64,
}

/// Types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The question where the call shall go.
    Initiated,
    /// The call has audio.
    Started,
    /// A turn of the conversation.
    Transcription,
    /// The caller spoke while the agent did.
    Interruption,
    /// The caller pressed a key.
    Digit,
    /// The call is over.
    Ended,
}

/// One event, ready to be posted.
pub struct Event {
    /// Its place in the call, from 0.
    pub nth: u64,
    /// Its type.
    pub kind: Kind,
    /// ISO 8601 with milliseconds. With call and type, it names the delivery.
    pub timestamp: String,
    /// The body to post.
    pub body: String,
}

/// A call that is being played.
pub struct Call<'a> {
    script: &'a Script,
    number: u64,
    uuid: Uuid,
    random: Rng,
    next: u64,
    millisecond: i64,
    turns: u64,
    // An interruption makes no sense elsewhere.
    agent_speaks: bool,
}

impl Kind {
    /// As AVR Core writes it.
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

impl<'a> Call<'a> {
    /// The call of this number, counted from 1, before its first event.
    pub fn new(script: &'a Script, number: u64, uuid: Uuid) -> Self {
        // Seeds that lie apart, for numbers that do not (the constant is 2^64
        // divided by the golden ratio, as in splitmix64).
        let seed = script.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            script,
            number,
            uuid,
            random: Rng::with_seed(seed),
            next: 0,
            millisecond: i64::MIN,
            turns: 0,
            agent_speaks: false,
        }
    }

    /// What the platform calls it.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Whether the last event was made.
    pub fn is_over(&self) -> bool {
        self.next > self.last()
    }

    /// The next event. It is later than the one before by a millisecond or more,
    /// whatever the clock says: two events of one time would be one delivery.
    pub fn next(&mut self, now: Timestamp) -> Option<Event> {
        if self.is_over() {
            return None;
        }
        let nth = self.next;
        self.next += 1;
        self.millisecond = now.as_millisecond().max(self.millisecond.saturating_add(1));
        let time = Timestamp::from_millisecond(self.millisecond).unwrap_or(now);
        let (kind, payload) = match nth {
            0 => (Kind::Initiated, self.metadata(time)),
            1 => (Kind::Started, json!({})),
            nth if nth == self.last() => (Kind::Ended, json!({})),
            _ => self.happening(),
        };
        let timestamp = format!("{time:.3}");
        let (uuid, name) = (self.uuid, kind.name());
        let body = format!(
            r#"{{"uuid":"{uuid}","type":"{name}","timestamp":"{timestamp}","payload":{payload}}}"#
        );
        Some(Event { nth, kind, timestamp, body })
    }

    /// The place of `call_ended`.
    fn last(&self) -> u64 {
        u64::from(self.script.events) + 2
    }

    fn metadata(&self, time: Timestamp) -> Value {
        let Script { from, to, .. } = self.script;
        let turn = (self.number.saturating_sub(1)) as usize % to.len().max(1);
        json!({
            "from": from,
            "to": to.get(turn),
            "uniqueid": format!("{}.{}", time.as_second(), self.number),
            "channel": format!("PJSIP/{from}-{:08x}", self.number),
        })
    }

    /// Mostly turns, beginning with the agent's; now and then something else.
    fn happening(&mut self) -> (Kind, Value) {
        let dice = self.random.u8(..10);
        if dice == 0 && self.agent_speaks {
            self.agent_speaks = false;
            return (Kind::Interruption, json!({}));
        }
        if dice == 1 && self.turns > 0 {
            let digit = self.random.u8(..10).to_string();
            return (Kind::Digit, json!({ "digit": digit }));
        }
        self.turns += 1;
        self.agent_speaks = self.turns % 2 == 1;
        let (role, lines) = if self.agent_speaks { ("agent", AGENT) } else { ("user", USER) };
        let line = self.random.choice(lines).unwrap_or_default();
        let text = format!("{line} (turn {} of call {})", self.turns, self.number);
        (Kind::Transcription, json!({ "role": role, "text": text }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn script(events: u32, seed: u64) -> Script {
        Script { from: "20\"00".to_owned(), to: vec!["1".to_owned(), "2".to_owned()], events, seed }
    }

    fn events(script: &Script, number: u64) -> Vec<Event> {
        let mut call = Call::new(script, number, Uuid::nil());
        let now = "2026-01-01T12:00:00.0005Z".parse().unwrap();
        std::iter::from_fn(|| call.next(now)).collect()
    }

    #[test]
    fn a_call_is_what_avr_sends() {
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
        assert_eq!(events[1].kind, Kind::Started);
        assert_eq!(events[2].kind, Kind::Transcription);
        assert_eq!(events[202].kind, Kind::Ended);
        for kind in [Kind::Transcription, Kind::Interruption, Kind::Digit] {
            assert!(events.iter().any(|event| event.kind == kind), "{kind:?}");
        }
        let mut agent_speaks = false;
        for (nth, event) in events.iter().enumerate() {
            assert_eq!(event.nth, nth as u64);
            let body: Value = serde_json::from_str(&event.body).unwrap();
            assert_eq!(body["type"], event.kind.name());
            match event.kind {
                Kind::Transcription => agent_speaks = body["payload"]["role"] == "agent",
                Kind::Interruption => assert!(agent_speaks),
                _ => {}
            }
        }
    }

    #[test]
    fn times_rise_though_the_clock_does_not() {
        let events = events(&script(8, 0), 1);
        let times: HashSet<&str> = events.iter().map(|event| &*event.timestamp).collect();
        assert_eq!(times.len(), events.len());
        assert_eq!(events[10].timestamp, "2026-01-01T12:00:00.010Z");
    }

    #[test]
    fn a_seed_says_the_same_again() {
        let said = |seed, number| -> Vec<String> {
            events(&script(20, seed), number).into_iter().map(|event| event.body).collect()
        };
        assert_eq!(said(1, 1), said(1, 1));
        assert_ne!(said(1, 1), said(2, 1));
        assert_ne!(said(1, 1)[2..], said(1, 3)[2..]);
    }

    #[test]
    fn a_call_may_be_silent() {
        let kinds: Vec<Kind> = events(&script(0, 0), 1).iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Initiated, Kind::Started, Kind::Ended]);
    }
}

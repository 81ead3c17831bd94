//! Collects the transcript of a call, and sends it to an archive when the call is over.
//!
//! During the call, the transcript is a document in the store. The plugin deletes it after
//! it has sent it, so a redelivered `ended` sends nothing.

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Time to live of a transcript, if the call's end never arrives.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Limits of a transcript, in turns and bytes. Later turns are omitted.
const MAX_TURNS: usize = 200;
const MAX_BYTES: usize = 48 * 1024;

#[derive(Default, Serialize, Deserialize)]
struct Transcript {
    started: Option<String>,
    turns: Vec<Turn>,
    /// Size of the turns as JSON, in bytes.
    bytes: usize,
    truncated: bool,
}

#[derive(Serialize, Deserialize)]
struct Turn {
    role: String,
    text: String,
    at: String,
    /// Id of the event, which prevents duplicates. Not part of the report.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    event: String,
}

/// The report for the archive.
#[derive(Serialize)]
struct Report<'a> {
    call: &'a str,
    platform: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
    started: Option<String>,
    ended: &'a str,
    turns: Vec<Turn>,
    truncated: bool,
}

struct TranscriptLog;

impl Observer for TranscriptLog {
    fn on_event(event: &Event) -> Result<()> {
        let key = format!("transcript/{}", event.call().id());
        if let EventBody::Ended(_) = event.body() {
            let Some(transcript) = kv::get_json(&key)? else { return Ok(()) };
            send(event, transcript)?;
            kv::delete(&key)?;
            return Ok(());
        }
        kv::update_json_for(&key, TTL, |transcript: Option<Transcript>| {
            let mut transcript = transcript.unwrap_or_default();
            transcript.add(event);
            transcript
        })?;
        Ok(())
    }
}

impl Transcript {
    fn add(&mut self, event: &Event) {
        match event.body() {
            EventBody::Started => self.started = Some(event.timestamp().to_owned()),
            EventBody::Transcription { role, text } => self.push(Turn {
                role: role.name().to_owned(),
                text: text.clone(),
                at: event.timestamp().to_owned(),
                event: event.id().to_owned(),
            }),
            _ => {}
        }
    }

    fn push(&mut self, turn: Turn) {
        if self.turns.iter().any(|other| other.event == turn.event) {
            return;
        }
        // The store limits the size of a value, and JSON makes some characters longer.
        let bytes = self.bytes + serde_json::to_string(&turn).map_or(MAX_BYTES, |json| json.len());
        if self.truncated || self.turns.len() >= MAX_TURNS || bytes > MAX_BYTES {
            self.truncated = true;
            return;
        }
        self.bytes = bytes;
        self.turns.push(turn);
    }
}

fn send(event: &Event, transcript: Transcript) -> Result<()> {
    let call = event.call();
    let mut turns = transcript.turns;
    turns.iter_mut().for_each(|turn| turn.event.clear());
    let mut request = http::post(config::require("url")?).json(&Report {
        call: call.id(),
        platform: call.platform(),
        from: call.from(),
        to: call.to(),
        started: transcript.started,
        ended: event.timestamp(),
        turns,
        truncated: transcript.truncated,
    })?;
    if let Some(token) = config::get("token") {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.send()?.ok()?;
    Ok(())
}

plugboard_sdk::export!(TranscriptLog: Observer);

#[cfg(test)]
mod tests {
    use plugboard_sdk::testing::Host;
    use plugboard_sdk::{Ending, Role};
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://archive/transcripts";

    fn at(second: u64, body: EventBody) -> Event {
        Event::new(Call::new("c").with_from("2000"), body).at_unix_ms(second * 1000)
    }

    fn transcription(second: u64, role: Role, text: impl Into<String>) -> Event {
        at(second, EventBody::Transcription { role, text: text.into() })
    }

    fn ended(second: u64) -> Event {
        at(second, EventBody::Ended(Ending::default()))
    }

    fn host() -> Host {
        Host::new().with_config("url", URL).with_response("POST", URL, 201, "")
    }

    fn observe(host: &Host, event: &Event) {
        host.observe::<TranscriptLog>(event).unwrap();
    }

    fn sent(host: &Host) -> Value {
        serde_json::from_slice(&host.requests().last().unwrap().body).unwrap()
    }

    #[test]
    fn transcript_is_sent_once_without_duplicates() {
        let host = host().with_config("token", "t0ken");
        let events = [
            at(1, EventBody::Started),
            transcription(2, Role::Agent, "Hello"),
            transcription(3, Role::User, "Hello"),
            ended(4),
        ];
        for event in &events {
            observe(&host, event);
            observe(&host, event);
        }
        let expected = json!({
            "call": "c", "platform": "avr", "from": "2000", "to": null,
            "started": "1970-01-01T00:00:01.000Z", "ended": "1970-01-01T00:00:04.000Z",
            "turns": [
                {"role": "agent", "text": "Hello", "at": "1970-01-01T00:00:02.000Z"},
                {"role": "user", "text": "Hello", "at": "1970-01-01T00:00:03.000Z"},
            ],
            "truncated": false,
        });
        assert_eq!((host.requests().len(), sent(&host)), (1, expected));
        assert_eq!(host.requests()[0].header_value("authorization"), Some("Bearer t0ken"));
        assert_eq!(host.kv("transcript/c"), None);
    }

    #[test]
    fn failed_report_is_sent_again() {
        let host = Host::new()
            .with_config("url", URL)
            .with_http_error("POST", URL, http::Error::Timeout)
            .with_response("POST", URL, 503, "")
            .with_response("POST", URL, 200, "");
        observe(&host, &transcription(1, Role::User, "Hello"));
        let ended = ended(2);
        host.observe::<TranscriptLog>(&ended).unwrap_err();
        host.observe::<TranscriptLog>(&ended).unwrap_err();
        observe(&host, &ended);
        assert_eq!(sent(&host)["turns"][0]["text"], "Hello");
        assert_eq!(host.kv("transcript/c"), None);
    }

    #[test]
    fn long_transcript_is_truncated() {
        // A control character is six bytes long in JSON.
        for text in ["x".to_owned(), "y".repeat(1000), "\u{1}".repeat(1000)] {
            let host = host();
            for second in 0..300 {
                observe(&host, &transcription(second, Role::User, text.clone()));
                assert!(host.kv("transcript/c").unwrap().len() < MAX_BYTES + 1024);
            }
            observe(&host, &ended(300));
            assert_eq!(sent(&host)["truncated"], true);
            assert_eq!(sent(&host)["turns"][0]["text"], text);
            assert!(sent(&host)["turns"].as_array().unwrap().len() <= MAX_TURNS);
        }
    }

    #[test]
    fn missing_setting_is_named_in_error() {
        let host = Host::new();
        observe(&host, &at(1, EventBody::Started));
        let error = host.observe::<TranscriptLog>(&ended(2)).unwrap_err().to_string();
        assert_eq!(error, "[config] has no `url`");
    }
}

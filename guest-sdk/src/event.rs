//! What happens in a call, as an observer is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::call::Call;
use crate::decision::Verdict;

/// Something that happened in a call.
///
/// In a plugin, the host makes it; in a test, [`Event::new`] and the methods after
/// it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) id: String,
    pub(crate) call: Call,
    pub(crate) timestamp: String,
    pub(crate) unix_ms: u64,
    pub(crate) body: EventBody,
}

/// What happened.
///
/// After `Initiated` and `Routed`, which only calls have that the platform asked
/// about, come `Started` and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// The call is being set up, and the platform asked where it goes.
    Initiated,
    /// It was decided.
    Routed(Routing),
    /// Audio flows.
    Started,
    /// Somebody said something.
    Transcription {
        /// Who.
        role: Role,
        /// What.
        text: String,
    },
    /// The caller spoke over the agent.
    Interruption,
    /// The caller pressed a key.
    DtmfDigit(String),
    /// The agent used a tool.
    ToolInvoked {
        /// The tool's name.
        name: String,
        /// What it was given: JSON.
        arguments: String,
        /// What the agent got, as JSON, or why it got nothing.
        outcome: Result<String, String>,
    },
    /// The call is over.
    Ended(Ending),
    /// Something went wrong on the platform's side; its message.
    Error(String),
    /// An event that the contract has no name for.
    Other {
        /// The platform's name for it.
        kind: String,
        /// Its document: JSON, untouched.
        payload: String,
    },
}

/// What was decided, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The verdict, its URL filled for the call. [`Verdict::Pass`]: no plugin decided.
    pub verdict: Verdict,
    /// The plugin that decided, if one did.
    pub by: Option<String>,
    /// Where the platform was told to send the call: the verdict's URL, or the
    /// operator's fallback. None: the platform's own default.
    pub sts_url: Option<String>,
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The human caller.
    User,
    /// The voice agent.
    Agent,
}

impl Role {
    /// `user` or `agent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The platform does not say (AVR).
    #[default]
    Unknown,
    /// As it should.
    Completed,
    /// Something went wrong.
    Failed,
    /// It was called off.
    Canceled,
}

impl CallOutcome {
    /// `unknown`, `completed`, `failed` or `canceled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// The end of a call. [`Ending::default`] is that of a platform that says nothing
/// about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: CallOutcome,
    /// Why, in the platform's words.
    pub reason: Option<String>,
    /// From start to end, where the platform says.
    pub duration: Option<Duration>,
    /// The platform's document about the call: JSON; `null` when it has none.
    pub report: String,
}

impl Default for Ending {
    fn default() -> Self {
        let report = "null".to_owned();
        Self { outcome: CallOutcome::default(), reason: None, duration: None, report }
    }
}

/// When the events of tests happen, unless they say otherwise: the first moment
/// of 2026.
const TEST_TIME: u64 = 1_767_225_600_000;

impl Event {
    /// The same for every delivery of the same event, and no other's: what is
    /// written down under it is written down once.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The call, with everything that the platform told of it so far.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// When, by the platform's clock: RFC 3339, in UTC.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// When, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// What happened.
    pub fn body(&self) -> &EventBody {
        &self.body
    }

    /// The name of what happened, as in the settings' `events.kinds`: `initiated`,
    /// `routed`, `started`, `transcription`, `interruption`, `dtmf_digit`,
    /// `tool_invoked`, `ended`, `error` or `other`.
    pub fn kind(&self) -> &'static str {
        match self.body {
            EventBody::Initiated => "initiated",
            EventBody::Routed(_) => "routed",
            EventBody::Started => "started",
            EventBody::Transcription { .. } => "transcription",
            EventBody::Interruption => "interruption",
            EventBody::DtmfDigit(_) => "dtmf_digit",
            EventBody::ToolInvoked { .. } => "tool_invoked",
            EventBody::Ended(_) => "ended",
            EventBody::Error(_) => "error",
            EventBody::Other { .. } => "other",
        }
    }

    /// An event for a test, with an id that no other has. To deliver one twice,
    /// give the same one twice.
    pub fn new(call: Call, body: EventBody) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let id = format!("event-{}", MADE.fetch_add(1, Ordering::Relaxed) + 1);
        let event = Self { id, call, timestamp: String::new(), unix_ms: 0, body };
        event.at_unix_ms(TEST_TIME)
    }

    /// The same event with this id.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// The same event at this time, in milliseconds since 1970.
    #[must_use]
    pub fn at_unix_ms(self, unix_ms: u64) -> Self {
        Self { timestamp: rfc3339(unix_ms), unix_ms, ..self }
    }
}

/// A time as platforms write it. The calendar is that of
/// <https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`.
fn rfc3339(unix_ms: u64) -> String {
    const DAYS_OF_ERA: u64 = 146_097;
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    // Counted from 1 March of the year 0, so that a leap day is a year's last.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = era * 400 + year;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_platforms_write_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (TEST_TIME - 1, "2025-12-31T23:59:59.999Z"),
            (TEST_TIME, "2026-01-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }

    #[test]
    fn every_event_has_an_id_of_its_own() {
        let event = || Event::new(Call::new("1"), EventBody::Started);
        assert_ne!(event().id(), event().id());
        assert_eq!(event().with_id("e").id(), "e");
        assert_eq!(event().kind(), "started");
        assert_eq!(event().timestamp(), "2026-01-01T00:00:00.000Z");
    }
}

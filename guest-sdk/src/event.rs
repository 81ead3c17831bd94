//! The events of a call that an observer receives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::call::Call;
use crate::decision::Verdict;

/// Something that happened in a call.
///
/// The host creates it for a plugin. A test creates it with [`Event::new`] and the
/// methods after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) id: String,
    pub(crate) call: Call,
    pub(crate) timestamp: String,
    pub(crate) unix_ms: u64,
    pub(crate) body: EventBody,
}

/// The kind of an event, with its details.
///
/// `Initiated` and `Routed` come first, and only in calls that the platform asked the host
/// to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// The call is being set up, and the platform asked where it goes.
    Initiated,
    /// The host decided the call.
    Routed(Routing),
    /// Audio flows between the caller and the agent.
    Started,
    /// The caller or the agent said a sentence.
    Transcription {
        /// Speaker of the sentence.
        role: Role,
        /// Text of the sentence.
        text: String,
    },
    /// The caller spoke over the agent.
    Interruption,
    /// The caller pressed a key.
    DtmfDigit(String),
    /// The agent called a tool.
    ToolInvoked {
        /// Name of the tool.
        name: String,
        /// Arguments of the tool call, as JSON.
        arguments: String,
        /// Result that the agent got, as JSON, or the error text.
        outcome: Result<String, String>,
    },
    /// The call is over.
    Ended(Ending),
    /// The platform reported an error, with this message.
    Error(String),
    /// An event for which the contract has no case.
    Other {
        /// The platform's name of the event.
        kind: String,
        /// The platform's document, as unchanged JSON.
        payload: String,
    },
}

/// The decision about a call, and the plugin that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The verdict, its URL filled for the call. [`Verdict::Pass`]: no plugin decided.
    pub verdict: Verdict,
    /// The name of the plugin that decided. None: no plugin did.
    pub by: Option<String>,
    /// The URL that the platform got: the verdict's, or the operator's fallback. None: the
    /// platform's own default.
    pub sts_url: Option<String>,
}

/// The speaker of a transcription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The human caller of the call.
    User,
    /// The voice agent of the platform.
    Agent,
}

impl Role {
    /// Returns the name in lower case: `user` or `agent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
        }
    }
}

/// The outcome of a call that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The platform does not report the outcome (AVR).
    #[default]
    Unknown,
    /// The call ended normally.
    Completed,
    /// The call ended with an error.
    Failed,
    /// The call was canceled.
    Canceled,
}

impl CallOutcome {
    /// Returns the name in lower case: `unknown`, `completed`, `failed` or `canceled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// The end of a call. [`Ending::default`] is the end as a platform without details
/// reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The outcome of the call.
    pub outcome: CallOutcome,
    /// The reason, in the platform's words.
    pub reason: Option<String>,
    /// The time from start to end, if the platform reports it.
    pub duration: Option<Duration>,
    /// The platform's document about the call, as JSON; `null` without one.
    pub report: String,
}

impl Default for Ending {
    fn default() -> Self {
        let report = "null".to_owned();
        Self { outcome: CallOutcome::default(), reason: None, duration: None, report }
    }
}

/// Default time of events in tests: 2026-01-01T00:00:00Z, in milliseconds since 1970.
const TEST_TIME: u64 = 1_767_225_600_000;

impl Event {
    /// Returns the id, equal in every delivery of the same event and unique to it. Use it
    /// as the idempotency key of a write or a request.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the call, with all details that the platform has sent so far.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Returns the time by the platform's clock: RFC 3339, in UTC.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// Returns the time by the platform's clock, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// Returns the kind of the event, with its details.
    pub fn body(&self) -> &EventBody {
        &self.body
    }

    /// Returns the name of the kind, as in the settings' `events.kinds`: `initiated`,
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

    /// Creates an event for a test, with a unique id. To test a redelivery, pass the same
    /// event to the plugin twice.
    pub fn new(call: Call, body: EventBody) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let id = format!("event-{}", MADE.fetch_add(1, Ordering::Relaxed) + 1);
        let event = Self { id, call, timestamp: String::new(), unix_ms: 0, body };
        event.at_unix_ms(TEST_TIME)
    }

    /// Sets the id of the event.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets the time of the event, in milliseconds since 1970.
    #[must_use]
    pub fn at_unix_ms(self, unix_ms: u64) -> Self {
        Self { timestamp: rfc3339(unix_ms), unix_ms, ..self }
    }
}

/// Formats a time as platforms do: RFC 3339 in UTC, with milliseconds. The algorithm is
/// `civil_from_days` of <https://howardhinnant.github.io/date_algorithms.html>.
fn rfc3339(unix_ms: u64) -> String {
    const DAYS_OF_ERA: u64 = 146_097;
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    // Counted from 1 March of the year 0, so that a leap day is the last day of a year.
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
    fn timestamp_is_rfc3339_with_milliseconds() {
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
    fn new_events_have_unique_ids() {
        let event = || Event::new(Call::new("1"), EventBody::Started);
        assert_ne!(event().id(), event().id());
        assert_eq!(event().with_id("e").id(), "e");
        assert_eq!(event().kind(), "started");
        assert_eq!(event().timestamp(), "2026-01-01T00:00:00.000Z");
    }
}

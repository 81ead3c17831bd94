//! The platform-neutral model: a call and what happens in it. A dialect
//! ([`plugboard_platform`]) makes these from what arrives on the wire, so that
//! neither the chain nor a plugin ever sees a platform's own format.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call::Call;
use crate::verdict::VerdictKind;

/// Something that happened in a call.
#[derive(Clone)]
pub struct Event {
    /// The call that it happened in.
    pub call: Arc<Call>,
    /// When, by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// What.
    pub body: EventBody,
    /// The platform's id of the delivery within the call, as its adapter derives it. Events
    /// of a call with the same id are one event. None: time and content identify the event.
    pub delivery_id: Option<Arc<str>>,
}

impl Event {
    /// Returns what identifies the delivery among those of its call, apart from the
    /// content: the delivery's id, else the time.
    pub fn dedup_key(&self) -> (Option<&str>, Option<jiff::Timestamp>) {
        match &self.delivery_id {
            Some(name) => (Some(name), None),
            None => (None, Some(self.timestamp)),
        }
    }

    /// When, as platforms write it: in milliseconds, unless there is more to it.
    pub fn timestamp_text(&self) -> String {
        match self.timestamp.subsec_nanosecond() % 1_000_000 {
            0 => format!("{:.3}", self.timestamp),
            _ => self.timestamp.to_string(),
        }
    }
}

/// What happened. Its JSON is kept in the journal: names of variants and fields
/// stay as they are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// The call is being set up; the platform waits for our decision.
    Initiated,
    /// It was decided where the call goes.
    Routed(Routing),
    /// Audio flows.
    Started,
    /// Somebody said something.
    Transcription {
        /// Who spoke.
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
        /// The tool.
        name: String,
        /// What it was asked, in JSON.
        arguments: Box<RawValue>,
        /// What the agent got, in JSON, or why it got nothing.
        outcome: Result<Box<RawValue>, String>,
    },
    /// The call is over.
    Ended(CallEnding),
    /// Something went wrong on the platform's side.
    Error(String),
    /// A kind of event that we have no name for.
    Other {
        /// The platform's name for it.
        kind: String,
        /// Its document, untouched.
        payload: Box<RawValue>,
    },
}

/// What was decided, filled for the call.
#[derive(Clone, Serialize, Deserialize)]
pub struct Routing {
    /// The verdict's kind; `pass` when no plugin decided.
    pub verdict: VerdictKind,
    /// The plugin that decided.
    pub by: Option<Arc<str>>,
    /// What the platform was told.
    pub sts_url: Option<String>,
    /// Of a route: what the voice agent shall be told.
    pub prompt: Option<Arc<str>>,
    /// Of a rejection.
    pub reason: Option<Arc<str>>,
}

/// How a call ended.
#[derive(Clone, Serialize, Deserialize)]
pub struct CallEnding {
    /// How, as far as the platform says.
    pub outcome: CallOutcome,
    /// In the platform's words.
    pub reason: Option<String>,
    /// In milliseconds, from start to end.
    pub duration: Option<u64>,
    /// The platform's document about the call.
    pub report: Box<RawValue>,
}

/// How a call ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallOutcome {
    /// The platform does not say.
    Unknown,
    /// As it should.
    Completed,
    /// It could not be held.
    Failed,
    /// Somebody called it off.
    Canceled,
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The human caller.
    User,
    /// The voice agent.
    Agent,
}

impl EventBody {
    /// Which kind of event it is.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Initiated => EventKind::Initiated,
            Self::Routed(_) => EventKind::Routed,
            Self::Started => EventKind::Started,
            Self::Transcription { .. } => EventKind::Transcription,
            Self::Interruption => EventKind::Interruption,
            Self::DtmfDigit(_) => EventKind::DtmfDigit,
            Self::ToolInvoked { .. } => EventKind::ToolInvoked,
            Self::Ended(_) => EventKind::Ended,
            Self::Error(_) => EventKind::Error,
            Self::Other { .. } => EventKind::Other,
        }
    }
}

/// A kind of event, as settings, journal and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The platform asks where a call goes.
    Initiated,
    /// It was decided: what, and by which plugin.
    Routed,
    /// Audio flows.
    Started,
    /// Somebody said something.
    Transcription,
    /// The caller spoke over the agent.
    Interruption,
    /// A key was pressed.
    DtmfDigit,
    /// The agent used a tool: with which arguments, and what it got.
    ToolInvoked,
    /// The call is over.
    Ended,
    /// Something went wrong.
    Error,
    /// A transfer, or what Plugboard has no name for.
    Other,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Initiated,
        Self::Routed,
        Self::Started,
        Self::Transcription,
        Self::Interruption,
        Self::DtmfDigit,
        Self::ToolInvoked,
        Self::Ended,
        Self::Error,
        Self::Other,
    ];

    /// The name in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Routed => "routed",
            Self::Started => "started",
            Self::Transcription => "transcription",
            Self::Interruption => "interruption",
            Self::DtmfDigit => "dtmf_digit",
            Self::ToolInvoked => "tool_invoked",
            Self::Ended => "ended",
            Self::Error => "error",
            Self::Other => "other",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u32);

impl EventKinds {
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Every kind.
    pub fn all() -> Self {
        EventKind::ALL.into_iter().collect()
    }

    /// Whether a kind is in the set.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether no kind is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as a number, to be kept.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The set of such a number.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::all().0)
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

//! The event model. A platform adapter converts webhooks to these types, so that neither
//! the chain nor a plugin sees a platform's own format.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call::Call;
use crate::verdict::VerdictKind;

/// An event of a call.
#[derive(Clone)]
pub struct Event {
    /// The call that the event belongs to.
    pub call: Arc<Call>,
    /// The time of the event by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// The kind of event, with its data.
    pub body: EventBody,
    /// The platform's id of the delivery within the call, as its adapter derives it. Events of
    /// a call with the same id are one event. `None`: time and content identify the event.
    pub delivery_id: Option<Arc<str>>,
}

impl Event {
    /// Returns the identity of the delivery within its call, apart from the content: the
    /// delivery's id, or else the time.
    pub fn dedup_key(&self) -> (Option<&str>, Option<jiff::Timestamp>) {
        match &self.delivery_id {
            Some(name) => (Some(name), None),
            None => (None, Some(self.timestamp)),
        }
    }

    /// Returns the time in RFC 3339, with at least three digits of milliseconds.
    pub fn timestamp_text(&self) -> String {
        match self.timestamp.subsec_nanosecond() % 1_000_000 {
            0 => format!("{:.3}", self.timestamp),
            _ => self.timestamp.to_string(),
        }
    }
}

/// The kind of an event, with its data. The journal stores its JSON, so the names of
/// variants and fields must not change.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// The call is being set up, and the platform waits for the decision.
    Initiated,
    /// The call was decided.
    Routed(Routing),
    /// The audio of the call started.
    Started,
    /// The caller or the agent spoke.
    Transcription {
        /// The speaker of the text.
        role: Role,
        /// The text of the speech.
        text: String,
    },
    /// The caller spoke over the agent.
    Interruption,
    /// The caller pressed a key.
    DtmfDigit(String),
    /// The agent used a tool.
    ToolInvoked {
        /// The name of the tool.
        name: String,
        /// The arguments of the tool, as JSON.
        arguments: Box<RawValue>,
        /// The result of the tool as JSON, or its error.
        outcome: Result<Box<RawValue>, String>,
    },
    /// The call ended, normally or not.
    Ended(CallEnding),
    /// The platform reports an error.
    Error(String),
    /// An event of a kind that this model does not have.
    Other {
        /// The platform's name for the kind.
        kind: String,
        /// The platform's document, unchanged.
        payload: Box<RawValue>,
    },
}

/// A decision, filled for one call.
#[derive(Clone, Serialize, Deserialize)]
pub struct Routing {
    /// The kind of the verdict; `pass` if no plugin decided.
    pub verdict: VerdictKind,
    /// The plugin that decided.
    pub by: Option<Arc<str>>,
    /// The URL in the answer to the platform.
    pub sts_url: Option<String>,
    /// The voice agent's prompt, of a route.
    pub prompt: Option<Arc<str>>,
    /// The reason, of a rejection.
    pub reason: Option<Arc<str>>,
}

/// The end of a call.
#[derive(Clone, Serialize, Deserialize)]
pub struct CallEnding {
    /// The outcome, if the platform states it.
    pub outcome: CallOutcome,
    /// The platform's text for the reason.
    pub reason: Option<String>,
    /// The time from start to end, in milliseconds.
    pub duration: Option<u64>,
    /// The platform's document about the call.
    pub report: Box<RawValue>,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallOutcome {
    /// The platform does not state it.
    Unknown,
    /// The call ended normally.
    Completed,
    /// The call ended because of an error.
    Failed,
    /// The call was canceled.
    Canceled,
}

/// The speaker of a transcription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The human on the phone.
    User,
    /// The voice agent of the platform.
    Agent,
}

impl EventBody {
    /// Returns the kind of the event.
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

/// A kind of event. Settings, journal and metrics use its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The platform requests the decision for a call.
    Initiated,
    /// The call was decided; has the verdict and the plugin.
    Routed,
    /// The audio of the call started.
    Started,
    /// The caller or the agent spoke.
    Transcription,
    /// The caller spoke over the agent.
    Interruption,
    /// The caller pressed a key.
    DtmfDigit,
    /// The agent used a tool; has the arguments and the result.
    ToolInvoked,
    /// The call ended, normally or not.
    Ended,
    /// The platform reported an error.
    Error,
    /// A transfer, or an event of an unknown kind.
    Other,
}

impl EventKind {
    /// All kinds, in the order of the variants.
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

    /// Returns the name of the kind in settings and metrics.
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

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u32);

impl EventKinds {
    /// The set without any kind.
    pub const NONE: Self = Self(0);

    /// Returns the set of every kind.
    pub fn all() -> Self {
        EventKind::ALL.into_iter().collect()
    }

    /// Returns true if the set has this kind.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Returns true if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the kinds of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the set as a bit mask, for storage.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Returns the set of a bit mask; unknown bits are ignored.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & Self::all().0)
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

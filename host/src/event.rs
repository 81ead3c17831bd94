//! The platform-neutral model: a call and what happens in it. A dialect
//! ([`crate::platform`]) makes these from what arrives on the wire, so that
//! neither the chain nor a plugin ever sees a platform's own format.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::decision::VerdictKind;
use crate::platform::PLATFORMS;

/// Who calls us: one of [`PLATFORMS`].
#[derive(Clone, Copy)]
pub struct Platform(&'static PlatformInfo);

/// What everybody but its dialect has to know of a platform.
#[derive(Debug)]
pub struct PlatformInfo {
    /// The name in settings, in the contract and in logs.
    pub name: &'static str,
    /// The name that platforms share which are brands of one another: their
    /// headers are mixed within a call.
    pub family: &'static str,
    /// Whether it asks for a speech-to-speech service's URL. If not, it has an agent
    /// of its own, and a route's URL means nothing to it.
    pub accepts_sts_url: bool,
    /// Whether it can be told not to take a call.
    pub can_reject: bool,
    /// Whether its voice agents ask for the prompt of a call, after it was decided.
    pub fetches_prompt: bool,
    /// Whether it comes back in the middle of a call, to have a tool answered or a
    /// transfer decided: what is known of the call is then needed once more.
    pub supports_mid_call: bool,
    /// For how long it goes on trying to deliver what was not taken.
    pub redelivery_window: Duration,
}

impl Platform {
    /// The platform of these traits.
    pub const fn new(info: &'static PlatformInfo) -> Self {
        Self(info)
    }
}

impl std::ops::Deref for Platform {
    type Target = PlatformInfo;

    fn deref(&self) -> &PlatformInfo {
        self.0
    }
}

impl PartialEq for Platform {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Platform {}

impl std::hash::Hash for Platform {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl JsonSchema for Platform {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = PLATFORMS.iter().map(|platform| platform.name).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static NAMES: LazyLock<Vec<&str>> =
            LazyLock::new(|| PLATFORMS.iter().map(|platform| platform.name).collect());
        let name = Cow::<str>::deserialize(deserializer)?;
        let platform = PLATFORMS.iter().find(|platform| platform.name == name).copied();
        platform.ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
    }
}

/// One phone call, as far as the platform has told us about it.
///
/// Everything but `platform` is text from outside. No `Debug`: a number must
/// not reach a log by way of `{:?}`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Call {
    /// The platform's name for the call.
    pub id: String,
    /// Who told us.
    pub platform: Platform,
    /// The voice agent that the platform uses, where it says.
    pub agent: Option<String>,
    /// Raw caller ID.
    pub from: Option<String>,
    /// What was dialled.
    pub to: Option<String>,
    /// What else the platform told us, in its order.
    pub metadata: Vec<(String, Box<RawValue>)>,
}

impl Call {
    /// A field's text by the name that templates, matches and `vary` use for
    /// it: one of [`Call::FIXED_FIELDS`], else a metadata name. JSON strings
    /// come without quotes, other values as JSON.
    ///
    /// `None` means that the call does not have the field.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "id" => Some(Cow::Borrowed(&self.id)),
            "platform" => Some(Cow::Borrowed(self.platform.name)),
            "agent" => self.agent.as_deref().map(Cow::Borrowed),
            "from" => self.from.as_deref().map(Cow::Borrowed),
            "to" => self.to.as_deref().map(Cow::Borrowed),
            _ => self.metadata(name),
        }
    }

    /// The text of a metadata value by its name.
    pub fn metadata(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.metadata.iter().find(|(key, _)| key == name)?;
        Some(json_text(value.get()))
    }

    /// Whether nothing is known but that there is such a call.
    pub fn has_no_details(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.metadata.is_empty()
    }

    /// The names that [`Call::field`] knows for every call.
    pub const FIXED_FIELDS: [&'static str; 5] = ["id", "platform", "agent", "from", "to"];
}

/// A JSON value as the text that a person would write for it: a string without
/// its quotes, `null` as nothing, anything else as it stands.
fn json_text(json: &str) -> Cow<'_, str> {
    match json {
        "null" => Cow::Borrowed(""),
        string if string.starts_with('"') => {
            serde_json::from_str::<TextRef<'_>>(string).map_or(Cow::Borrowed(string), |text| text.0)
        }
        other => Cow::Borrowed(other),
    }
}

/// A string that borrows from the document where it has no escapes; serde's
/// own `Cow` never borrows.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct TextRef<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Something that happened in a call.
#[derive(Clone)]
pub struct Event {
    /// The call that it happened in.
    pub call: Arc<Call>,
    /// When, by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// What.
    pub body: EventBody,
    /// What the platform's delivery is known by, if not by its time and content:
    /// events of a call that have the same are one.
    pub delivery_id: Option<Arc<str>>,
}

impl Event {
    /// What tells the delivery from others of its call, but for the content.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A call for unit tests: `metadata` is a JSON object.
    pub(crate) fn call(from: &str, to: &str, metadata: &str) -> Call {
        let metadata: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(metadata).unwrap();
        Call {
            id: "935652e3-7c59-4edc-b17f-9646a9c2a265".to_owned(),
            platform: crate::platform::AVR,
            agent: None,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            metadata: metadata.into_iter().collect(),
        }
    }

    #[test]
    fn fields_are_found_by_name() {
        let call =
            call("2000", "5001", r#"{"channel":"PJSIP/2\u0030","recording":false,"n":null}"#);
        let field = |name| call.field(name).map(Cow::into_owned);
        assert_eq!(field("from").as_deref(), Some("2000"));
        assert_eq!(field("agent"), None);
        assert_eq!(field("channel").as_deref(), Some("PJSIP/20"));
        assert_eq!(field("recording").as_deref(), Some("false"));
        assert_eq!(field("n").as_deref(), Some(""));
        assert_eq!(field("missing"), None);
    }
}

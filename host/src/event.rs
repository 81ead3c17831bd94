//! The platform-neutral model: a call and what happens in it. A dialect
//! ([`crate::platform`]) makes these from what arrives on the wire, so that
//! neither the chain nor a plugin ever sees a platform's own format.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Who calls us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Agent Voice Response Core.
    Avr,
    /// DSAI Core, a rebrand of AVR.
    Dsai,
    /// Dasha BlackBox.
    BlackBox,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 3] = [Self::Avr, Self::Dsai, Self::BlackBox];

    /// The name in settings, in the contract and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avr => "avr",
            Self::Dsai => "dsai",
            Self::BlackBox => "blackbox",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One phone call, as far as the platform has told us about it.
///
/// Everything but `platform` is text from outside. No `Debug`: a number must
/// not reach a log by way of `{:?}`.
#[derive(Clone)]
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
            "platform" => Some(Cow::Borrowed(self.platform.name())),
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

    /// The names that [`Call::field`] knows for every call.
    pub const FIXED_FIELDS: [&'static str; 5] = ["id", "platform", "agent", "from", "to"];
}

/// A JSON value as the text that a person would write for it: a string without
/// its quotes, `null` as nothing, anything else as it stands.
pub fn json_text(json: &str) -> Cow<'_, str> {
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
pub struct Event {
    /// The call that it happened in.
    pub call: Call,
    /// When, by the platform's clock.
    pub timestamp: jiff::Timestamp,
    /// What.
    pub body: EventBody,
}

/// What happened.
pub enum EventBody {
    /// The call is being set up; the platform waits for our decision.
    Initiated,
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
    /// The call is over.
    Ended,
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

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The human caller.
    User,
    /// The voice agent.
    Agent,
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
            platform: Platform::Avr,
            agent: None,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            metadata: metadata.into_iter().collect(),
        }
    }

    #[test]
    fn fields_are_found_by_name_and_read_as_text() {
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

//! The call model: one phone call, in the same form for every platform.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call_id::CallId;
use crate::platforms::Platform;

/// One phone call, with the fields that the platform has sent.
///
/// All fields but `platform` are untrusted text. The type has no `Debug`, so that `{:?}`
/// cannot write a phone number to the log.
#[derive(Clone, Serialize, Deserialize)]
pub struct Call {
    /// The platform's id for the call.
    pub id: Arc<str>,
    /// The platform that reported the call.
    pub platform: Platform,
    /// The platform's voice agent. `None`: the platform does not name it.
    pub agent: Option<String>,
    /// The caller ID, as sent.
    pub from: Option<String>,
    /// The dialled number, as sent.
    pub to: Option<String>,
    /// All other fields, as JSON, in the platform's order.
    pub metadata: Vec<(String, Box<RawValue>)>,
}

impl Call {
    /// Returns the call's identity.
    pub fn call_id(&self) -> CallId {
        CallId::new(self.platform, Arc::clone(&self.id))
    }

    /// Returns the text of a field, or `None` if the call lacks it.
    ///
    /// `name` is one of [`Call::FIXED_FIELDS`] or a metadata name; templates, matches and
    /// `vary` use the same names. JSON strings come without quotes, `null` as empty text,
    /// other values as JSON.
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

    /// Returns the text of a metadata value, in the form of [`Call::field`].
    pub fn metadata(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.metadata.iter().find(|(key, _)| key == name)?;
        Some(json_text(value.get()))
    }

    /// Returns true if only the id and the platform are known.
    pub fn has_no_details(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.metadata.is_empty()
    }

    /// The field names that are valid for every call.
    pub const FIXED_FIELDS: [&'static str; 5] = ["id", "platform", "agent", "from", "to"];
}

/// Converts a JSON value to plain text: a string without its quotes, `null` to empty text,
/// any other value unchanged.
fn json_text(json: &str) -> Cow<'_, str> {
    match json {
        "null" => Cow::Borrowed(""),
        string if string.starts_with('"') => {
            serde_json::from_str::<TextRef<'_>>(string).map_or(Cow::Borrowed(string), |text| text.0)
        }
        other => Cow::Borrowed(other),
    }
}

/// A string that borrows from the document if it has no escapes. Serde's own `Cow` never
/// borrows.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct TextRef<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::call;

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

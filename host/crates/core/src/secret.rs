//! Secrets: never shown, compared in constant time.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use subtle::ConstantTimeEq;

/// Text that is compared in constant time and never shown.
#[derive(Clone, JsonSchema)]
pub struct Secret(String);

impl Secret {
    /// A secret that may have spaces in it, as the value of a header. None: it is
    /// empty, or no printable ASCII.
    pub fn from_header_value(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The secret itself, to sign with.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `given` is the secret. Takes the same time wherever the two
    /// differ; only the length can be told from it.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    /// The text, for whoever has to show it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The message must not repeat what it was given.
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a secret is text in quotes"))?;
        if text.is_empty() || !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(de::Error::custom(
                "a secret is printable ASCII without spaces, and not empty \
                 (leave the key out for none)",
            ));
        }
        Ok(Self(text))
    }
}

//! Secrets that are masked in `Debug` output and compared in constant time.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use subtle::ConstantTimeEq;

/// A secret of printable ASCII, not empty.
#[derive(Clone, JsonSchema)]
pub struct Secret(String);

impl Secret {
    /// Creates a secret from a header's value, which may have spaces. Returns `None` if the
    /// text is empty or is not printable ASCII.
    pub fn from_header_value(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Returns the secret as a key for signatures.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns true if `given` is the secret. The time does not depend on the position of
    /// the first difference; it reveals the length only.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    /// Returns the text of the secret, to send it.
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
        // The message must not repeat the text, which may be a secret.
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

//! The tables of the platforms: `[avr]` and `[blackbox]`.

use std::time::Duration;

use axum::http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::credentials::{Credentials, HeaderSecret};
use plugboard_core::secret::Secret;
use plugboard_core::units;

/// Largest `blackbox.max_body`, in bytes: a body is in memory several times.
const MOST_BODY: usize = 64 << 20;

/// Largest fallback prompt or reason, in bytes; the limit of plugins' prompts.
const MAX_TEXT: usize = 64 << 10;

/// `[avr]`: AVR Core, and its rebrand DSAI.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AvrConfig {
    /// Whether it is served at all, on `/events` and `/instructions`.
    pub enabled: bool,
}

impl AvrConfig {
    /// The keys that authenticate AVR, for errors.
    pub(super) const SECRET_KEYS: &str = "WEBHOOK_SECRET (or `secret`) for AVR";
}

impl Default for AvrConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[blackbox]`: Dasha BlackBox.
#[derive(Clone, Debug)]
pub struct BlackBoxConfig {
    /// Serves the platform, on `/blackbox`.
    pub enabled: bool,
    /// The credentials that it must present.
    pub credentials: Credentials,
    /// The answer for calls that no plugin decides.
    pub fallback: BlackBoxFallback,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Time limit for the arrival of the body.
    pub body_timeout: Duration,
    /// Time limit for the answer to a tool call.
    pub tool_timeout: Duration,
}

impl BlackBoxConfig {
    /// The keys that authenticate BlackBox, for errors.
    pub(super) const SECRET_KEYS: &str =
        "blackbox.headers or blackbox.signing_secrets for BlackBox";
}

/// The answer for a call that no plugin decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlackBoxFallback {
    /// The voice agent takes the call.
    Accept {
        /// The voice agent's prompt. None: the agent's own.
        prompt: Option<String>,
    },
    /// The call is rejected.
    Reject {
        /// The reason.
        reason: String,
    },
}

/// `[blackbox]`: Dasha BlackBox.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BlackBoxSection {
    /// Whether it is served, on `POST /blackbox`.
    enabled: bool,
    /// Headers that the platform was told to send, with their values: `"Authorization:
    /// Bearer SECRET"`. Of a name that is there twice, either value is good.
    #[schemars(with = "Vec<String>")]
    headers: Vec<HeaderSecret>,
    /// Keys, any of which is good, of an HMAC-SHA256 over the body as it was sent, in
    /// hexadecimal digits with or without `sha256=`.
    signing_secrets: Vec<Secret>,
    /// Where the signature stands.
    #[serde(with = "header_name")]
    #[schemars(with = "String")]
    signature_header: HeaderName,
    /// What must be shown, as sets of which one will do: `["signature", "authorization +
    /// x-api-key"]`. Empty: all that is configured.
    require: Vec<String>,
    /// What becomes of a call that no plugin decides.
    fallback: Fallback,
    /// For `fallback = "accept"`: the agent's prompt. None: what it is configured with.
    fallback_prompt: Option<String>,
    /// For `fallback = "reject"`: why. None: `No plugin accepts the call`.
    fallback_reason: Option<String>,
    /// The largest report; 64 MiB at the most.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    max_body: usize,
    /// For a body to arrive. BlackBox wants its events acknowledged within 5 s.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    body_timeout: Duration,
    /// From a tool's request to its answer: a little less than what is set at BlackBox (1 s
    /// to 60 s).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    tool_timeout: Duration,
}

/// As it is written; [`BlackBoxFallback`] has what comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    /// The agent takes it.
    Accept,
    /// It is not taken.
    Reject,
}

impl Default for BlackBoxSection {
    fn default() -> Self {
        Self {
            enabled: false,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            signature_header: HeaderName::from_static("x-blackbox-signature"),
            require: Vec::new(),
            fallback: Fallback::Accept,
            fallback_prompt: None,
            fallback_reason: None,
            // The report of a long call with its transcript has some MiB.
            max_body: 16 << 20,
            // BlackBox requires an answer within 5 s.
            body_timeout: Duration::from_secs(4),
            // BlackBox's own time limit can be set from 1 s to 60 s.
            tool_timeout: Duration::from_secs(5),
        }
    }
}

impl BlackBoxSection {
    /// Validates the table.
    pub(super) fn check(self) -> Result<BlackBoxConfig, ConfigError> {
        let invalid = |key, message: String| Err(ConfigError::InvalidValue { key, message });
        let signature = (!self.signing_secrets.is_empty())
            .then_some((self.signature_header, self.signing_secrets));
        let credentials = match Credentials::new(self.headers, signature, &self.require) {
            Ok(credentials) => credentials,
            Err(message) => return invalid("blackbox.require", message),
        };
        if self.max_body > MOST_BODY {
            return invalid("blackbox.max_body", format!("expected at most {MOST_BODY}"));
        }
        for (key, text) in [
            ("blackbox.fallback_prompt", &self.fallback_prompt),
            ("blackbox.fallback_reason", &self.fallback_reason),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
                return invalid(key, format!("expected at most {MAX_TEXT} bytes"));
            }
        }
        let fallback = match (self.fallback, self.fallback_prompt, self.fallback_reason) {
            (Fallback::Accept, prompt, None) => BlackBoxFallback::Accept { prompt },
            (Fallback::Reject, None, reason) => BlackBoxFallback::Reject {
                reason: reason.unwrap_or_else(|| "No plugin accepts the call".to_owned()),
            },
            (Fallback::Accept, _, Some(_)) => {
                let message = "it is for blackbox.fallback = \"reject\"".to_owned();
                return invalid("blackbox.fallback_reason", message);
            }
            (Fallback::Reject, Some(_), _) => {
                let message = "it is for blackbox.fallback = \"accept\"".to_owned();
                return invalid("blackbox.fallback_prompt", message);
            }
        };
        Ok(BlackBoxConfig {
            enabled: self.enabled,
            credentials,
            fallback,
            max_body: self.max_body,
            body_timeout: self.body_timeout,
            tool_timeout: self.tool_timeout,
        })
    }
}

/// Serde of a header's name, as text.
mod header_name {
    use super::*;
    use serde::{Deserializer, Serializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HeaderName, D::Error> {
        let name = String::deserialize(deserializer)?;
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| de::Error::custom(format!("{name:?} is no name of a header")))
    }

    pub(super) fn serialize<S: Serializer>(
        name: &HeaderName,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }
}

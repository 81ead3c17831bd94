//! The tables of the platforms: `[avr]` and `[blackbox]`.

use std::time::Duration;

use axum::http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::credentials::{Credentials, HeaderSecret};
use plugboard_core::secret::Secret;
use plugboard_core::units;

/// Largest `blackbox.max_body`, in bytes: a body is in memory several times.
const MOST_BODY: usize = 64 << 20;

/// Largest fallback prompt or reason, in bytes; the limit of plugins' prompts.
const MAX_TEXT: usize = 64 << 10;

impl Config {
    /// Serves every platform, whatever the configuration says: for tools that recognise the
    /// documents of all platforms.
    pub fn enable_all_platforms(&mut self) {
        self.avr.enabled = true;
        self.blackbox.enabled = true;
    }
}

/// `[avr]`: AVR Core and its rebrand DSAI.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AvrConfig {
    /// Serves the platform on `POST /events` and `GET /instructions`.
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
    /// Serves the platform on `POST /blackbox`.
    enabled: bool,
    /// Secret headers that the platform is configured to send, as `Name: value`:
    /// `"Authorization: Bearer SECRET"`. A name may occur several times, for rotation: each of
    /// its values is valid.
    #[schemars(with = "Vec<String>")]
    headers: Vec<HeaderSecret>,
    /// Keys of the HMAC-SHA256 signature over the raw body. Each of them is valid, for
    /// rotation. The signature is hexadecimal, with or without the prefix `sha256=`.
    signing_secrets: Vec<Secret>,
    /// Header that contains the signature.
    #[serde(with = "header_name")]
    #[schemars(with = "String")]
    signature_header: HeaderName,
    /// Sets of credentials, of which a request must present one: `["signature",
    /// "authorization + x-api-key"]`. Empty: a request must present all that are configured.
    require: Vec<String>,
    /// Answer for a call that no plugin decides.
    fallback: Fallback,
    /// Prompt for the voice agent with `fallback = "accept"`, at most 64 KiB. None: the
    /// agent's own prompt.
    fallback_prompt: Option<String>,
    /// Reason with `fallback = "reject"`, at most 64 KiB. None: `No plugin accepts the call`.
    fallback_reason: Option<String>,
    /// Largest body of a request, at most 64 MiB. A larger one is rejected with 413. The
    /// report of a long call with its transcript has some MiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    max_body: usize,
    /// Time limit for the body of a request. A later one is rejected with 503. BlackBox
    /// requires the acknowledgement of an event within 5 s.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    body_timeout: Duration,
    /// Time limit for the answer to a tool call, from the arrival of the request. Set it
    /// slightly below the tool's time limit in BlackBox (1 s to 60 s).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    tool_timeout: Duration,
}

/// The value of the key; [`BlackBoxFallback`] includes the text that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    /// The voice agent takes the call.
    Accept,
    /// The call is rejected.
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
            return invalid("blackbox.max_body", format!("expected at most {MOST_BODY} bytes"));
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
                let message = "has no effect without blackbox.fallback = \"reject\"".to_owned();
                return invalid("blackbox.fallback_reason", message);
            }
            (Fallback::Reject, Some(_), _) => {
                let message = "has no effect without blackbox.fallback = \"accept\"".to_owned();
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

/// Serde of a header name, as text.
mod header_name {
    use super::*;
    use serde::{Deserializer, Serializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HeaderName, D::Error> {
        let name = String::deserialize(deserializer)?;
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| de::Error::custom(format!("{name:?} is not a valid header name")))
    }

    pub(super) fn serialize<S: Serializer>(
        name: &HeaderName,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }
}

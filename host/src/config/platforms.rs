//! What is configured for one platform alone.

use std::time::Duration;

use axum::http::HeaderName;
use serde::Deserialize;

use super::{ConfigError, Secret};
use crate::credentials::{Credentials, HeaderSecret};
use crate::units;

/// The largest body that can be asked for: it stands in memory several times over.
const MOST_BODY: usize = 64 << 20;

/// Longest text that stands in for a plugin's, in bytes: as for plugins' own prompts.
const MAX_TEXT: usize = 64 << 10;

/// `[avr]`: AVR Core, and its rebrand DSAI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AvrConfig {
    /// Whether it is served at all, on `/events`.
    pub enabled: bool,
}

impl AvrConfig {
    /// What keeps strangers out.
    pub(super) const SECRET: &str = "WEBHOOK_SECRET (or `secret`) for AVR";
}

impl Default for AvrConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[blackbox]`: Dasha BlackBox.
#[derive(Clone, Debug)]
pub struct BlackBoxConfig {
    /// Whether it is served, on `/blackbox`.
    pub enabled: bool,
    /// What it must show.
    pub credentials: Credentials,
    /// For calls that no plugin decides.
    pub fallback: BlackBoxFallback,
    /// Largest body in bytes.
    pub max_body: usize,
    /// For the body to arrive.
    pub body_timeout: Duration,
    /// For a tool to be answered.
    pub tool_timeout: Duration,
}

impl BlackBoxConfig {
    /// What keeps strangers out.
    pub(super) const SECRET: &str = "blackbox.headers or blackbox.signing_secrets for BlackBox";
}

/// What becomes of a call that no plugin decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlackBoxFallback {
    /// The agent takes it.
    Accept {
        /// What the agent is told, instead of what it is configured with.
        prompt: Option<String>,
    },
    /// It is not taken.
    Reject {
        /// Why.
        reason: String,
    },
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BlackBoxDocument {
    enabled: bool,
    /// Headers that the platform was told to send, as `Name: value`. A name that is
    /// there twice has two good values.
    headers: Vec<HeaderSecret>,
    /// Keys of the signature, any of which will do.
    signing_secrets: Vec<Secret>,
    /// Where the signature stands.
    #[serde(deserialize_with = "header_name")]
    signature_header: HeaderName,
    /// What must be shown, as sets of which one will do: `signature + x-api-key`.
    require: Vec<String>,
    fallback: Fallback,
    fallback_prompt: Option<String>,
    fallback_reason: Option<String>,
    #[serde(deserialize_with = "units::size")]
    max_body: usize,
    #[serde(deserialize_with = "units::duration")]
    body_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    tool_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    Accept,
    Reject,
}

impl Default for BlackBoxDocument {
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
            // It wants an answer within 5 s.
            body_timeout: Duration::from_secs(4),
            // What it waits for can be set there, from 1 s to 60 s.
            tool_timeout: Duration::from_secs(5),
        }
    }
}

impl BlackBoxDocument {
    /// The table, found good.
    pub(super) fn check(self) -> Result<BlackBoxConfig, ConfigError> {
        let wrong = |key, message: String| Err(ConfigError::Value { key, message });
        let signature = (!self.signing_secrets.is_empty())
            .then_some((self.signature_header, self.signing_secrets));
        let credentials = match Credentials::new(self.headers, signature, &self.require) {
            Ok(credentials) => credentials,
            Err(message) => return wrong("blackbox.require", message),
        };
        if self.max_body > MOST_BODY {
            return wrong("blackbox.max_body", format!("expected at most {MOST_BODY}"));
        }
        for (key, text) in [
            ("blackbox.fallback_prompt", &self.fallback_prompt),
            ("blackbox.fallback_reason", &self.fallback_reason),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
                return wrong(key, format!("expected at most {MAX_TEXT} bytes"));
            }
        }
        let fallback = match (self.fallback, self.fallback_prompt, self.fallback_reason) {
            (Fallback::Accept, prompt, None) => BlackBoxFallback::Accept { prompt },
            (Fallback::Reject, None, reason) => BlackBoxFallback::Reject {
                reason: reason.unwrap_or_else(|| "No plugin accepts the call".to_owned()),
            },
            (Fallback::Accept, _, Some(_)) => {
                let message = "it is for blackbox.fallback = \"reject\"".to_owned();
                return wrong("blackbox.fallback_reason", message);
            }
            (Fallback::Reject, Some(_), _) => {
                let message = "it is for blackbox.fallback = \"accept\"".to_owned();
                return wrong("blackbox.fallback_prompt", message);
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

fn header_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let name = String::deserialize(deserializer)?;
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| serde::de::Error::custom(format!("{name:?} is no name of a header")))
}

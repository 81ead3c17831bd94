//! The call that a hook receives.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// One phone call.
///
/// The host creates it for a plugin. A test creates it with [`Call::new`] and the
/// methods that begin with `with_`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub(crate) id: String,
    pub(crate) platform: String,
    pub(crate) agent: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Call {
    /// Returns the platform's id of the call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the platform of the call: `avr`, `dsai` or `blackbox`.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// Returns the voice agent of the call, if the platform names it.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// Returns the caller ID as sent: a number, `anonymous`, empty, or any text that the
    /// caller chose. Do not trust it.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// Returns the dialled number or extension.
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Returns the names of the other fields that the platform sent.
    pub fn metadata_names(&self) -> impl Iterator<Item = &str> {
        self.metadata.iter().map(|(name, _)| name.as_str())
    }

    /// Returns a metadata value as JSON, as the platform sent it. A string has its
    /// quotes.
    pub fn metadata_json(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(key, _)| key == name).map(|(_, json)| json.as_str())
    }

    /// Returns a metadata value as a `T`: `call.metadata::<bool>("recording")?`. None if
    /// the value is missing or `null`.
    ///
    /// # Errors
    ///
    /// If the value cannot be read as a `T`. The message names the field, not the value.
    pub fn metadata<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(json) = self.metadata_json(name) else { return Ok(None) };
        // Without serde's message, which quotes the value: it can be a caller's number,
        // and the host logs errors.
        serde_json::from_str(json).map_err(|_| {
            Error::new(format_args!(
                "metadata `{name}` does not match the type {}",
                std::any::type_name::<T>()
            ))
        })
    }

    /// Creates a call for a test, on the platform `avr`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), platform: "avr".to_owned(), ..Self::default() }
    }

    /// Sets the platform of the call.
    #[must_use]
    pub fn with_platform(self, platform: impl Into<String>) -> Self {
        Self { platform: platform.into(), ..self }
    }

    /// Sets the voice agent of the call.
    #[must_use]
    pub fn with_agent(self, agent: impl Into<String>) -> Self {
        Self { agent: Some(agent.into()), ..self }
    }

    /// Sets the caller ID of the call.
    #[must_use]
    pub fn with_from(self, from: impl Into<String>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// Sets the dialled number of the call.
    #[must_use]
    pub fn with_to(self, to: impl Into<String>) -> Self {
        Self { to: Some(to.into()), ..self }
    }

    /// Adds a metadata value: any type that converts to a [`serde_json::Value`].
    #[must_use]
    pub fn with_metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.metadata.push((name.into(), value.into().to_string()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_as_requested_type() {
        let call = Call::new("1").with_metadata("recording", false).with_metadata("n", "PJSIP/1");
        assert_eq!(call.metadata::<bool>("recording").unwrap(), Some(false));
        assert_eq!(call.metadata::<String>("n").unwrap().as_deref(), Some("PJSIP/1"));
        assert_eq!(call.metadata::<String>("missing").unwrap(), None);
        let error = call.metadata::<u32>("n").unwrap_err().to_string();
        assert_eq!(error, "metadata `n` does not match the type u32");
    }
}

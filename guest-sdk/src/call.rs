//! The call that a plugin is asked about.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// One phone call.
///
/// In a plugin, the host makes it; in a test, [`Call::new`] and the methods
/// named `with_` do.
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
    /// The platform's name for the call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who asks: `avr`, `dsai` or `blackbox`.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// The voice agent that the platform uses for the call, where it says.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// Who calls: raw caller ID, which can be empty, `anonymous`, or any text
    /// that a caller chose to send.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// The number or extension that was dialled.
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// The names of what else the platform told.
    pub fn metadata_names(&self) -> impl Iterator<Item = &str> {
        self.metadata.iter().map(|(name, _)| name.as_str())
    }

    /// A metadata value as it was sent: JSON, so a string has its quotes.
    pub fn metadata_json(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(key, _)| key == name).map(|(_, json)| json.as_str())
    }

    /// A metadata value as `T`: `call.metadata::<bool>("recording")?`. None when
    /// the call does not have it, or has it as `null`.
    ///
    /// # Errors
    ///
    /// When the value is something else than `T`.
    pub fn metadata<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(json) = self.metadata_json(name) else { return Ok(None) };
        // Not serde's message, which quotes the value: it may be a caller's number,
        // and errors stand in the log.
        serde_json::from_str(json).map_err(|_| {
            Error::new(format_args!("metadata `{name}` is no {}", std::any::type_name::<T>()))
        })
    }

    /// A call for a test, on platform `avr`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), platform: "avr".to_owned(), ..Self::default() }
    }

    /// The same call from this platform.
    #[must_use]
    pub fn with_platform(self, platform: impl Into<String>) -> Self {
        Self { platform: platform.into(), ..self }
    }

    /// The same call with this agent.
    #[must_use]
    pub fn with_agent(self, agent: impl Into<String>) -> Self {
        Self { agent: Some(agent.into()), ..self }
    }

    /// The same call from this caller.
    #[must_use]
    pub fn with_from(self, from: impl Into<String>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// The same call to this number.
    #[must_use]
    pub fn with_to(self, to: impl Into<String>) -> Self {
        Self { to: Some(to.into()), ..self }
    }

    /// The same call with one more metadata value: anything that makes a
    /// [`serde_json::Value`].
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
    fn metadata_is_read_as_what_it_should_be() {
        let call = Call::new("1").with_metadata("recording", false).with_metadata("n", "PJSIP/1");
        assert_eq!(call.metadata::<bool>("recording").unwrap(), Some(false));
        assert_eq!(call.metadata::<String>("n").unwrap().as_deref(), Some("PJSIP/1"));
        assert_eq!(call.metadata::<String>("nothing").unwrap(), None);
        let error = call.metadata::<u32>("n").unwrap_err().to_string();
        assert_eq!(error, "metadata `n` is no u32");
    }
}

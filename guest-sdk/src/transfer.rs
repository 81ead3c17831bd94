//! Transfers that the platform asks about. The platform defines the format of its document
//! and of the answer; both are passed unchanged.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The platform's request about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    pub(crate) json: String,
}

impl TransferRequest {
    /// Returns the platform's document as unchanged JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Deserializes the platform's document.
    ///
    /// # Errors
    ///
    /// If the document does not match `T`. The message does not quote its values.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        // Without serde's message, which quotes the value.
        serde_json::from_str(&self.json).map_err(|_| {
            Error::new(format_args!(
                "the transfer request does not match the type {}",
                std::any::type_name::<T>()
            ))
        })
    }
}

/// The answer to the platform about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer has no effect unless it is returned"]
pub struct TransferAnswer {
    pub(crate) json: String,
}

impl TransferAnswer {
    /// Creates an answer by serializing a value as JSON.
    ///
    /// # Errors
    ///
    /// If the value cannot be serialized as JSON.
    pub fn new(answer: &impl Serialize) -> Result<Self> {
        // Without serde's message, which can quote the value.
        let json = serde_json::to_string(answer)
            .map_err(|_| Error::new("the answer to the transfer cannot be serialized as JSON"))?;
        Ok(Self { json })
    }

    /// Creates an answer from JSON text. Text that is not JSON counts as a failure of the
    /// plugin.
    pub fn raw(json: impl Into<String>) -> Self {
        Self { json: json.into() }
    }

    /// Returns the answer as JSON.
    pub fn json(&self) -> &str {
        &self.json
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn request_is_parsed_without_quoting_values() {
        let request = TransferRequest { json: r#"{ "to": "391" }"#.to_owned() };
        assert_eq!(request.json(), r#"{ "to": "391" }"#);
        let fields: BTreeMap<String, String> = request.parse().unwrap();
        assert_eq!(fields["to"], "391");
        let error = request.parse::<BTreeMap<String, u8>>().unwrap_err().to_string();
        assert!(error.starts_with("the transfer request does not match the type "), "{error}");
        assert!(!error.contains("391"), "{error}");
    }

    #[test]
    fn answer_is_json() {
        assert_eq!(TransferAnswer::new(&[1, 2]).unwrap().json(), "[1,2]");
        assert_eq!(TransferAnswer::raw("[1, 2]").json(), "[1, 2]");
        let error = TransferAnswer::new(&BTreeMap::from([((1, 2), 3)])).unwrap_err().to_string();
        assert_eq!(error, "the answer to the transfer cannot be serialized as JSON");
    }
}

//! A transfer that the platform asks about. What stands in its document, and in
//! the answer, is the platform's own: both are passed as they are.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What the platform says about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    pub(crate) json: String,
}

impl TransferRequest {
    /// The platform's document: JSON, untouched.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The platform's document as a `T`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        // Not serde's message, which quotes the value.
        serde_json::from_str(&self.json).map_err(|_| {
            Error::new(format_args!("the transfer request is no {}", std::any::type_name::<T>()))
        })
    }
}

/// What the platform is answered about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer counts when it is returned"]
pub struct TransferAnswer {
    pub(crate) json: String,
}

impl TransferAnswer {
    /// An answer, written as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON.
    pub fn new(answer: &impl Serialize) -> Result<Self> {
        // Not serde's message, which may quote the value.
        let json = serde_json::to_string(answer)
            .map_err(|_| Error::new("the answer to the transfer cannot be written as JSON"))?;
        Ok(Self { json })
    }

    /// An answer that is JSON already. Text that is none counts as a failure of the
    /// plugin.
    pub fn raw(json: impl Into<String>) -> Self {
        Self { json: json.into() }
    }

    /// The answer as JSON.
    pub fn json(&self) -> &str {
        &self.json
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_request_is_read_as_what_it_should_be() {
        let request = TransferRequest { json: r#"{ "to": "391" }"#.to_owned() };
        assert_eq!(request.json(), r#"{ "to": "391" }"#);
        let fields: BTreeMap<String, String> = request.parse().unwrap();
        assert_eq!(fields["to"], "391");
        let error = request.parse::<BTreeMap<String, u8>>().unwrap_err().to_string();
        assert!(error.starts_with("the transfer request is no "), "{error}");
        assert!(!error.contains("391"), "{error}");
    }

    #[test]
    fn an_answer_is_json() {
        assert_eq!(TransferAnswer::new(&[1, 2]).unwrap().json(), "[1,2]");
        assert_eq!(TransferAnswer::raw("[1, 2]").json(), "[1, 2]");
        let error = TransferAnswer::new(&BTreeMap::from([((1, 2), 3)])).unwrap_err().to_string();
        assert_eq!(error, "the answer to the transfer cannot be written as JSON");
    }
}

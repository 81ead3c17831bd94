//! The calls that an operator selects for erasure.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use thiserror::Error as ThisError;

use crate::call::Call;
use crate::call_id::CallId;
use crate::platforms::{self, Platform};

/// An id, and optionally a platform family, that selects calls. The type has no `Display`,
/// because the id is untrusted text.
#[derive(Clone, Debug)]
pub struct CallSelector {
    id: Arc<str>,
    /// The selected platform family. `None`: every family.
    family: Option<&'static str>,
}

/// The reason why a [`CallSelector`] is invalid.
#[derive(Debug, ThisError)]
pub enum InvalidCallSelector {
    /// The id is empty, and would select every call.
    #[error("the call's id is empty")]
    EmptyId,
    /// The platform is unknown.
    #[error("platform: {0}")]
    UnknownPlatform(Error),
}

impl CallSelector {
    /// Creates a selector of the calls with this id, of the family of `platform` or of every
    /// family.
    ///
    /// # Errors
    ///
    /// Fails if the id is empty or the platform is unknown.
    pub fn new(id: &str, platform: Option<&str>) -> Result<Self, InvalidCallSelector> {
        if id.is_empty() {
            return Err(InvalidCallSelector::EmptyId);
        }
        let family = |name: &str| {
            let name: StrDeserializer<'_, Error> = name.into_deserializer();
            Platform::deserialize(name).map(|platform| platform.family)
        };
        let family =
            platform.map(family).transpose().map_err(InvalidCallSelector::UnknownPlatform)?;
        Ok(Self { id: id.into(), family })
    }

    /// Returns the platform's id for the call.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns the selected platform family. `None`: every family.
    pub fn family(&self) -> Option<&'static str> {
        self.family
    }

    /// Returns whether the selector selects this call.
    pub fn matches(&self, call: &Call) -> bool {
        self.matches_parts(call.platform.family, &call.id)
    }

    /// Returns whether the selector selects the call with this identity.
    pub fn matches_id(&self, id: &CallId) -> bool {
        self.matches_parts(id.family(), id.id())
    }

    fn matches_parts(&self, family: &str, id: &str) -> bool {
        *self.id == *id && self.family.is_none_or(|selected| selected == family)
    }

    /// Returns the selected identities among the platforms of this version. An identity occurs
    /// once for each platform of its family.
    pub fn call_ids(&self) -> impl Iterator<Item = CallId> {
        let platforms = platforms::all()
            .iter()
            .filter(|platform| self.family.is_none_or(|selected| selected == platform.family));
        platforms.map(|platform| CallId::new(*platform, Arc::clone(&self.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::call;

    #[test]
    fn call_selector_matches_all_brands_of_a_platform() {
        let mut fixture_call = call("1", "2", "{}");
        fixture_call.id = "a".into();
        let matches =
            |id, platform| CallSelector::new(id, platform).unwrap().matches(&fixture_call);
        assert!(matches("a", None) && matches("a", Some("avr")) && matches("a", Some("dsai")));
        assert!(!matches("a", Some("blackbox")) && !matches("b", None));
        let error_text = |id, platform| CallSelector::new(id, platform).unwrap_err().to_string();
        assert_eq!(error_text("", None), "the call's id is empty");
        let unknown = error_text("a", Some("nonesuch"));
        assert!(unknown.contains("`nonesuch`") && unknown.contains("`avr`"), "{unknown}");
    }
}

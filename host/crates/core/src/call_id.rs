//! The identity of a call.

use std::sync::Arc;

use crate::platforms::Platform;

/// The identity of a call: the family of its platform, and the platform's id for the call.
///
/// The requests of all platforms in a family are mixed within a call. Cloning copies no text.
/// The type has no `Debug` and no `Display`, because the id is untrusted text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallId {
    family: &'static str,
    id: Arc<str>,
}

impl CallId {
    /// Returns the identity of the call that `platform` knows by `id`.
    pub fn new(platform: Platform, id: impl Into<Arc<str>>) -> Self {
        Self { family: platform.family, id: id.into() }
    }

    /// Returns the [family](crate::platforms::PlatformInfo::family) of the call's platform.
    pub fn family(&self) -> &'static str {
        self.family
    }

    /// Returns the platform's id for the call.
    pub fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platforms::{AVR, BLACKBOX, DSAI};

    #[test]
    fn call_id_is_shared_within_a_platform_family() {
        let id = CallId::new(AVR, "a");
        assert!(id == CallId::new(DSAI, "a"));
        assert!(id != CallId::new(BLACKBOX, "a") && id != CallId::new(AVR, "b"));
    }
}

//! Whose traces are to be erased, and what came of it.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use thiserror::Error as ThisError;

use super::{Seq, Stored};
use crate::event::{Call, Platform};

/// A call whose traces are to be erased. No `Display`: it comes from a caller.
#[derive(Clone, Debug)]
pub struct CallName {
    id: Arc<str>,
    /// Of its platform; None: whichever.
    family: Option<&'static str>,
}

/// Why there is no such call.
#[derive(Debug, ThisError)]
pub enum NoSuchCall {
    /// Everything would be meant.
    #[error("the call's id is empty")]
    Empty,
    /// The platform is none of ours.
    #[error("platform: {0}")]
    Platform(Error),
}

impl CallName {
    /// A call by the platform's name for it; of every platform that has such a call,
    /// unless one is named. Those that are brands of one another count as one.
    ///
    /// # Errors
    ///
    /// When the id is empty, or the platform's name is none.
    pub fn new(id: &str, platform: Option<&str>) -> Result<Self, NoSuchCall> {
        if id.is_empty() {
            return Err(NoSuchCall::Empty);
        }
        let family = |name: &str| {
            let name: StrDeserializer<'_, Error> = name.into_deserializer();
            Platform::deserialize(name).map(|platform| platform.family)
        };
        let family = platform.map(family).transpose().map_err(NoSuchCall::Platform)?;
        Ok(Self { id: id.into(), family })
    }

    /// The platform's name for it.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The family of platforms that is meant, if not all.
    pub fn family(&self) -> Option<&'static str> {
        self.family
    }

    /// Whether this call is meant.
    pub fn means(&self, call: &Call) -> bool {
        self.is(&call.id, call.platform)
    }

    /// Whether the call that this platform calls so is meant.
    pub fn is(&self, id: &str, platform: Platform) -> bool {
        *self.id == *id && self.family.is_none_or(|family| family == platform.family)
    }
}

/// How far an erasure reached into the journal: what came later is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Every event up to here.
    pub up_to: Seq,
    /// Up to here what was appended once more from dead letters, which is not new.
    pub revived_up_to: Seq,
}

impl Reach {
    /// Whether an event of the call is among what was erased.
    pub fn has(&self, event: &Stored) -> bool {
        event.seq <= self.up_to || (event.only.is_some() && event.seq <= self.revived_up_to)
    }
}

/// What was erased.
#[derive(Clone, Copy, Debug)]
pub struct Erased {
    /// Events of the journal.
    pub events: u64,
    /// Dead letters, with their events.
    pub dead: u64,
    /// Calls of this name that were remembered.
    pub calls: u64,
    /// How far it reached.
    pub reach: Reach,
}

impl Erased {
    /// With what a later erasure of the same call found.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            events: self.events + later.events,
            dead: self.dead + later.dead,
            calls: self.calls.max(later.calls),
            reach: later.reach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::call;

    #[test]
    fn brands_are_one_platform_and_others_are_not() {
        let mut it = call("1", "2", "{}");
        it.id = "a".to_owned();
        let means = |id, platform| CallName::new(id, platform).unwrap().means(&it);
        assert!(means("a", None) && means("a", Some("avr")) && means("a", Some("dsai")));
        assert!(!means("a", Some("blackbox")) && !means("b", None));
        let refused = |id, platform| CallName::new(id, platform).unwrap_err().to_string();
        assert_eq!(refused("", None), "the call's id is empty");
        let unknown = refused("a", Some("nonesuch"));
        assert!(unknown.contains("`nonesuch`") && unknown.contains("`avr`"), "{unknown}");
    }
}

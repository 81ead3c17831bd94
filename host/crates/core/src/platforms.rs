//! The voice platforms and their properties.
//!
//! Code other than a platform's adapter asks for a property of the platform, never which platform
//! it is.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A platform that posts webhooks, one of [`all`].
#[derive(Clone, Copy)]
pub struct Platform(&'static PlatformInfo);

/// The properties of a platform that matter outside of its adapter.
#[derive(Debug)]
pub struct PlatformInfo {
    /// The name in settings, in the contract with plugins and in logs.
    pub name: &'static str,
    /// The name that the brands of one platform share. The headers of all brands are mixed
    /// within a call. The name is part of stored identities of calls and events, so it must not
    /// change.
    pub family: &'static str,
    /// True if the platform accepts the URL of a speech-to-speech service. A platform with its
    /// own agent does not. Its templates are not filled, so a template that names a missing
    /// field does not fail, and one plugin serves both kinds of platforms.
    pub accepts_sts_url: bool,
    /// True if the platform supports rejections. Otherwise, calls are routed to
    /// `reject_sts_url`, and a rejection without it is logged as a warning.
    pub can_reject: bool,
    /// True if voice agents fetch the prompt of a call after the decision. Prompts of other
    /// platforms are not stored.
    pub fetches_prompt: bool,
    /// True if the platform requests tools or transfers during a call. The start of its calls
    /// is then stored for plugins with these hooks, also when no plugin observes events.
    pub supports_mid_call: bool,
    /// The time for which the platform retries a delivery that was not acknowledged. A repeated
    /// tool request within this time gets the first answer.
    pub redelivery_window: Duration,
}

impl Platform {
    /// Creates the platform with these properties.
    pub const fn new(info: &'static PlatformInfo) -> Self {
        Self(info)
    }
}

impl std::ops::Deref for Platform {
    type Target = PlatformInfo;

    fn deref(&self) -> &PlatformInfo {
        self.0
    }
}

impl PartialEq for Platform {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Platform {}

impl std::hash::Hash for Platform {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl JsonSchema for Platform {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = all().iter().map(|platform| platform.name).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static NAMES: OnceLock<Vec<&str>> = OnceLock::new();
        let names = || NAMES.get_or_init(|| all().iter().map(|platform| platform.name).collect());
        let name = Cow::<str>::deserialize(deserializer)?;
        let platform = all().iter().find(|platform| platform.name == name).copied();
        platform.ok_or_else(|| de::Error::unknown_variant(&name, names()))
    }
}

/// Agent Voice Response Core.
pub const AVR: Platform = Platform::new(&PlatformInfo { name: "avr", ..AVR_FAMILY });

/// DSAI Core, a rebrand of AVR.
pub const DSAI: Platform = Platform::new(&PlatformInfo { name: "dsai", ..AVR_FAMILY });

const AVR_FAMILY: PlatformInfo = PlatformInfo {
    name: "",
    family: "avr",
    accepts_sts_url: true,
    can_reject: false,
    fetches_prompt: true,
    supports_mid_call: false,
    // AVR retries at once, if at all (WEBHOOK_RETRY), and each attempt takes WEBHOOK_TIMEOUT at
    // most.
    redelivery_window: Duration::from_secs(30),
};

/// The Dasha BlackBox platform.
pub const BLACKBOX: Platform = Platform::new(&PlatformInfo {
    name: "blackbox",
    family: "blackbox",
    accepts_sts_url: false,
    can_reject: true,
    fetches_prompt: false,
    supports_mid_call: true,
    // BlackBox retries after 5, 25, 125, 625 and 3,125 s.
    redelivery_window: Duration::from_secs(3_905),
});

/// The platforms that this version supports.
const SUPPORTED: [Platform; 3] = [AVR, DSAI, BLACKBOX];

static ALL: OnceLock<Vec<Platform>> = OnceLock::new();

/// Returns all platforms of this process: those that this version supports, and those of [`add`].
pub fn all() -> &'static [Platform] {
    ALL.get_or_init(|| SUPPORTED.to_vec())
}

/// Adds platforms of a program that embeds the server with adapters of its own.
///
/// # Errors
///
/// Fails after the first use of [`all`], for example by a configuration that was read, because
/// the list of a process must not change.
pub fn add(platforms: &[Platform]) -> Result<(), PlatformsInUse> {
    ALL.set([&SUPPORTED, platforms].concat()).map_err(|_| PlatformsInUse)
}

/// Platforms were added too late.
#[derive(Debug, thiserror::Error)]
#[error("the list of platforms is already in use; add platforms before anything else is done")]
pub struct PlatformsInUse;

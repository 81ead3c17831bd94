//! The voice platforms: what everything but their adapters must know of them.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Who calls us: one of [`PLATFORMS`].
#[derive(Clone, Copy)]
pub struct Platform(&'static PlatformInfo);

/// What everybody but its dialect has to know of a platform.
#[derive(Debug)]
pub struct PlatformInfo {
    /// The name in settings, in the contract and in logs.
    pub name: &'static str,
    /// The name that platforms share which are brands of one another: their
    /// headers are mixed within a call.
    pub family: &'static str,
    /// Whether it asks for a speech-to-speech service's URL. If not, it has an agent
    /// of its own, and a route's URL means nothing to it.
    pub accepts_sts_url: bool,
    /// Whether it can be told not to take a call.
    pub can_reject: bool,
    /// Whether its voice agents ask for the prompt of a call, after it was decided.
    pub fetches_prompt: bool,
    /// Whether it comes back in the middle of a call, to have a tool answered or a
    /// transfer decided: what is known of the call is then needed once more.
    pub supports_mid_call: bool,
    /// For how long it goes on trying to deliver what was not taken.
    pub redelivery_window: Duration,
}

impl Platform {
    /// The platform of these traits.
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
        let names: Vec<&str> = PLATFORMS.iter().map(|platform| platform.name).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static NAMES: LazyLock<Vec<&str>> =
            LazyLock::new(|| PLATFORMS.iter().map(|platform| platform.name).collect());
        let name = Cow::<str>::deserialize(deserializer)?;
        let platform = PLATFORMS.iter().find(|platform| platform.name == name).copied();
        platform.ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
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
    // At once, if at all (WEBHOOK_RETRY), within WEBHOOK_TIMEOUT each.
    redelivery_window: Duration::from_secs(30),
};

/// Dasha BlackBox.
pub const BLACKBOX: Platform = Platform::new(&PlatformInfo {
    name: "blackbox",
    family: "blackbox",
    accepts_sts_url: false,
    can_reject: true,
    fetches_prompt: false,
    supports_mid_call: true,
    // After 5, 25, 125, 625 and 3,125 s.
    redelivery_window: Duration::from_secs(3_905),
});

/// A platform for tests of what a new one needs.
#[cfg(feature = "toy-platform")]
pub const TOY: Platform = Platform::new(&PlatformInfo {
    name: "toy",
    family: "toy",
    accepts_sts_url: true,
    can_reject: true,
    fetches_prompt: false,
    supports_mid_call: false,
    redelivery_window: Duration::ZERO,
});

/// Every platform.
pub const PLATFORMS: &[Platform] = &[
    AVR,
    DSAI,
    BLACKBOX,
    #[cfg(feature = "toy-platform")]
    TOY,
];

//! The tables of the configuration, each with its defaults.

use std::time::Duration;

use serde::Deserialize;

use crate::units;

/// `[limits]`: bounds of the service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// From a decision request's head to its answer. AVR gives up after 3 s
    /// (`WEBHOOK_TIMEOUT`), so 2 s leave a third for the network.
    #[serde(deserialize_with = "units::duration")]
    pub budget: Duration,
    /// Largest body. AVR's events are below 10 KiB.
    #[serde(deserialize_with = "units::size")]
    pub body: usize,
    /// Open connections, webhook listener; more wait in the backlog.
    pub connections: usize,
    /// For the head of a request to arrive, and the longest a kept-alive
    /// connection may idle.
    #[serde(deserialize_with = "units::duration")]
    pub header_timeout: Duration,
    /// For the body of a request to arrive.
    #[serde(deserialize_with = "units::duration")]
    pub body_timeout: Duration,
    /// For requests in flight to be answered after SIGTERM.
    #[serde(deserialize_with = "units::duration")]
    pub shutdown: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(2),
            body: 1 << 20,
            connections: 10_000,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(2),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// `[plugin_limits]`: what a plugin gets when its own `[limits]` say nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// For one call of one hook, by the clock on the wall.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Linear memory of one instance, all its memories together.
    #[serde(deserialize_with = "units::size")]
    pub memory: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        // A decision without I/O takes microseconds; 250 ms leave room for a
        // lookup, and for eight plugins in the budget of one call.
        Self { timeout: Duration::from_millis(250), memory: 32 << 20 }
    }
}

/// `[engine]`: the WebAssembly engine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Instances at the same time; more calls wait, within their budget.
    pub instances: u32,
    /// The most memory that any plugin's settings may ask for.
    #[serde(deserialize_with = "units::size")]
    pub max_memory: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { instances: 200, max_memory: 256 << 20 }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or such a level for a part
    /// of the program: `info,plugboard::plugin=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text each.
    Human,
    /// A JSON object each.
    Json,
}

/// `[reload]`: how changes of the plugin folder are noticed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the system is asked to tell of changes. Without it, and where it
    /// cannot (network file systems), they are found by looking.
    pub watch: bool,
    /// How long the folder must have been quiet before it is read: whoever copies
    /// a plugin and its settings has that long between the two.
    #[serde(deserialize_with = "units::duration")]
    pub debounce: Duration,
    /// How often to look in any case.
    #[serde(deserialize_with = "units::duration")]
    pub poll: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { watch: true, debounce: Duration::from_millis(200), poll: Duration::from_secs(5) }
    }
}

/// `[cache]`: verdicts that are used again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Whether verdicts are kept for other calls, as far as plugins allow.
    pub enabled: bool,
    /// Memory for them.
    #[serde(deserialize_with = "units::size")]
    pub size: usize,
    /// The longest that one is used, whatever its plugin says.
    #[serde(deserialize_with = "units::duration")]
    pub max_ttl: Duration,
    /// How long an answer is kept for the same delivery to come again. Zero:
    /// plugins are asked again.
    #[serde(deserialize_with = "units::duration_or_none")]
    pub deliveries: Option<Duration>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            size: 64 << 20,
            max_ttl: Duration::from_secs(5 * 60),
            // Longer than any platform goes on trying to deliver.
            deliveries: Some(Duration::from_secs(60)),
        }
    }
}

/// `[breaker]`: when a plugin that keeps failing is set aside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// After so many failures... (Zero: never.)
    pub failures: u32,
    /// ...within this time.
    #[serde(deserialize_with = "units::duration")]
    pub window: Duration,
    /// How long it is not asked, before one call tries it again.
    #[serde(deserialize_with = "units::duration")]
    pub pause: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 10, window: Duration::from_secs(30), pause: Duration::from_secs(5) }
    }
}

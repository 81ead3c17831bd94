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
    /// For one decision, by the clock on the wall.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// For one event: nobody waits for it, and it may be told to a slow service.
    #[serde(deserialize_with = "units::duration")]
    pub event_timeout: Duration,
    /// For one use of a tool: the caller listens to silence, but the agent may say
    /// that it is looking something up.
    #[serde(deserialize_with = "units::duration")]
    pub tool_timeout: Duration,
    /// Linear memory of one instance, all its memories together.
    #[serde(deserialize_with = "units::size")]
    pub memory: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        // A decision without I/O takes microseconds; 250 ms leave room for a
        // lookup, and for eight plugins in the budget of one call.
        Self {
            timeout: Duration::from_millis(250),
            event_timeout: Duration::from_secs(5),
            // So that another plugin has time when one is too slow (blackbox.tool_timeout).
            tool_timeout: Duration::from_secs(2),
            memory: 32 << 20,
        }
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
            // Longer than anybody waits for an answer. Who reports what is over tries for
            // longer, and is recognised by the journal.
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

/// `[journal]`: events that were taken and not yet told to every observer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// What a sender's acknowledgement waits for.
    pub sync: Durability,
    /// How long an event stays when every observer has had it; for as long, and among
    /// the last 500,000 events, a delivery that comes again is recognised. An observer whose plugin is gone for
    /// longer is forgotten.
    #[serde(deserialize_with = "units::duration")]
    pub keep: Duration,
    /// How long an event waits for an observer that cannot take it; dead letters
    /// stay as long.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    /// Bytes of events and dead letters, beyond which no event is taken.
    #[serde(deserialize_with = "units::size")]
    pub max_size: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            sync: Durability::Full,
            // BlackBox goes on trying to deliver for 65 minutes.
            keep: Duration::from_secs(2 * 60 * 60),
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            // Some ten million events.
            max_size: 4 << 30,
        }
    }
}

/// When something counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the disk has it.
    Full,
    /// When the system has it: the loss of power can cost the last moments.
    Normal,
}

/// `[events]`: telling observers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events that one observer is told at the same time, of different calls. All
    /// observers together never take more than half of `engine.instances`.
    pub concurrency: usize,
    /// After so many failures an event is a dead letter of the observer.
    pub attempts: u32,
    /// Before the second attempt; doubled for each further one.
    #[serde(deserialize_with = "units::duration")]
    pub backoff: Duration,
    /// The longest wait between two attempts.
    #[serde(deserialize_with = "units::duration")]
    pub max_backoff: Duration,
}

impl Default for EventsConfig {
    fn default() -> Self {
        // Some three minutes in all: a service that is restarted is back by then.
        Self {
            concurrency: 8,
            attempts: 10,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
        }
    }
}

/// `[calls]`: what is remembered of calls, as platforms tell it only once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// How long after the end of a call.
    #[serde(deserialize_with = "units::duration")]
    pub keep: Duration,
    /// How long when no end is told.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self { keep: Duration::from_secs(10 * 60), max_age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// `[kv]`: the values that plugins keep.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KvConfig {
    /// Longest key, in bytes.
    #[serde(deserialize_with = "units::size")]
    pub max_key: usize,
    /// Longest value, in bytes.
    #[serde(deserialize_with = "units::size")]
    pub max_value: usize,
    /// All keys and values of one plugin, in bytes.
    #[serde(deserialize_with = "units::size")]
    pub max_total: usize,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self { max_key: 512, max_value: 64 << 10, max_total: 16 << 20 }
    }
}

/// `[http]`: requests of plugins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// For a whole exchange; never longer than what is left of the plugin's time.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Largest request, headers included.
    #[serde(deserialize_with = "units::size")]
    pub max_request: usize,
    /// Largest response, headers included.
    #[serde(deserialize_with = "units::size")]
    pub max_response: usize,
    /// Requests of one plugin at the same time.
    pub concurrency: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            // What a guest may pass at once.
            max_request: 512 << 10,
            max_response: 512 << 10,
            concurrency: 16,
        }
    }
}

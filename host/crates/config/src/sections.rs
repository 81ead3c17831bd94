//! The tables of the configuration that need no validation of their own, with their defaults.
//!
//! The doc comments of the fields become the descriptions in the JSON schema and in
//! `docs/reference/configuration.md`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use plugboard_core::units;

/// `[limits]`: bounds of the service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// From a request to its answer, of decisions and transfers. AVR gives up after 3 s
    /// (`WEBHOOK_TIMEOUT`), so 2 s leave a third for the network.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub budget: Duration,
    /// Largest body of AVR. Its events are below 10 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub body: usize,
    /// Open connections to the webhook listener, at most 1,000,000; more wait until one is
    /// closed.
    pub connections: usize,
    /// For the head of a request to arrive; also for a handshake, an idle connection, and
    /// an answer that is not taken.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub header_timeout: Duration,
    /// For a body of AVR to arrive.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub body_timeout: Duration,
    /// For calls in flight to be answered after SIGTERM, then for events that are being
    /// told.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// For one decision, or a say in a transfer, by the clock on the wall.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// For one event: nobody waits for it, and it may be told to a slow service.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub event_timeout: Duration,
    /// For one use of a tool: the caller listens to silence, but the agent may say that it
    /// is looking something up.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub tool_timeout: Duration,
    /// Memory of one instance. At most `engine.max_memory`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Plugins that run at the same time, at most 10,000; more calls wait, within their
    /// budget. Events have half of them at most, tools and transfers a quarter.
    pub instances: u32,
    /// The most that a plugin's `limits.memory` may ask for; 4 GiB at the most.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_memory: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { instances: 200, max_memory: 256 << 20 }
    }
}

/// `[log]`: what is written to standard error. Callers' numbers are never logged by Plugboard
/// itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or such a level for a part of the
    /// program: `info,plugboard_runtime::plugin=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text each.
    Human,
    /// A JSON object each.
    Json,
}

/// `[reload]`: how changes of the plugin folder are noticed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Whether the system is asked to tell of changes. Without it, and where it cannot
    /// (network file systems), they are found by looking.
    pub watch: bool,
    /// How long the folder must have been quiet before it is read: whoever copies a plugin
    /// and its settings has that long between the two.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub debounce: Duration,
    /// How often to look in any case, also at the files of the certificate.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub poll: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { watch: true, debounce: Duration::from_millis(200), poll: Duration::from_secs(5) }
    }
}

/// `[cache]`: decisions that are used again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Whether decisions are kept for other calls, as far as plugins allow.
    pub enabled: bool,
    /// Memory for decisions. Tools' results have 16 MiB beside it.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub size: usize,
    /// The longest that a decision or a tool's result is used, whatever its plugin says.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_ttl: Duration,
    /// How long the same delivery gets the same answer, of the last 28,000 decisions, 3,500
    /// tools and as many transfers. `0s`: plugins are asked again.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationText")]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// A plugin is set aside that failed so often within `breaker.window`, and at least
    /// every second time. `0`: never. At most 10,000.
    pub failures: u32,
    /// The time in which failures are counted.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub window: Duration,
    /// How long it is not asked, before one call tries it again.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub pause: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 10, window: Duration::from_secs(30), pause: Duration::from_secs(5) }
    }
}

/// `[journal]`: events that were taken and not yet told to every observer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// What a sender's acknowledgement waits for.
    pub sync: Durability,
    /// How long an event stays when every observer has had it; for as long, and among the
    /// last 500,000 events, a delivery that comes again is recognised. An observer whose
    /// plugin is gone for longer is forgotten.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub keep: Duration,
    /// How long an event waits for an observer that cannot take it; dead letters stay as
    /// long.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_age: Duration,
    /// Bytes of events and dead letters, beyond which no event is taken.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Until the disk has the event.
    Full,
    /// Until the system has it: a loss of power (not a crash) can cost the last moments.
    Normal,
}

/// `[events]`: telling observers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events that one observer is told at the same time, of different calls. All observers
    /// together never take more than half of `engine.instances`.
    pub concurrency: usize,
    /// After so many failures an event is a dead letter of the observer.
    pub attempts: u32,
    /// Before the second attempt; doubled for each further one.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub backoff: Duration,
    /// The longest wait between two attempts.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// How long after the end of a call.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub keep: Duration,
    /// How long when no end is told.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_age: Duration,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self { keep: Duration::from_secs(10 * 60), max_age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// `[kv]`: the values that plugins keep.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvConfig {
    /// Longest key.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_key: usize,
    /// Longest value; 768 KiB at the most.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_value: usize,
    /// All keys and values of one plugin.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_total: usize,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self { max_key: 512, max_value: 64 << 10, max_total: 16 << 20 }
    }
}

/// `[http]`: requests of plugins.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// For a whole exchange; never longer than what is left of the plugin's own time.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Largest request, headers included; 768 KiB at the most.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_request: usize,
    /// Largest response, headers included; 768 KiB at the most.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
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

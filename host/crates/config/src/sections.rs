//! The tables of the configuration that need no validation of their own, with their defaults.
//!
//! The doc comments of the fields become the descriptions in the JSON schema and in
//! `docs/reference/configuration.md`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use plugboard_core::units;

/// `[limits]`: limits of the server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Time limit for the answer to a decision or transfer request, from its arrival. When it
    /// is exceeded, the call gets the fallback, or the transfer is left to the platform. AVR
    /// gives up after 3 s (`WEBHOOK_TIMEOUT`), so the default leaves 1 s for the network.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub decision_timeout: Duration,
    /// Largest body of an AVR request. A larger one is rejected with 413. AVR's events are
    /// smaller than 10 KiB. BlackBox has `blackbox.max_body`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_body: usize,
    /// Concurrent connections to the webhook listener, 1 to 1,000,000. Further connections
    /// wait in the system's queue until one closes.
    pub max_connections: usize,
    /// Time limit for a request's header, for a TLS handshake, for an idle connection, and
    /// for a client that does not read its response. The connection is closed then.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub header_timeout: Duration,
    /// Time limit for the body of an AVR request. A later one is rejected with 503. BlackBox
    /// has `blackbox.body_timeout`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub body_timeout: Duration,
    /// Time limit of each step of the graceful shutdown after SIGTERM: requests in progress,
    /// then tool calls and transfers, then event deliveries. The next step starts when it is
    /// exceeded.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub shutdown_grace_period: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            decision_timeout: Duration::from_secs(2),
            max_body: 1 << 20,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(2),
            shutdown_grace_period: Duration::from_secs(10),
        }
    }
}

/// `[plugin_limits]`: default limits of a plugin, for the keys that its own `[limits]` omit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Time limit (wall clock) of one decision or transfer in one plugin. When it is
    /// exceeded, the call of the plugin fails with `timeout`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Time limit of one event in an observer. It may be long, because no request waits for
    /// it. When it is exceeded, the event is retried.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub event_timeout: Duration,
    /// Time limit of one tool call in one plugin. The caller waits for as long. Keep it below
    /// half of the platform's own limit, so that a second plugin has time to answer.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub tool_timeout: Duration,
    /// Linear memory of one instance, at most `engine.max_memory`. A plugin that needs more
    /// fails with `memory`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub memory: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        // A decision without I/O takes microseconds. 250 ms allow for a lookup, and for
        // eight plugins within `limits.decision_timeout`.
        Self {
            timeout: Duration::from_millis(250),
            event_timeout: Duration::from_secs(5),
            // Less than half of `blackbox.tool_timeout`, so that a second plugin has time.
            tool_timeout: Duration::from_secs(2),
            memory: 32 << 20,
        }
    }
}

/// `[engine]`: the WebAssembly engine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Plugin instances that run at the same time, 1 to 10,000. Further calls of plugins
    /// wait within their time limit. Events use at most half of the instances, tools and
    /// transfers a quarter. Each instance reserves address space.
    pub instances: u32,
    /// Largest `limits.memory` that a plugin may have, at most 4 GiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_memory: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { instances: 200, max_memory: 256 << 20 }
    }
}

/// `[log]`: the log, on standard error. Plugboard itself never logs callers' numbers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Format of the log.
    pub format: LogFormat,
    /// Lowest level that is logged: `error`, `warn`, `info`, `debug` or `trace`. Modules can
    /// have levels of their own: `info,plugboard_runtime::plugin=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text for each message.
    Human,
    /// One JSON object for each message.
    Json,
}

/// `[reload]`: detection of changes in the plugin folder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Watches the folder for file system notifications. Without it, and on network file
    /// systems, which do not notify, only polling (`reload.poll_interval`) finds changes.
    pub watch: bool,
    /// Time without further changes before the folder is read. A deployment must copy a
    /// plugin and its settings within this time, or both are loaded separately.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub debounce: Duration,
    /// Interval at which the folder and the certificate files are checked for changes,
    /// whether notifications work or not.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub poll_interval: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self {
            watch: true,
            debounce: Duration::from_millis(200),
            poll_interval: Duration::from_secs(5),
        }
    }
}

/// `[cache]`: the caches of decisions and of tools' results.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Caches decisions and tools' results, if the plugin marks them as cacheable.
    pub enabled: bool,
    /// Memory of the decision cache. When it is full, entries are evicted. Tools' results
    /// have a separate cache of 16 MiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub size: usize,
    /// Longest time to live of an entry. A longer one that a plugin sets is shortened.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_ttl: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { enabled: true, size: 64 << 20, max_ttl: Duration::from_secs(5 * 60) }
    }
}

/// `[idempotency]`: replay of answers to redelivered requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencyConfig {
    /// Time for which a redelivered request gets the same answer, without a plugin running
    /// again. Tool calls and transfers are replayed at least as long as their platform
    /// redelivers them. Covers the last 28,000 decisions, 3,500 tool calls and 3,500
    /// transfers. `0s` turns it off: plugins run again for each delivery.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationText")]
    pub ttl: Option<Duration>,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        // Longer than a platform waits for an answer. Events are redelivered for longer: the
        // journal deduplicates them.
        Self { ttl: Some(Duration::from_secs(60)) }
    }
}

/// `[circuit_breaker]`: the circuit breaker of each hook of a plugin.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreakerConfig {
    /// Failures within `circuit_breaker.window` that open the breaker, at most 10,000, if at
    /// least half of the calls failed meanwhile. While it is open, the plugin is skipped. `0`:
    /// the breaker never opens.
    pub failure_threshold: u32,
    /// Time window in which failures are counted.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub window: Duration,
    /// Time for which an open breaker skips the plugin. Then one call probes it, and closes
    /// the breaker if it succeeds.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub open_duration: Duration,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 10,
            window: Duration::from_secs(30),
            open_duration: Duration::from_secs(5),
        }
    }
}

/// `[journal]`: storage of accepted events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Durability of an event before its sender gets the acknowledgement.
    pub sync: Durability,
    /// Retention of events that every observer has acknowledged. Redelivered events are
    /// recognized as duplicates for as long, among the last 500,000 events. The checkpoint of
    /// an observer whose plugin is missing for longer is removed.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub retention: Duration,
    /// Largest age of an event that an observer has not acknowledged, and of a dead letter.
    /// An older one is removed.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_age: Duration,
    /// Largest total size of events and dead letters. Above it, events are rejected with 503.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_size: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            sync: Durability::Full,
            // BlackBox redelivers for 65 minutes.
            retention: Duration::from_secs(2 * 60 * 60),
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            // About ten million events.
            max_size: 4 << 30,
        }
    }
}

/// The durability that a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event is on the disk (fsync).
    Full,
    /// The event is with the operating system. It survives a crash of Plugboard, but a power
    /// failure can lose the last moments.
    Normal,
}

/// `[events]`: delivery of events to observers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events of different calls that one observer processes at the same time, at least 1.
    /// All observers together use at most half of `engine.instances`.
    pub concurrency: usize,
    /// Delivery attempts for one event, at least 1. After that, the event becomes a dead
    /// letter of the observer.
    pub max_attempts: u32,
    /// Delay before the second attempt. It doubles with each further attempt (exponential
    /// backoff with jitter).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub initial_backoff: Duration,
    /// Longest delay between two attempts.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_backoff: Duration,
}

impl Default for EventsConfig {
    fn default() -> Self {
        // About three minutes in all: enough for the restart of a service that an observer
        // needs.
        Self {
            concurrency: 8,
            max_attempts: 10,
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
        }
    }
}

/// `[calls]`: call contexts, the data that a platform sends only at the start of a call.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// Retention of a call's context after the end of the call.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub retention: Duration,
    /// Largest age of the context of a call whose end is not reported.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_age: Duration,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self { retention: Duration::from_secs(10 * 60), max_age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// `[kv]`: the plugins' key-value stores.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvConfig {
    /// Largest size of a key. A longer one fails with `too_large`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_key: usize,
    /// Largest size of a value, at most 768 KiB. A larger one fails with `too_large`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_value: usize,
    /// Largest total size of the keys and values of one plugin. Writes beyond it fail with
    /// `quota`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_total: usize,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self { max_key: 512, max_value: 64 << 10, max_total: 16 << 20 }
    }
}

/// `[http]`: the plugins' outbound HTTP requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Time limit of a whole request with its response. It never extends the plugin's own
    /// time limit.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Largest size of a request with its headers, at most 768 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_request: usize,
    /// Largest size of a response with its headers, at most 768 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_response: usize,
    /// Concurrent requests of one plugin, at least 1. Further requests fail with `too_many`.
    pub concurrency: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            // Within the limit of data in one host call.
            max_request: 512 << 10,
            max_response: 512 << 10,
            concurrency: 16,
        }
    }
}

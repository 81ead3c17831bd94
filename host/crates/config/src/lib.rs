//! The server's configuration: `plugboard.toml`, environment variables and command-line
//! flags, merged and checked into one [`Config`].
//!
//! `document` and `sections` hold the tables as operators write them, `source` reads and
//! merges them, `check` validates the result. Consumers get checked values only.

#![forbid(unsafe_code)]

mod check;
pub mod credentials;
mod document;
mod error;
mod keys;
mod network;
mod platforms;
pub mod schema;
mod sections;
mod source;
pub mod toml_error;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::document::ConfigDocument;
pub use self::error::ConfigError;
pub use self::keys::{ConfigKey, KEYS};
pub use self::network::{IngressConfig, Networks, RateLimit, TlsConfig};
pub use self::platforms::{AvrConfig, BlackBoxConfig, BlackBoxFallback};
pub use self::sections::{
    CacheConfig, CallsConfig, CircuitBreakerConfig, Durability, EngineConfig, EventsConfig,
    HttpConfig, IdempotencyConfig, JournalConfig, KvConfig, LogConfig, LogFormat, PluginLimits,
    ReloadConfig, ServerLimits,
};
pub use self::source::{Flags, LoadedConfig, load};
pub use self::traces::TracesConfig;
use plugboard_core::secret::Secret;
use plugboard_core::sts_url::{AllowedHosts, StsUrl};

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The address for the platforms' webhooks.
    pub listen: SocketAddr,
    /// The address for operators.
    pub admin: SocketAddr,
    /// The bearer token that the admin listener requires. None: no authentication.
    pub admin_token: Option<Secret>,
    /// The secret that AVR sends. None: AVR is not authenticated.
    pub secret: Option<Secret>,
    /// The plugin folder.
    pub plugins: PathBuf,
    /// The folder for data that survives a restart. Created if missing.
    pub data: PathBuf,
    /// The operator's own STS URLs, and the hosts that plugins may route to.
    pub routing: RoutingConfig,
    /// AVR and DSAI.
    pub avr: AvrConfig,
    /// Dasha BlackBox.
    pub blackbox: BlackBoxConfig,
    /// The certificate of the webhook listener. None: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Admission control of the webhook listener.
    pub ingress: IngressConfig,
    /// Limits of the webhook listener and of shutdown.
    pub limits: ServerLimits,
    /// Default limits of a plugin, used where its settings have none.
    pub plugin_limits: PluginLimits,
    /// The WebAssembly engine.
    pub engine: EngineConfig,
    /// Detection of changes in the plugin folder.
    pub reload: ReloadConfig,
    /// The caches of decisions and of tools' results.
    pub cache: CacheConfig,
    /// Replay of answers to redelivered requests.
    pub idempotency: IdempotencyConfig,
    /// The circuit breakers of plugins.
    pub circuit_breaker: CircuitBreakerConfig,
    /// The journal: durability, retention and size.
    pub journal: JournalConfig,
    /// Event delivery to observers: concurrency and backoff.
    pub events: EventsConfig,
    /// Retention of call contexts.
    pub calls: CallsConfig,
    /// Size limits of the plugins' key-value stores.
    pub kv: KvConfig,
    /// Limits of the plugins' outbound HTTP requests.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
    /// The export of traces. None: no traces.
    pub traces: Option<TracesConfig>,
}

/// The operator's own STS URLs, and the hosts that plugins may route to.
#[derive(Clone, Debug, Default)]
pub struct RoutingConfig {
    /// The URL for calls that no plugin decides.
    pub fallback_sts_url: Option<StsUrl>,
    /// The URL for rejected calls, on platforms that cannot reject.
    pub reject_sts_url: Option<StsUrl>,
    /// The hosts that plugins may route calls to.
    pub allowed_sts_hosts: AllowedHosts,
}

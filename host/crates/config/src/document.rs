//! The configuration as operators write it, before validation.
//!
//! The doc comments of the fields become the descriptions in the JSON schema and in
//! `docs/reference/configuration.md`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::network::{IngressSection, TlsSection};
use crate::platforms::{AvrConfig, BlackBoxSection};
use crate::sections::{
    CacheConfig, CallsConfig, CircuitBreakerConfig, EngineConfig, EventsConfig, HttpConfig,
    IdempotencyConfig, JournalConfig, KvConfig, LogConfig, PluginLimits, ReloadConfig,
    ServerLimits,
};
use crate::traces::TracesSection;
use plugboard_core::secret::Secret;

/// The configuration of Plugboard. Every key is optional.
// As written by the operator; `Config::check` validates it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigDocument {
    /// Address of the webhook listener: `POST /events` (AVR, DSAI) and `/blackbox`, `GET
    /// /instructions` and `/health`. Port 0 selects a free port.
    pub(crate) listen: SocketAddr,
    /// Address of the admin listener: the page at `/`, `GET /plugins`, `/metrics`, `/livez`,
    /// `/readyz` and `/events/dead`, `POST /reload` and `/explain`, `DELETE /calls/{id}`.
    /// Plain HTTP.
    pub(crate) admin: SocketAddr,
    /// Token that the admin listener requires as `Authorization: Bearer`. Required when
    /// `admin` is not a loopback address.
    pub(crate) admin_token: Option<Secret>,
    /// Shared secret of AVR. The variable `WEBHOOK_SECRET` sets it as well. Without a secret
    /// for each enabled platform, `listen` must be a loopback address.
    pub(crate) secret: Option<Secret>,
    /// Accepts requests from other machines without a secret. Set it only if a proxy or
    /// firewall in front of Plugboard restricts access.
    pub(crate) allow_unauthenticated: bool,
    /// Folder with the plugins (`NAME.wasm` and `NAME.toml`).
    pub(crate) plugins: PathBuf,
    /// Folder for data that survives restarts: events, plugins' values and compiled code. It
    /// is created if it is missing.
    pub(crate) data: PathBuf,
    /// Speech-to-speech URL for calls that no plugin decides: `ws://sts:6030/?uuid={id}`.
    /// None: the platform uses its own default.
    pub(crate) fallback_sts_url: Option<String>,
    /// Speech-to-speech URL for rejected calls on platforms that cannot reject, such as AVR.
    /// None: `fallback_sts_url`.
    pub(crate) reject_sts_url: Option<String>,
    /// Hosts that plugins may route calls to: `sts-vip`, `*.example.com`. Empty: all hosts.
    pub(crate) allowed_sts_hosts: Vec<String>,
    pub(crate) avr: AvrConfig,
    pub(crate) blackbox: BlackBoxSection,
    pub(crate) tls: TlsSection,
    pub(crate) ingress: IngressSection,
    pub(crate) limits: ServerLimits,
    pub(crate) plugin_limits: PluginLimits,
    pub(crate) engine: EngineConfig,
    pub(crate) reload: ReloadConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) idempotency: IdempotencyConfig,
    pub(crate) circuit_breaker: CircuitBreakerConfig,
    pub(crate) journal: JournalConfig,
    pub(crate) events: EventsConfig,
    pub(crate) calls: CallsConfig,
    pub(crate) kv: KvConfig,
    pub(crate) http: HttpConfig,
    pub(crate) log: LogConfig,
    pub(crate) traces: TracesSection,
}

impl Default for ConfigDocument {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9901)),
            admin_token: None,
            secret: None,
            allow_unauthenticated: false,
            plugins: PathBuf::from("plugins"),
            data: PathBuf::from("data"),
            fallback_sts_url: None,
            reject_sts_url: None,
            allowed_sts_hosts: Vec::new(),
            avr: AvrConfig::default(),
            blackbox: BlackBoxSection::default(),
            tls: TlsSection::default(),
            ingress: IngressSection::default(),
            limits: ServerLimits::default(),
            plugin_limits: PluginLimits::default(),
            engine: EngineConfig::default(),
            reload: ReloadConfig::default(),
            cache: CacheConfig::default(),
            idempotency: IdempotencyConfig::default(),
            circuit_breaker: CircuitBreakerConfig::default(),
            journal: JournalConfig::default(),
            events: EventsConfig::default(),
            calls: CallsConfig::default(),
            kv: KvConfig::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
            traces: TracesSection::default(),
        }
    }
}

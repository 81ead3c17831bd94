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
    BreakerConfig, CacheConfig, CallsConfig, EngineConfig, EventsConfig, HttpConfig, JournalConfig,
    KvConfig, LogConfig, PluginLimits, ReloadConfig, ServerLimits,
};
use crate::traces::TracesSection;
use plugboard_core::secret::Secret;

/// The configuration of Plugboard. Every key may be left out.
// As written by the operator; `Config::check` validates it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigDocument {
    /// Address for webhooks: `POST /events` (AVR, DSAI) and `/blackbox`, `GET
    /// /instructions` and `/health`.
    pub(crate) listen: SocketAddr,
    /// Address for operators: `GET /plugins`, `/metrics`, `/livez`, `/readyz` and
    /// `/events/dead`, `POST /reload` and `/explain`, `DELETE /calls/{id}`. Plain HTTP.
    pub(crate) admin: SocketAddr,
    /// What an operator must show as `Authorization: Bearer`. Needed when `admin` can be
    /// reached from other machines.
    pub(crate) admin_token: Option<Secret>,
    /// The secret that AVR sends; `WEBHOOK_SECRET` is another name for its variable.
    /// Without a secret for each platform that is served, `listen` must be an address of
    /// this machine alone.
    pub(crate) secret: Option<Secret>,
    /// Serves other machines also without a secret, as something in front of Plugboard
    /// keeps strangers out.
    pub(crate) allow_unauthenticated: bool,
    /// The folder of plugins.
    pub(crate) plugins: PathBuf,
    /// The folder of what is kept across restarts: events, plugins' values, compiled code.
    /// Made when it is missing.
    pub(crate) data: PathBuf,
    /// Where calls go that no plugin decides: `ws://sts:6030/?uuid={id}`. None: the
    /// platform decides by itself.
    pub(crate) fallback_sts_url: Option<String>,
    /// Where rejected calls go on platforms that cannot reject, as AVR.
    pub(crate) reject_sts_url: Option<String>,
    /// The hosts that plugins may send calls to: `sts-vip`, `*.example.com`. Empty: all.
    pub(crate) allowed_sts_hosts: Vec<String>,
    pub(crate) avr: AvrConfig,
    pub(crate) blackbox: BlackBoxSection,
    pub(crate) tls: TlsSection,
    pub(crate) senders: IngressSection,
    pub(crate) limits: ServerLimits,
    pub(crate) plugin_limits: PluginLimits,
    pub(crate) engine: EngineConfig,
    pub(crate) reload: ReloadConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) breaker: BreakerConfig,
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
            senders: IngressSection::default(),
            limits: ServerLimits::default(),
            plugin_limits: PluginLimits::default(),
            engine: EngineConfig::default(),
            reload: ReloadConfig::default(),
            cache: CacheConfig::default(),
            breaker: BreakerConfig::default(),
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

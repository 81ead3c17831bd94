//! The server's configuration: what `plugboard.toml`, the environment and the
//! flags say, as one checked value. Where each word came from is
//! `source`'s business.

#![forbid(unsafe_code)]

pub mod credentials;
mod network;
mod platforms;
pub mod schema;
mod sections;
mod source;
pub mod toml_error;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::network::{IngressConfig, Networks, RateLimit, TlsConfig};
use self::network::{IngressSection, TlsSection};
use self::platforms::BlackBoxSection;
pub use self::platforms::{AvrConfig, BlackBoxConfig, BlackBoxFallback};
pub use self::sections::{
    BreakerConfig, CacheConfig, CallsConfig, Durability, EngineConfig, EventsConfig, HttpConfig,
    JournalConfig, KvConfig, LogConfig, LogFormat, PluginLimits, ReloadConfig, ServerLimits,
};
pub use self::source::{Flags, LoadedConfig, load};
pub use self::source::{KEYS, variable_name};
pub use self::traces::TracesConfig;
use self::traces::TracesSection;
use crate::toml_error::TomlError;
use plugboard_core::secret::Secret;
use plugboard_core::sts_url::{AllowedHosts, StsUrl, StsUrlError};

/// The most that a guest can be given or give at once, in bytes, with room for what
/// comes with it (`MAX_HOST_CALL_DATA` of [`plugboard_runtime::plugin`]).
const MOST_PASSED: usize = 768 << 10;

/// Everything that can be configured, checked and ready to use.
#[derive(Debug)]
pub struct Config {
    /// Where platforms post their webhooks.
    pub listen: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    /// What an operator must show as `Authorization: Bearer`.
    pub admin_token: Option<Secret>,
    /// What a platform must show. None: nobody is asked.
    pub secret: Option<Secret>,
    /// The folder of plugins.
    pub plugins: PathBuf,
    /// The folder of what is kept across restarts; made when it is missing.
    pub data: PathBuf,
    /// What decisions may say and what stands in for them.
    pub routing: RoutingConfig,
    /// AVR and DSAI.
    pub avr: AvrConfig,
    /// Dasha BlackBox.
    pub blackbox: BlackBoxConfig,
    /// The files that make https of the webhook listener.
    pub tls: Option<TlsConfig>,
    /// Who may send, and how much.
    pub senders: IngressConfig,
    /// Bounds of the service.
    pub limits: ServerLimits,
    /// What a plugin gets when its settings say nothing.
    pub plugin_limits: PluginLimits,
    /// The WebAssembly engine.
    pub engine: EngineConfig,
    /// Changes of the plugin folder.
    pub reload: ReloadConfig,
    /// Verdicts that are used again.
    pub cache: CacheConfig,
    /// Plugins that keep failing.
    pub breaker: BreakerConfig,
    /// Events that were taken.
    pub journal: JournalConfig,
    /// Telling observers.
    pub events: EventsConfig,
    /// What is remembered of calls.
    pub calls: CallsConfig,
    /// Values that plugins keep.
    pub kv: KvConfig,
    /// Requests of plugins.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
    /// Traces. None: nothing is traced.
    pub traces: Option<TracesConfig>,
}

/// The operator's own answers, and the bounds of the plugins'.
#[derive(Clone, Debug, Default)]
pub struct RoutingConfig {
    /// For calls that no plugin decides.
    pub fallback_sts_url: Option<StsUrl>,
    /// For rejected calls, on platforms that cannot reject.
    pub reject_sts_url: Option<StsUrl>,
    /// Where plugins may send calls.
    pub allowed_sts_hosts: AllowedHosts,
}

/// Why there is no configuration to start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that was asked for cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// An environment variable is not what it should be.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with its value.
        message: String,
    },
    /// Two places name a different secret.
    #[error("WEBHOOK_SECRET and PLUGBOARD_SECRET are both set, and differ; set one")]
    ConflictingSecrets,
    /// Anybody could post.
    #[error(
        "listen = \"{listen}\" can be reached from other machines, and no secret is set for one \
         platform; set {what}, or `allow_unauthenticated = true` when something in front of \
         Plugboard keeps others out"
    )]
    Unauthenticated {
        /// The address.
        listen: SocketAddr,
        /// What to do.
        what: &'static str,
    },
    /// Anybody could operate.
    #[error(
        "admin = \"{0}\" can be reached from other machines, and no admin_token is set; set one, \
         or listen on 127.0.0.1"
    )]
    UnauthenticatedAdmin(SocketAddr),
    /// One of the operator's own URLs is no good.
    #[error("{key}: {source}")]
    StsUrl {
        /// `fallback_sts_url` or `reject_sts_url`.
        key: &'static str,
        /// What is wrong.
        source: StsUrlError,
    },
    /// One of the operator's own URLs would not fit some calls.
    #[error(
        "{0}: only {{id}}, {{platform}}, {{agent}}, {{from}} and {{to}} may stand in it, for it \
         must fit every call"
    )]
    StsUrlNotUniversal(&'static str),
    /// A value that cannot work.
    #[error("{key}: {message}")]
    InvalidValue {
        /// The key, with its table.
        key: &'static str,
        /// What is expected.
        message: String,
    },
}

/// The configuration of Plugboard. Every key may be left out.
// As it is written; [`Config::check_request`] makes sense of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigDocument {
    /// Address for webhooks: `POST /events` (AVR, DSAI) and `/blackbox`, `GET
    /// /instructions` and `/health`.
    listen: SocketAddr,
    /// Address for operators: `GET /plugins`, `/metrics`, `/livez`, `/readyz` and
    /// `/events/dead`, `POST /reload` and `/explain`, `DELETE /calls/{id}`. Plain HTTP.
    admin: SocketAddr,
    /// What an operator must show as `Authorization: Bearer`. Needed when `admin` can be
    /// reached from other machines.
    admin_token: Option<Secret>,
    /// The secret that AVR sends; `WEBHOOK_SECRET` is another name for its variable.
    /// Without a secret for each platform that is served, `listen` must be an address of
    /// this machine alone.
    secret: Option<Secret>,
    /// Serves other machines also without a secret, as something in front of Plugboard
    /// keeps strangers out.
    allow_unauthenticated: bool,
    /// The folder of plugins.
    plugins: PathBuf,
    /// The folder of what is kept across restarts: events, plugins' values, compiled code.
    /// Made when it is missing.
    data: PathBuf,
    /// Where calls go that no plugin decides: `ws://sts:6030/?uuid={id}`. None: the
    /// platform decides by itself.
    fallback_sts_url: Option<String>,
    /// Where rejected calls go on platforms that cannot reject, as AVR.
    reject_sts_url: Option<String>,
    /// The hosts that plugins may send calls to: `sts-vip`, `*.example.com`. Empty: all.
    allowed_sts_hosts: Vec<String>,
    avr: AvrConfig,
    blackbox: BlackBoxSection,
    tls: TlsSection,
    senders: IngressSection,
    limits: ServerLimits,
    plugin_limits: PluginLimits,
    engine: EngineConfig,
    reload: ReloadConfig,
    cache: CacheConfig,
    breaker: BreakerConfig,
    journal: JournalConfig,
    events: EventsConfig,
    calls: CallsConfig,
    kv: KvConfig,
    http: HttpConfig,
    log: LogConfig,
    traces: TracesSection,
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

impl Config {
    fn check(document: ConfigDocument) -> Result<Self, ConfigError> {
        let ConfigDocument {
            listen,
            admin,
            admin_token,
            secret,
            limits,
            plugin_limits,
            engine,
            ..
        } = document;
        let (avr, blackbox) = (document.avr, document.blackbox.check()?);
        if !avr.enabled && !blackbox.enabled {
            let message = "no platform is switched on; switch on this one, or avr.enabled";
            return Err(ConfigError::InvalidValue {
                key: "blackbox.enabled",
                message: message.to_owned(),
            });
        }
        if !listen.ip().is_loopback() && !document.allow_unauthenticated {
            if avr.enabled && secret.is_none() {
                return Err(ConfigError::Unauthenticated { listen, what: AvrConfig::SECRET_KEYS });
            }
            if blackbox.enabled && blackbox.credentials.is_unauthenticated() {
                return Err(ConfigError::Unauthenticated {
                    listen,
                    what: BlackBoxConfig::SECRET_KEYS,
                });
            }
        }
        if admin_token.is_none() && !admin.ip().is_loopback() {
            return Err(ConfigError::UnauthenticatedAdmin(admin));
        }
        let at_least_one = |key, value: usize| match value {
            0 => Err(ConfigError::InvalidValue { key, message: "expected at least 1".to_owned() }),
            _ => Ok(()),
        };
        at_least_one("limits.connections", limits.connections)?;
        at_least_one("engine.instances", engine.instances as usize)?;
        for (key, value) in [
            ("kv.max_value", document.kv.max_value),
            ("http.max_request", document.http.max_request),
            ("http.max_response", document.http.max_response),
        ] {
            if value > MOST_PASSED {
                let message =
                    format!("expected at most {MOST_PASSED}, what a guest can take at once");
                return Err(ConfigError::InvalidValue { key, message });
            }
        }
        at_least_one("events.concurrency", document.events.concurrency)?;
        at_least_one("events.attempts", document.events.attempts as usize)?;
        at_least_one("http.concurrency", document.http.concurrency)?;
        if document.breaker.failures > 10_000 {
            let message = "expected at most 10000, or 0 for never".to_owned();
            return Err(ConfigError::InvalidValue { key: "breaker.failures", message });
        }
        if engine.instances > 10_000 {
            let message = "expected at most 10000: each takes address space".to_owned();
            return Err(ConfigError::InvalidValue { key: "engine.instances", message });
        }
        if engine.max_memory > 4 << 30 {
            let message = "expected at most 4GiB, the most a 32-bit guest can use".to_owned();
            return Err(ConfigError::InvalidValue { key: "engine.max_memory", message });
        }
        if plugin_limits.memory > engine.max_memory {
            let message = format!("expected at most engine.max_memory, {}", engine.max_memory);
            return Err(ConfigError::InvalidValue { key: "plugin_limits.memory", message });
        }
        if limits.connections > 1_000_000 {
            let message = "expected at most 1000000".to_owned();
            return Err(ConfigError::InvalidValue { key: "limits.connections", message });
        }
        // A lone word that is no level would be taken for a part of the program,
        // and silence all others.
        let level = &document.log.level;
        let mut words = level.split(',').filter(|item| !item.contains('='));
        if level.parse::<Targets>().is_err()
            || words.any(|word| word.trim().parse::<LevelFilter>().is_err())
        {
            let message =
                format!("{level:?} is no level; expected error, warn, info, debug or trace");
            return Err(ConfigError::InvalidValue { key: "log.level", message });
        }
        let allowed_sts_hosts = AllowedHosts::new(document.allowed_sts_hosts);
        let operator_url = |key, url: Option<String>| {
            let Some(url) = url else { return Ok(None) };
            let url = StsUrl::parse(url, &allowed_sts_hosts)
                .map_err(|source| ConfigError::StsUrl { key, source })?;
            if url.uses_only_fixed_fields() {
                Ok(Some(url))
            } else {
                Err(ConfigError::StsUrlNotUniversal(key))
            }
        };
        let routing = RoutingConfig {
            fallback_sts_url: operator_url("fallback_sts_url", document.fallback_sts_url)?,
            reject_sts_url: operator_url("reject_sts_url", document.reject_sts_url)?,
            allowed_sts_hosts,
        };
        Ok(Self {
            listen,
            admin,
            admin_token,
            secret,
            plugins: document.plugins,
            data: document.data,
            routing,
            avr,
            blackbox,
            tls: document.tls.check()?,
            senders: document.senders.check()?,
            limits,
            plugin_limits,
            engine,
            reload: document.reload,
            cache: document.cache,
            breaker: document.breaker,
            journal: document.journal,
            events: document.events,
            calls: document.calls,
            kv: document.kv,
            http: document.http,
            log: document.log,
            traces: document.traces.check()?,
        })
    }
}

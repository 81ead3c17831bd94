//! Validation of a whole document: bounds, and rules that involve several keys.

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::document::ConfigDocument;
use crate::platforms::{AvrConfig, BlackBoxConfig};
use crate::{Config, ConfigError, RoutingConfig};
use plugboard_core::sts_url::{AllowedHosts, StsUrl};

/// Largest `kv.max_value`, `http.max_request` and `http.max_response`, in bytes: the
/// 1 MiB that a guest and the host can exchange in one call (`MAX_HOST_CALL_DATA` in the
/// runtime crate), less room for the other arguments.
const MAX_PAYLOAD: usize = 768 << 10;

impl Config {
    /// Validates a document.
    ///
    /// # Errors
    ///
    /// Returns the first value that is out of bounds or contradicts another one.
    pub(crate) fn check(mut document: ConfigDocument) -> Result<Self, ConfigError> {
        let blackbox = std::mem::take(&mut document.blackbox).check()?;
        check_access(&document, &blackbox)?;
        check_bounds(&document)?;
        check_log_level(&document.log.level)?;
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
            listen: document.listen,
            admin: document.admin,
            admin_token: document.admin_token,
            secret: document.secret,
            plugins: document.plugins,
            data: document.data,
            routing,
            avr: document.avr,
            blackbox,
            tls: document.tls.check()?,
            ingress: document.ingress.check()?,
            limits: document.limits,
            plugin_limits: document.plugin_limits,
            engine: document.engine,
            reload: document.reload,
            cache: document.cache,
            idempotency: document.idempotency,
            circuit_breaker: document.circuit_breaker,
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

/// Requires a platform, and authentication on addresses that other machines can reach.
fn check_access(document: &ConfigDocument, blackbox: &BlackBoxConfig) -> Result<(), ConfigError> {
    let ConfigDocument { listen, admin, avr, .. } = document;
    if !avr.enabled && !blackbox.enabled {
        return Err(ConfigError::invalid(
            "blackbox.enabled",
            "no platform is enabled; enable this one, or avr.enabled",
        ));
    }
    if !listen.ip().is_loopback() && !document.allow_unauthenticated {
        let listen = *listen;
        if avr.enabled && document.secret.is_none() {
            return Err(ConfigError::Unauthenticated { listen, what: AvrConfig::SECRET_KEYS });
        }
        if blackbox.enabled && blackbox.credentials.is_unauthenticated() {
            return Err(ConfigError::Unauthenticated { listen, what: BlackBoxConfig::SECRET_KEYS });
        }
    }
    if document.admin_token.is_none() && !admin.ip().is_loopback() {
        return Err(ConfigError::UnauthenticatedAdmin(*admin));
    }
    Ok(())
}

fn check_bounds(document: &ConfigDocument) -> Result<(), ConfigError> {
    let ConfigDocument { limits, plugin_limits, engine, kv, http, events, circuit_breaker, .. } =
        document;
    at_least_one("limits.max_connections", limits.max_connections)?;
    at_least_one("engine.instances", engine.instances as usize)?;
    for (key, value) in [
        ("kv.max_value", kv.max_value),
        ("http.max_request", http.max_request),
        ("http.max_response", http.max_response),
    ] {
        let message =
            || format!("expected at most {MAX_PAYLOAD} bytes, the limit of one host call");
        require(value <= MAX_PAYLOAD, key, message)?;
    }
    at_least_one("events.concurrency", events.concurrency)?;
    at_least_one("events.max_attempts", events.max_attempts as usize)?;
    at_least_one("http.concurrency", http.concurrency)?;
    require(
        circuit_breaker.failure_threshold <= 10_000,
        "circuit_breaker.failure_threshold",
        || "expected at most 10000; 0 turns the breaker off".to_owned(),
    )?;
    require(engine.instances <= 10_000, "engine.instances", || {
        "expected at most 10000: each instance reserves address space".to_owned()
    })?;
    require(engine.max_memory <= 4 << 30, "engine.max_memory", || {
        "expected at most 4GiB, the address space of a 32-bit guest".to_owned()
    })?;
    require(plugin_limits.memory <= engine.max_memory, "plugin_limits.memory", || {
        format!("expected at most engine.max_memory ({} bytes)", engine.max_memory)
    })?;
    require(limits.max_connections <= 1_000_000, "limits.max_connections", || {
        "expected at most 1000000".to_owned()
    })
}

fn at_least_one(key: &'static str, value: usize) -> Result<(), ConfigError> {
    require(value >= 1, key, || "expected at least 1".to_owned())
}

fn require(
    is_valid: bool,
    key: &'static str,
    message: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if is_valid { Ok(()) } else { Err(ConfigError::invalid(key, message())) }
}

fn check_log_level(level: &str) -> Result<(), ConfigError> {
    // `Targets` reads a single word that is no level as the name of a target, and then
    // silences all others.
    let mut words = level.split(',').filter(|item| !item.contains('='));
    let is_valid = level.parse::<Targets>().is_ok()
        && words.all(|word| word.trim().parse::<LevelFilter>().is_ok());
    require(is_valid, "log.level", || {
        format!("{level:?} is not a level: expected error, warn, info, debug or trace")
    })
}

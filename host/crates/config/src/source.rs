//! Where the configuration comes from: a file, the environment, flags; a later
//! one wins over an earlier one. Each is checked alone, so that an error names
//! the place to mend.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigDocument, ConfigError};
use crate::toml_error;

/// Read when `--config` names no other file and it is there.
const DEFAULT_FILE: &str = "plugboard.toml";

/// The prefix of every environment variable but [`SECRET_VARIABLE`].
const PREFIX: &str = "PLUGBOARD_";

/// The name that AVR's users know for the shared secret.
const SECRET_VARIABLE: &str = "WEBHOOK_SECRET";

/// Every key. The environment variable of `limits.body` is
/// `PLUGBOARD_LIMITS_BODY`. A test compares the list with [`ConfigDocument`].
pub const KEYS: &[&str] = &[
    "listen",
    "admin",
    "admin_token",
    "secret",
    "allow_unauthenticated",
    "plugins",
    "data",
    "fallback_sts_url",
    "reject_sts_url",
    "allowed_sts_hosts",
    "avr.enabled",
    "blackbox.enabled",
    "blackbox.headers",
    "blackbox.signing_secrets",
    "blackbox.signature_header",
    "blackbox.require",
    "blackbox.fallback",
    "blackbox.fallback_prompt",
    "blackbox.fallback_reason",
    "blackbox.max_body",
    "blackbox.body_timeout",
    "blackbox.tool_timeout",
    "tls.certificate",
    "tls.key",
    "senders.allow",
    "senders.trusted_proxies",
    "senders.rate",
    "senders.burst",
    "limits.budget",
    "limits.body",
    "limits.connections",
    "limits.header_timeout",
    "limits.body_timeout",
    "limits.shutdown",
    "plugin_limits.timeout",
    "plugin_limits.event_timeout",
    "plugin_limits.tool_timeout",
    "plugin_limits.memory",
    "engine.instances",
    "engine.max_memory",
    "reload.watch",
    "reload.debounce",
    "reload.poll",
    "cache.enabled",
    "cache.size",
    "cache.max_ttl",
    "cache.deliveries",
    "breaker.failures",
    "breaker.window",
    "breaker.pause",
    "journal.sync",
    "journal.keep",
    "journal.max_age",
    "journal.max_size",
    "events.concurrency",
    "events.attempts",
    "events.backoff",
    "events.max_backoff",
    "calls.keep",
    "calls.max_age",
    "kv.max_key",
    "kv.max_value",
    "kv.max_total",
    "http.timeout",
    "http.max_request",
    "http.max_response",
    "http.concurrency",
    "log.format",
    "log.level",
    "traces.endpoint",
    "traces.headers",
    "traces.sample",
    "traces.service",
];

/// What the command line says of the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file [default: plugboard.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Address for webhooks; port 0 takes a free one [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address for operators [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Folder for what is kept across restarts [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// A configuration, and what deserves a word about it.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// For the log, once there is one.
    pub warnings: Vec<String>,
}

/// Reads file, environment (given as pairs) and flags.
///
/// # Errors
///
/// When one of them is wrong, or together they make no sense.
pub fn load(
    flags: Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<LoadedConfig, ConfigError> {
    let mut warnings = Vec::new();
    let mut table = read_file(flags.config.as_deref())?;
    for (key, value) in read_environment(environment, &mut warnings)? {
        set_key(&mut table, key, value);
    }
    let text = |path: &Path| Value::String(path.display().to_string());
    let address = |address: SocketAddr| Value::String(address.to_string());
    for (key, value) in [
        ("plugins", flags.plugins.as_deref().map(text)),
        ("data", flags.data.as_deref().map(text)),
        ("listen", flags.listen.map(address)),
        ("admin", flags.admin.map(address)),
    ] {
        if let Some(value) = value {
            set_key(&mut table, key, value);
        }
    }
    // Every part was read before; an error here would be one of the merge.
    let document = ConfigDocument::deserialize(table).map_err(|error| {
        ConfigError::InvalidValue { key: "configuration", message: error.message().to_owned() }
    })?;
    Ok(LoadedConfig { config: Config::check(document)?, warnings })
}

fn read_file(path: Option<&Path>) -> Result<Table, ConfigError> {
    let (path, is_required) = path.map_or((Path::new(DEFAULT_FILE), false), |path| (path, true));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_required => {
            return Ok(Table::new());
        }
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    };
    toml_error::parse::<ConfigDocument>(&text, path)?;
    Ok(toml_error::parse(&text, path)?)
}

fn read_environment(
    environment: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, Value)>, ConfigError> {
    let names: Vec<String> = KEYS.iter().map(|key| variable_name(key)).collect();
    let mut values = Vec::new();
    let mut secret: Option<String> = None;
    for (name, text) in environment {
        // Compose files pass `NAME=${NAME}` on: empty means not set.
        if text.is_empty() {
            continue;
        }
        let key =
            match names.iter().zip(KEYS).find(|(variable_of_key, _)| **variable_of_key == name) {
                Some((_, key)) => *key,
                None if name == SECRET_VARIABLE => "secret",
                None => {
                    // Not an error: Kubernetes sets PLUGBOARD_PORT and the like for
                    // a service of our name.
                    if name.starts_with(PREFIX) {
                        let suggestion =
                            toml_error::nearest(&name, names.iter().map(String::as_str))
                                .map(|meant| format!("; did you mean {meant}?"));
                        warnings.push(format!(
                            "environment variable {name} is not known{}",
                            suggestion.unwrap_or_default()
                        ));
                    }
                    continue;
                }
            };
        if key == "secret" && secret.replace(text.clone()).is_some_and(|other| other != text) {
            return Err(ConfigError::ConflictingSecrets);
        }
        let value = parse_value(key, &text)
            .map_err(|message| ConfigError::Environment { name: name.clone(), message })?;
        values.push((key, value));
    }
    Ok(values)
}

/// The environment variable of a key.
pub fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// A variable's text as the value that its key takes: text, else a number or
/// boolean, else a list with commas.
fn parse_value(key: &str, text: &str) -> Result<Value, String> {
    let string = Value::String(text.to_owned());
    let scalar = text.parse::<bool>().map(Value::Boolean).ok();
    let scalar = scalar.or_else(|| text.parse::<i64>().map(Value::Integer).ok());
    let scalar = scalar.or_else(|| text.parse::<f64>().map(Value::Float).ok());
    let list = text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
    let parse_as = |value: &Value| {
        let mut table = Table::new();
        set_key(&mut table, key, value.clone());
        ConfigDocument::deserialize(table).map_err(|error| error.message().to_owned())
    };
    let error = match parse_as(&string) {
        Ok(_) => return Ok(string),
        Err(refusal) => refusal,
    };
    scalar
        .into_iter()
        .chain([Value::Array(list)])
        .find(|value| parse_as(value).is_ok())
        .ok_or(error)
}

fn set_key(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set_key(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(
        file: &str,
        environment: &[(&str, &str)],
        flags: Flags,
    ) -> Result<LoadedConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugboard.toml");
        std::fs::write(&path, file).unwrap();
        let flags = Flags { config: Some(path), ..flags };
        load(flags, environment.iter().map(|(k, v)| (k.to_string(), v.to_string())))
            .map_err(|error| error.to_string())
    }

    fn config(file: &str) -> Result<Config, String> {
        load_with(file, &[], Flags::default()).map(|loaded| loaded.config)
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let file = "listen = '127.0.0.1:1'\nadmin = '127.0.0.1:1'\nplugins = 'file'\n";
        let environment =
            [("PLUGBOARD_ADMIN", "127.0.0.1:2"), ("PLUGBOARD_PLUGINS", "environment")];
        let flags = Flags { plugins: Some("flag".into()), ..Flags::default() };
        let config = load_with(file, &environment, flags).unwrap().config;
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.admin.port(), 2);
        assert_eq!(config.plugins, Path::new("flag"));
    }

    #[test]
    fn variables_take_the_type_of_their_key() {
        let environment = [
            ("PLUGBOARD_LIMITS_BODY", "2MiB"),
            ("PLUGBOARD_LIMITS_CONNECTIONS", "7"),
            ("PLUGBOARD_ALLOWED_STS_HOSTS", "a, b"),
            ("PLUGBOARD_LOG_FORMAT", "json"),
            ("PLUGBOARD_SECRET", "1234"),
            ("PLUGBOARD_REJECT_STS_URL", ""),
            ("PLUGBOARD_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces"),
            ("PLUGBOARD_TRACES_HEADERS", "A: b, X-Key: s3cret"),
            ("PLUGBOARD_TRACES_SAMPLE", "0.25"),
        ];
        let config = load_with("", &environment, Flags::default()).unwrap().config;
        assert_eq!(config.limits.body, 2 << 20);
        assert_eq!(config.limits.connections, 7);
        assert!(config.secret.unwrap().matches(b"1234"));
        assert!(config.routing.reject_sts_url.is_none());
        let traces = config.traces.unwrap();
        assert_eq!((traces.headers.len(), traces.sample), (2, 0.25));
    }

    #[test]
    fn invalid_variable_fails_and_unknown_one_warns() {
        let error =
            load_with("", &[("PLUGBOARD_LIMITS_BUDGET", "soon")], Flags::default()).unwrap_err();
        assert!(error.contains("PLUGBOARD_LIMITS_BUDGET") && error.contains("250ms"), "{error}");
        let bad = [("PLUGBOARD_SENDERS_ALLOW", "::1, 10.0.0.0/33")];
        let error = load_with("", &bad, Flags::default()).unwrap_err();
        assert!(
            error.starts_with("environment variable PLUGBOARD_SENDERS_ALLOW: ")
                && error.contains("\"10.0.0.0/33\" is no network"),
            "{error}"
        );
        let loaded = load_with("", &[("PLUGBOARD_LISTNE", "x"), ("OTHER", "x")], Flags::default());
        let warnings = loaded.unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("did you mean PLUGBOARD_LISTEN?"), "{warnings:?}");
    }

    #[test]
    fn secret_variables_must_agree() {
        let pair = |a, b| {
            load_with("", &[("WEBHOOK_SECRET", a), ("PLUGBOARD_SECRET", b)], Flags::default())
        };
        assert!(pair("s", "s").unwrap().config.secret.unwrap().matches(b"s"));
        assert!(pair("s", "").unwrap().config.secret.unwrap().matches(b"s"));
        assert!(pair("s", "t").unwrap_err().contains("differ"));
        let config = pair("s3cret", "").unwrap().config;
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(!config.secret.unwrap().matches(b"s3creT"));
    }

    #[test]
    fn file_error_has_line_and_suggestion() {
        let error = config("listen = '127.0.0.1:1'\n[limits]\nbugdet = '1s'\n").unwrap_err();
        assert!(error.contains("plugboard.toml:3: unknown field `bugdet`"), "{error}");
        assert!(error.contains("did you mean `budget`?"), "{error}");
        let error = config("secret = 5\n").unwrap_err();
        assert!(error.contains("plugboard.toml:1: a secret is text"), "{error}");
        let error = config("listen = 'nowhere'").unwrap_err();
        assert!(error.contains("plugboard.toml:1"), "{error}");
    }

    #[test]
    fn public_listener_requires_secret() {
        let open = "listen = '0.0.0.0:9000'\n";
        assert!(config(open).unwrap_err().contains("WEBHOOK_SECRET"));
        assert!(config(&format!("{open}secret = 'x'")).is_ok());
        assert!(config(&format!("{open}allow_unauthenticated = true")).is_ok());
        let both = format!("{open}secret = 'x'\n[blackbox]\nenabled = true\n");
        assert!(config(&both).unwrap_err().contains("blackbox.headers"));
        assert!(config(&format!("{both}headers = ['X-API-Key: k']")).is_ok());
        let one = format!("{open}[avr]\nenabled = false\n[blackbox]\nenabled = true\n");
        assert!(config(&format!("{one}signing_secrets = ['k', 'old']")).is_ok());
        let open = "admin = '[::]:9901'\n";
        assert!(config(open).unwrap_err().contains("admin_token"));
        assert!(config(&format!("{open}admin_token = 'x'")).is_ok());
    }

    #[test]
    fn invalid_values_are_rejected() {
        for (text, expected) in [
            ("secret = ''", "not empty"),
            ("fallback_sts_url = 'ftp://x'", "fallback_sts_url"),
            ("reject_sts_url = 'ws://x/{channel}'", "every call"),
            ("fallback_sts_url = 'ws://b/'\nallowed_sts_hosts = ['a']", "allowed_sts_hosts"),
            ("[engine]\ninstances = 0", "at least 1"),
            ("[kv]\nmax_value = '1MiB'", "kv.max_value"),
            ("[avr]\nenabled = false", "no platform"),
            ("[blackbox]\nrequire = ['signature']", "blackbox.require"),
            ("[blackbox]\nheaders = ['s3cret']", "a name, a colon"),
            ("[blackbox]\nfallback = 'ignore'", "`accept`"),
            ("[blackbox]\nmax_body = '1GiB'", "blackbox.max_body"),
            ("[plugin_limits]\nmemory = '1GiB'", "engine.max_memory"),
            ("[log]\nlevel = 'loud=so'", "log.level"),
            ("[log]\nlevel = 'inof'", "log.level"),
            ("[limits]\nconnections = 9223372036854775807", "limits.connections"),
            ("[tls]\nkey = 'k'", "tls.certificate"),
            ("[senders]\nallow = ['x']", "plugboard.toml:2: senders.allow: \"x\" is no network"),
        ] {
            let error = config(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn key_list_matches_schema() {
        let schema = crate::schema::generate_schema::<ConfigDocument>();
        let mut schema_keys = Vec::new();
        for (name, property) in schema["properties"].as_object().unwrap() {
            match property["properties"].as_object() {
                Some(table) => schema_keys.extend(table.keys().map(|key| format!("{name}.{key}"))),
                None => schema_keys.push(name.clone()),
            }
        }
        let mut listed_keys = KEYS.to_vec();
        schema_keys.sort_unstable();
        listed_keys.sort_unstable();
        assert_eq!(schema_keys, listed_keys);
    }
}

//! The sources of the configuration: file, environment variables, flags. A later source
//! overrides an earlier one. Each is checked alone, so that an error names the source.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigDocument, ConfigError};
use crate::keys::{KEYS, VARIABLE_PREFIX};
use crate::toml_error;

/// The configuration file that is read, if it exists, when no other is named.
const DEFAULT_FILE: &str = "plugboard.toml";

/// AVR's own name for the variable of the shared secret.
const SECRET_VARIABLE: &str = "WEBHOOK_SECRET";

/// The keys that the command line can set, and the path of the file. The binary fills
/// it from its arguments. A set value wins over the file and the environment.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The configuration file. None: `plugboard.toml`, if it exists.
    pub config: Option<PathBuf>,
    /// Sets `plugins`.
    pub plugins: Option<PathBuf>,
    /// Sets `listen`.
    pub listen: Option<SocketAddr>,
    /// Sets `admin`.
    pub admin: Option<SocketAddr>,
    /// Sets `data`.
    pub data: Option<PathBuf>,
}

/// A configuration with its warnings.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Warnings for the log, which has not started yet.
    pub warnings: Vec<String>,
}

/// Loads the configuration from file, environment variables (given as pairs) and flags.
///
/// # Errors
///
/// Fails if a source is not valid, or if the merged values contradict one another.
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
    // Each source was checked alone; an error here comes from the merge.
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
    let mut values = Vec::new();
    let mut secret: Option<String> = None;
    for (name, text) in environment {
        // Compose files pass `NAME=${NAME}`, so empty means unset.
        if text.is_empty() {
            continue;
        }
        let key = match KEYS.iter().find(|key| key.variable == name) {
            Some(key) => key.path.as_str(),
            None if name == SECRET_VARIABLE => "secret",
            None => {
                // A warning, not an error: for a service named plugboard, Kubernetes sets
                // PLUGBOARD_PORT and the like.
                if name.starts_with(VARIABLE_PREFIX) {
                    let variables = KEYS.iter().map(|key| key.variable.as_str());
                    let suggestion = toml_error::nearest(&name, variables)
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

/// Converts a variable's text to the type of its key: text, else a number or boolean, else a
/// comma-separated list.
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
            ("PLUGBOARD_LIMITS_MAX_BODY", "2MiB"),
            ("PLUGBOARD_LIMITS_MAX_CONNECTIONS", "7"),
            ("PLUGBOARD_ALLOWED_STS_HOSTS", "a, b"),
            ("PLUGBOARD_LOG_FORMAT", "json"),
            ("PLUGBOARD_SECRET", "1234"),
            ("PLUGBOARD_REJECT_STS_URL", ""),
            ("PLUGBOARD_TRACES_OTLP_ENDPOINT", "http://127.0.0.1:4318/v1/traces"),
            ("PLUGBOARD_TRACES_HEADERS", "A: b, X-Key: s3cret"),
            ("PLUGBOARD_TRACES_SAMPLE_RATIO", "0.25"),
        ];
        let config = load_with("", &environment, Flags::default()).unwrap().config;
        assert_eq!(config.limits.max_body, 2 << 20);
        assert_eq!(config.limits.max_connections, 7);
        assert!(config.secret.unwrap().matches(b"1234"));
        assert!(config.routing.reject_sts_url.is_none());
        let traces = config.traces.unwrap();
        assert_eq!((traces.headers.len(), traces.sample_ratio), (2, 0.25));
    }

    #[test]
    fn invalid_variable_fails_and_unknown_one_warns() {
        let error =
            load_with("", &[("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "soon")], Flags::default())
                .unwrap_err();
        assert!(
            error.contains("PLUGBOARD_LIMITS_DECISION_TIMEOUT") && error.contains("250ms"),
            "{error}"
        );
        let bad = [("PLUGBOARD_INGRESS_ALLOWED_NETWORKS", "::1, 10.0.0.0/33")];
        let error = load_with("", &bad, Flags::default()).unwrap_err();
        assert!(
            error.starts_with("environment variable PLUGBOARD_INGRESS_ALLOWED_NETWORKS: ")
                && error.contains("\"10.0.0.0/33\" is not a network"),
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
        let error =
            config("listen = '127.0.0.1:1'\n[limits]\ndecison_timeout = '1s'\n").unwrap_err();
        assert!(error.contains("plugboard.toml:3: unknown field `decison_timeout`"), "{error}");
        assert!(error.contains("did you mean `decision_timeout`?"), "{error}");
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
            ("[limits]\nmax_connections = 9223372036854775807", "limits.max_connections"),
            ("[tls]\nkey = 'k'", "tls.certificate"),
            (
                "[ingress]\nallowed_networks = ['x']",
                "plugboard.toml:2: ingress.allowed_networks: \"x\" is not a network",
            ),
        ] {
            let error = config(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

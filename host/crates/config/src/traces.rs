//! `[traces]`: the export of OpenTelemetry traces.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::ConfigError;
use crate::credentials::HeaderSecret;

/// Largest `traces.service`, in bytes: it is part of every export request.
const MAX_SERVICE: usize = 255;

/// The export of traces to one collector.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// The collector's URL for traces, http or https, with its path.
    pub endpoint: Url,
    /// Headers of every export request.
    pub headers: Vec<HeaderSecret>,
    /// The sampled share of webhooks, from 0 to 1.
    pub sample: f64,
    /// The service name (`service.name`).
    pub service: String,
}

/// `[traces]`: OpenTelemetry traces, one for each webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TracesSection {
    /// Where OpenTelemetry traces are sent by OTLP over HTTP: the whole URL, such as
    /// `http://127.0.0.1:4318/v1/traces`. Nothing is traced without it.
    endpoint: Option<String>,
    /// Headers that are sent along, each as `Name: value`. They are never shown.
    #[schemars(with = "Vec<String>")]
    headers: Vec<HeaderSecret>,
    /// The share of webhooks, and of events that observers are told, that are traced:
    /// from 0 (nothing at all) to 1 (all). A sender that has shown its secret, and that
    /// sends a `traceparent`, decides for its own webhooks.
    sample: f64,
    /// The name that the traces are found by (`service.name`).
    service: String,
}

impl Default for TracesSection {
    fn default() -> Self {
        Self { endpoint: None, headers: Vec::new(), sample: 1.0, service: "plugboard".to_owned() }
    }
}

impl TracesSection {
    /// Validates the table. None: tracing is off.
    pub(super) fn check(self) -> Result<Option<TracesConfig>, ConfigError> {
        let Self { endpoint, headers, sample, service } = self;
        let invalid =
            |key, message: &str| Err(ConfigError::InvalidValue { key, message: message.into() });
        if !(0.0..=1.0).contains(&sample) {
            return invalid("traces.sample", "expected a share from 0.0 (none) to 1.0 (all)");
        }
        if service.is_empty() || service.len() > MAX_SERVICE {
            return invalid("traces.service", "expected a name of 1 to 255 bytes");
        }
        let Some(endpoint) = endpoint else {
            // An operator who sets headers expects tracing to be on.
            if !headers.is_empty() {
                return invalid("traces.headers", "they are for traces.endpoint, which is not set");
            }
            return Ok(None);
        };
        let url = Url::parse(&endpoint).ok().filter(|url| {
            // Errors and logs show the URL, so a password belongs into the headers.
            let has_no_password = url.username().is_empty() && url.password().is_none();
            // Without a path, it is the collector's base URL.
            let has_path = url.has_host() && url.path() != "/";
            matches!(url.scheme(), "http" | "https") && has_no_password && has_path
        });
        let Some(endpoint) = url else {
            return invalid(
                "traces.endpoint",
                "expected the whole URL that takes traces, such as \
                 \"http://127.0.0.1:4318/v1/traces\": http or https, with its path, and without a \
                 password (use traces.headers)",
            );
        };
        Ok(Some(TracesConfig { endpoint, headers, sample, service }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(text: &str) -> Result<Option<TracesConfig>, String> {
        let section: TracesSection =
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        section.check().map_err(|error| error.to_string())
    }

    #[test]
    fn tracing_is_off_without_endpoint() {
        assert!(traces("").unwrap().is_none());
        assert!(traces("sample = 0.5").unwrap().is_none());
        let config = traces("endpoint = 'https://otel.example.com/v1/traces'\nsample = 1");
        let config = config.unwrap().unwrap();
        assert_eq!((config.sample, config.service.as_str()), (1.0, "plugboard"));
        assert_eq!(config.endpoint.as_str(), "https://otel.example.com/v1/traces");
    }

    #[test]
    fn invalid_values_are_rejected_without_showing_headers() {
        let on = "endpoint = 'http://a/v1/traces'\n";
        for (text, expected) in [
            ("endpoint = 'localhost:4318'", "traces.endpoint: expected the whole URL"),
            ("endpoint = 'http://localhost:4318'", "traces.endpoint"),
            ("endpoint = 'grpc://a/v1/traces'", "traces.endpoint"),
            ("endpoint = 'http://a:s3cret@b/v1/traces'", "traces.endpoint"),
            ("headers = ['X-Key: s3cret']", "traces.headers"),
            (&format!("{on}headers = ['s3cret']"), "a name, a colon"),
            (&format!("{on}sample = 1.1"), "traces.sample"),
            (&format!("{on}sample = -0.1"), "traces.sample"),
            (&format!("{on}sample = nan"), "traces.sample"),
            (&format!("{on}service = ''"), "traces.service"),
        ] {
            let error = traces(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{text}: {error}");
        }
        let config = traces(&format!("{on}headers = ['X-Key: s3cret']")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}

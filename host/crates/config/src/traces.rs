//! `[traces]`: the export of OpenTelemetry traces.

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::ConfigError;
use crate::credentials::HeaderSecret;

/// Largest `traces.service_name`, in bytes: it is part of every export request.
const MAX_SERVICE_NAME: usize = 255;

/// The export of traces to one collector.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// The collector's URL for traces, http or https, with its path.
    pub otlp_endpoint: Url,
    /// Headers of every export request.
    pub headers: Vec<HeaderSecret>,
    /// The sampled share of webhooks, from 0 to 1.
    pub sample_ratio: f64,
    /// The service name (`service.name`).
    pub service_name: String,
}

/// `[traces]`: export of OpenTelemetry traces.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TracesSection {
    /// URL of the collector for traces (OTLP over HTTP), with its path:
    /// `http://127.0.0.1:4318/v1/traces`. None: tracing is off.
    otlp_endpoint: Option<String>,
    /// Headers of each export request, as `Name: value`. Their values are secret: they are
    /// never logged.
    #[schemars(with = "Vec<String>")]
    headers: Vec<HeaderSecret>,
    /// Ratio of webhooks and event deliveries that are traced, from 0 (none) to 1 (all). An
    /// authenticated sender that sends a `traceparent` header decides for its own webhooks.
    sample_ratio: f64,
    /// Service name in the traces (`service.name`), 1 to 255 bytes.
    service_name: String,
}

impl Default for TracesSection {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            headers: Vec::new(),
            sample_ratio: 1.0,
            service_name: "plugboard".to_owned(),
        }
    }
}

impl TracesSection {
    /// Validates the table. None: tracing is off.
    pub(super) fn check(self) -> Result<Option<TracesConfig>, ConfigError> {
        let Self { otlp_endpoint, headers, sample_ratio, service_name } = self;
        let invalid =
            |key, message: &str| Err(ConfigError::InvalidValue { key, message: message.into() });
        if !(0.0..=1.0).contains(&sample_ratio) {
            return invalid("traces.sample_ratio", "expected a ratio from 0.0 (none) to 1.0 (all)");
        }
        if service_name.is_empty() || service_name.len() > MAX_SERVICE_NAME {
            return invalid("traces.service_name", "expected a name of 1 to 255 bytes");
        }
        let Some(endpoint) = otlp_endpoint else {
            // Headers without an endpoint are an error: the operator expects tracing to be on.
            if !headers.is_empty() {
                return invalid("traces.headers", "has no effect without traces.otlp_endpoint");
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
        let Some(otlp_endpoint) = url else {
            return invalid(
                "traces.otlp_endpoint",
                "expected the collector's URL for traces, such as \
                 \"http://127.0.0.1:4318/v1/traces\": http or https, with its path, and without a \
                 password (use traces.headers)",
            );
        };
        Ok(Some(TracesConfig { otlp_endpoint, headers, sample_ratio, service_name }))
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
        assert!(traces("sample_ratio = 0.5").unwrap().is_none());
        let config =
            traces("otlp_endpoint = 'https://otel.example.com/v1/traces'\nsample_ratio = 1");
        let config = config.unwrap().unwrap();
        assert_eq!((config.sample_ratio, config.service_name.as_str()), (1.0, "plugboard"));
        assert_eq!(config.otlp_endpoint.as_str(), "https://otel.example.com/v1/traces");
    }

    #[test]
    fn invalid_values_are_rejected_without_showing_headers() {
        let on = "otlp_endpoint = 'http://a/v1/traces'\n";
        for (text, expected) in [
            (
                "otlp_endpoint = 'localhost:4318'",
                "traces.otlp_endpoint: expected the collector's URL",
            ),
            ("otlp_endpoint = 'http://localhost:4318'", "traces.otlp_endpoint"),
            ("otlp_endpoint = 'grpc://a/v1/traces'", "traces.otlp_endpoint"),
            ("otlp_endpoint = 'http://a:s3cret@b/v1/traces'", "traces.otlp_endpoint"),
            ("headers = ['X-Key: s3cret']", "traces.headers"),
            (&format!("{on}headers = ['s3cret']"), "a name, a colon"),
            (&format!("{on}sample_ratio = 1.1"), "traces.sample_ratio"),
            (&format!("{on}sample_ratio = -0.1"), "traces.sample_ratio"),
            (&format!("{on}sample_ratio = nan"), "traces.sample_ratio"),
            (&format!("{on}service_name = ''"), "traces.service_name"),
        ] {
            let error = traces(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{text}: {error}");
        }
        let config = traces(&format!("{on}headers = ['X-Key: s3cret']")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}

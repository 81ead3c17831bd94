//! Loads the configuration and the certificate that it names.

use std::fmt::Display;

use plugboard_config::{self as config, Config, Flags, LoadedConfig};
use plugboard_tls::Tls;

/// Marker for an invalid configuration, whose error has been printed. The exit status is
/// [`EXIT_BAD_CONFIG`](super::exit_status::EXIT_BAD_CONFIG).
pub(super) struct BadConfig;

/// Loads the configuration, or prints the error.
pub(super) fn load_configuration(flags: Flags) -> Result<LoadedConfig, BadConfig> {
    ok_or_print_error(config::load(flags, environment_variables()))
}

/// Loads the configuration for a command that does not serve, and prints its warnings.
pub(super) fn load_offline_configuration(flags: Flags) -> Result<Config, BadConfig> {
    let LoadedConfig { config, warnings } = load_configuration(flags)?;
    for warning in warnings {
        eprintln!("plugboard: {warning}");
    }
    Ok(config)
}

/// Loads the certificate, if one is configured.
pub(super) fn load_certificate(config: &Config) -> Result<Option<Tls>, BadConfig> {
    ok_or_print_error(config.tls.as_ref().map(Tls::load).transpose())
}

pub(super) fn ok_or_print_error<T>(result: Result<T, impl Display>) -> Result<T, BadConfig> {
    result.map_err(|error| {
        eprintln!("plugboard: {error}");
        BadConfig
    })
}

/// Returns the environment variables of the process that are UTF-8.
fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

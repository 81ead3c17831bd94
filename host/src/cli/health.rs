//! `plugboard health`: asks a running server whether it is ready for calls.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::{IntoDeserializer, value};
use tokio::runtime;

use super::admin_client;
use super::exit_status::EXIT_BAD_CONFIG;
use super::load_config::load_configuration;
use plugboard_config::{Flags, LoadedConfig};
use plugboard_core::units;
use plugboard_tls::client_roots;

/// Ask a running server whether it is ready for calls.
#[derive(clap::Args)]
#[command(after_help = "It requests /readyz from the admin listener and prints one line. \
                        It asks an address such as 0.0.0.0 on the loopback address.\n\n\
                        The exit status is 0 if the server is ready, 1 if it is not ready or \
                        does not answer, 2 if the command line is invalid, and 78 if the \
                        configuration cannot be read.")]
pub(super) struct HealthCommand {
    /// Address of the admin listener [default: that of the configuration, else 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Configuration file of the server [default: plugboard.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Longest time until the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, value::Error> {
    units::duration::deserialize(text.into_deserializer())
}

impl HealthCommand {
    pub(super) fn run(self) -> ExitCode {
        let Self { admin, config, timeout } = self;
        // Without `admin`: an address of another machine needs no admin_token here.
        let flags = Flags { config, ..Flags::default() };
        // The warnings are in the server's log.
        let Ok(LoadedConfig { config, warnings: _ }) = load_configuration(flags) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let address = admin_client::client_address(admin.unwrap_or(config.admin));
        let ready = request_readiness(address, timeout);
        match ready.and_then(|()| Ok(writeln!(io::stdout(), "ready: {address}")?)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Body of `GET /readyz`.
#[derive(Deserialize)]
struct Readiness {
    status: ReadinessStatus,
    /// Names of the plugins that could not be loaded at the start.
    #[serde(default)]
    broken: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadinessStatus {
    Ok,
    Degraded,
    Stopping,
}

/// Requests `GET /readyz` from the admin listener at this address.
///
/// # Errors
///
/// If the server is not ready, or does not answer in time.
fn request_readiness(address: SocketAddr, timeout: Duration) -> anyhow::Result<()> {
    if address.port() == 0 {
        bail!("the server has selected its admin port itself; name its address with --admin");
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) = runtime.block_on(async {
        let client = admin_client::build(timeout)?;
        let url = format!("http://{address}/readyz");
        let response = async {
            let response = client.get(url).timeout(timeout).send().await?;
            Ok((response.status(), response.bytes().await?))
        };
        response.await.map_err(|error: reqwest::Error| {
            if error.is_timeout() {
                anyhow!("no answer from {address} within {}", units::format_duration(timeout))
            } else {
                anyhow!("no answer from {address}: {}", client_roots::root_cause(&error))
            }
        })
    })?;
    match serde_json::from_slice(&body) {
        Ok(Readiness { status: ReadinessStatus::Ok, .. }) if status == StatusCode::OK => Ok(()),
        Ok(Readiness { status: ReadinessStatus::Stopping, .. }) => {
            bail!("not ready: {address}: the server is stopping")
        }
        Ok(Readiness { status: ReadinessStatus::Degraded, broken }) => {
            bail!("not ready: {address}: broken plugins: {broken:?}")
        }
        _ => bail!("the answer from {address} ({status}) is not that of Plugboard"),
    }
}

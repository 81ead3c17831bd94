//! `plugboard forget`: erases a call through the running server, or in the data folder when no
//! server runs.

use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::absolute;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, redirect, retry};
use serde_json::Value;
use tokio::runtime;

use super::config_args::ConfigArgs;
use super::{EXIT_BAD_CONFIG, load_offline_configuration};
use plugboard_config::Config;
use plugboard_core::call_selector::CallSelector;
use plugboard_server::erasure::{self, ErasedCounts};
use plugboard_store::Store;
use plugboard_store::sqlite::SqliteStore;
use plugboard_tls::client_roots as tls;

/// For a connection to a listener of this machine. The answer may take as long as it
/// takes to read the whole journal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Erase everything that is stored about a call.
#[derive(clap::Args)]
pub(super) struct ForgetCommand {
    /// The call, by the platform's name for it
    call: String,
    /// Only this platform's call of that name (avr and dsai are one platform);
    /// plugins' values go either way
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ForgetCommand {
    pub(super) fn run(self) -> ExitCode {
        let Self { call, platform, config } = self;
        let Ok(config) = load_offline_configuration(config.into()) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let erased = erase_call(&config, &call, platform.as_deref());
        match erased.and_then(|counts| Ok(writeln!(io::stdout(), "{counts}")?)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn erase_call(config: &Config, call: &str, platform: Option<&str>) -> anyhow::Result<ErasedCounts> {
    let call_name = CallSelector::new(call, platform)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match request_erasure(config, call, platform).await? {
            Some(counts) => Ok(counts),
            None => erase_offline(config, &call_name).await,
        }
    })
}

/// Has the server do it. None: there is none.
async fn request_erasure(
    config: &Config,
    call: &str,
    platform: Option<&str>,
) -> anyhow::Result<Option<ErasedCounts>> {
    let address = client_address(config.admin);
    if address.port() == 0 {
        // Whichever it took, nobody knows.
        return Ok(None);
    }
    let builder = || {
        Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
    };
    let (client, _) = tls::build_client(builder).context("cannot prepare connections")?;
    let percent_encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut url = format!("http://{address}/calls/{}", percent_encode(call));
    if let Some(platform) = platform {
        url = format!("{url}?platform={}", percent_encode(platform));
    }
    let mut request = client.delete(url);
    if let Some(token) = &config.admin_token {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        bearer.set_sensitive(true);
        request = request.header(AUTHORIZATION, bearer);
    }
    // The URL has the call's id.
    let response = match request.send().await.map_err(reqwest::Error::without_url) {
        Err(error) if is_connection_refused(&error) => return Ok(None),
        answer => answer.with_context(|| format!("the server at {address} does not answer"))?,
    };
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        bail!("the server at {address} does not take the admin_token of this configuration");
    }
    let body = response.bytes().await.map_err(reqwest::Error::without_url);
    let body = body.with_context(|| format!("the server at {address} broke off its answer"))?;
    if status == StatusCode::OK
        && let Ok(counts) = serde_json::from_slice(&body)
    {
        return Ok(Some(counts));
    }
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    match document.as_ref().and_then(|document| document.pointer("/error/message")?.as_str()) {
        Some(message) => bail!("the server at {address} did not do it ({status}): {message:?}"),
        None => bail!("what answers at {address} ({status}) is not this Plugboard"),
    }
}

/// Where a listener on this address can be reached from here.
fn client_address(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Whether nobody listens there.
fn is_connection_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Does it in the data folder, which nobody else may have.
async fn erase_offline(config: &Config, call: &CallSelector) -> anyhow::Result<ErasedCounts> {
    let (data, admin) = (absolute(&config.data)?, config.admin);
    let file = SqliteStore::database_path(&data);
    let is_there = file.try_exists();
    if !is_there.with_context(|| format!("cannot look for {}", file.display()))? {
        bail!(
            "no server answers at {admin}, and there is no {}; name the configuration of the \
             server that kept the call (--config), or its data folder (--data)",
            file.display()
        );
    }
    let store = SqliteStore::start(&data, config.journal.clone(), config.kv.max_total)?;
    let erased = erasure::erase_offline(&store, call).await;
    store.close().await;
    erased.map_err(|error| {
        anyhow!("{error}; no server answers at {admin}, or it would have been asked to do it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_listener_address_becomes_loopback() {
        let address_for = |address: &str| client_address(address.parse().unwrap()).to_string();
        assert_eq!(address_for("0.0.0.0:9901"), "127.0.0.1:9901");
        assert_eq!(address_for("[::]:9901"), "[::1]:9901");
        assert_eq!(address_for("10.0.0.7:9901"), "10.0.0.7:9901");
    }
}

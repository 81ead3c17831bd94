//! `plugboard erase`: erases a call through the running server, or in the data folder when no
//! server runs.

use std::io::{self, Write};
use std::path::absolute;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;
use tokio::runtime;

use super::admin_client;
use super::config_args::ConfigArgs;
use super::exit_status::EXIT_BAD_CONFIG;
use super::load_config::load_offline_configuration;
use plugboard_config::Config;
use plugboard_core::call_selector::CallSelector;
use plugboard_server::erasure::{self, ErasedCounts};
use plugboard_store::Store;
use plugboard_store::sqlite::SqliteStore;

/// Time limit for the connection. The response has none: it may need to read the whole
/// journal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Erase all stored data of a call.
#[derive(clap::Args)]
#[command(
    after_help = "It asks the running server at the admin address. If no server answers, it \
                        erases the call in the data folder.\n\n\
                        The exit status is 0 if the call is erased, 1 if not or not completely, 2 \
                        if the command line is invalid, and 78 if the configuration cannot be \
                        read."
)]
pub(super) struct EraseCommand {
    /// Id of the call on its platform
    call: String,
    /// Erase only the call of this platform (avr and dsai are one platform). Plugins' values about
    /// the id are erased in any case
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl EraseCommand {
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

/// Asks the server to erase the call. None: no server is running.
async fn request_erasure(
    config: &Config,
    call: &str,
    platform: Option<&str>,
) -> anyhow::Result<Option<ErasedCounts>> {
    let address = admin_client::client_address(config.admin);
    if address.port() == 0 {
        // The server has selected a port, which this process does not know.
        return Ok(None);
    }
    let client = admin_client::build(CONNECT_TIMEOUT)?;
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
    // The errors do not show the URL, because it has the call's id.
    let response = match request.send().await.map_err(reqwest::Error::without_url) {
        Err(error) if admin_client::is_connection_refused(&error) => return Ok(None),
        answer => answer.with_context(|| format!("the server at {address} does not answer"))?,
    };
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        bail!("the server at {address} rejects the admin_token of this configuration");
    }
    let body = response.bytes().await.map_err(reqwest::Error::without_url);
    let body = body.with_context(|| {
        format!("the server at {address} closed the connection during its response")
    })?;
    if status == StatusCode::OK
        && let Ok(counts) = serde_json::from_slice(&body)
    {
        return Ok(Some(counts));
    }
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    match document.as_ref().and_then(|document| document.pointer("/error/message")?.as_str()) {
        Some(message) => {
            bail!("the server at {address} did not erase the call ({status}): {message:?}")
        }
        None => bail!("the response from {address} ({status}) is not that of Plugboard"),
    }
}

/// Erases the call in the data folder. No other process may use the folder.
async fn erase_offline(config: &Config, call: &CallSelector) -> anyhow::Result<ErasedCounts> {
    let (data, admin) = (absolute(&config.data)?, config.admin);
    let file = SqliteStore::database_path(&data);
    let is_there = file.try_exists();
    if !is_there.with_context(|| format!("cannot access {}", file.display()))? {
        bail!(
            "no server answers at {admin}, and {} does not exist; give the configuration of the \
             server that stored the call (--config), or its data folder (--data)",
            file.display()
        );
    }
    let store = SqliteStore::start(&data, config.journal.clone(), config.kv.max_total)?;
    let erased = erasure::erase_offline(&store, call).await;
    store.close().await;
    erased
        .map_err(|error| anyhow!("{error}; no server answers at {admin} that could erase the call"))
}

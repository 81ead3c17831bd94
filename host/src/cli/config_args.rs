//! Arguments that set configuration keys, for the commands that read the whole configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use plugboard_config::Flags;

/// Arguments that override the configuration file and the environment.
#[derive(clap::Args)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: plugboard.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Plugin folder [default: plugins]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Address of the webhook listener; port 0 selects a free port [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the admin listener [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Folder for data that survives restarts [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl From<ConfigArgs> for Flags {
    fn from(args: ConfigArgs) -> Self {
        let ConfigArgs { config, plugins, listen, admin, data } = args;
        Self { config, plugins, listen, admin, data }
    }
}

//! The arguments that set configuration keys, shared by the verbs that read the whole
//! configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use plugboard_config::Flags;

/// Arguments that win over the configuration file and the environment.
#[derive(clap::Args)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: plugboard.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Address for webhooks; port 0 takes a free one [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address for operators [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Folder for what is kept across restarts [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl From<ConfigArgs> for Flags {
    fn from(args: ConfigArgs) -> Self {
        let ConfigArgs { config, plugins, listen, admin, data } = args;
        Self { config, plugins, listen, admin, data }
    }
}

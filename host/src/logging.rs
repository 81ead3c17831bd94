//! Where the program's own words go: standard error, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogConfig, LogFormat};

/// Starts the log.
///
/// # Errors
///
/// When the level is none, or there is a log already.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let level: Targets = config.level.parse()?;
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Human => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(level)).try_init()?;
    Ok(())
}

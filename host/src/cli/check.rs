//! `plugboard check`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::runtime;

use super::{BAD_CONFIG, environment};
use crate::config::{self, Flags, Loaded};
use crate::engine::Engine;
use crate::plugin::Loader;
use crate::registry::{Generation, load_folder};

/// Judge configuration and plugins without serving.
#[derive(clap::Args)]
pub(super) struct Check {
    /// Configuration file [default: plugboard.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let flags = Flags { config: self.config, plugins: self.plugins, ..Flags::default() };
        let Loaded { config, warnings } = match config::load(flags, environment()) {
            Ok(loaded) => loaded,
            Err(error) => {
                eprintln!("plugboard: {error}");
                return ExitCode::from(BAD_CONFIG);
            }
        };
        for warning in warnings {
            eprintln!("plugboard: {warning}");
        }
        match judge(&config).and_then(|generation| Ok(report(&generation)?)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn judge(config: &config::Config) -> anyhow::Result<Generation> {
    let engine = Engine::start(&config.engine, 1)?;
    let loader = Loader::new(engine, config.plugin_limits.clone())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load_folder(&loader, &config.plugins))
}

/// Says what was found, a line each; whether all is well.
fn report(generation: &Generation) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    for plugin in &generation.chain {
        let hooks: Vec<&str> = plugin.hooks.iter().map(|hook| hook.interface()).collect();
        let (name, hooks, size) = (plugin.name(), hooks.join(", "), plugin.size);
        writeln!(out, "ok        {name}: {hooks}, {size} bytes")?;
    }
    for disabled in &generation.disabled {
        writeln!(out, "disabled  {}", disabled.name)?;
    }
    for orphan in &generation.orphans {
        writeln!(out, "orphan    {}: settings without a plugin of that name", orphan.display())?;
    }
    for broken in &generation.broken {
        writeln!(out, "broken    {}: {}", broken.name, broken.error.message)?;
    }
    let (good, bad) = (generation.chain.len(), generation.broken.len());
    writeln!(out, "{good} good, {bad} broken")?;
    Ok(bad == 0 && generation.orphans.is_empty())
}

//! `plugboard check`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::runtime;

use super::{BAD_CONFIG, certificate, environment};
use crate::config::{self, Flags, Loaded};
use crate::engine::{Engine, Purpose};
use crate::metrics::Metrics;
use crate::plugin::Loader;
use crate::registry::{Entry, Generation, Registry};
use crate::reload::{Look, Reconciler};

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
        let tls = match certificate(&config) {
            Ok(tls) => tls,
            Err(error) => {
                eprintln!("plugboard: {error}");
                return ExitCode::from(BAD_CONFIG);
            }
        };
        let end = tls.and_then(|tls| tls.warning(Timestamp::now()));
        for warning in warnings.into_iter().chain(end) {
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

fn judge(config: &config::Config) -> anyhow::Result<Arc<Generation>> {
    let engine = Engine::start(&config.engine, Purpose::Serve { threads: 1 })?;
    let loader = Loader::new(engine, None, None, config)?;
    let registry = Arc::new(Registry::default());
    let folder = config.plugins.clone();
    let witness = Arc::new(Metrics::default());
    let mut reconciler = Reconciler::new(loader, folder, Arc::clone(&registry), witness);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(reconciler.reconcile(Look::Thorough))?;
    Ok(registry.current())
}

/// Says what was found, a line each; whether all is well.
fn report(generation: &Generation) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let (mut good, mut bad) = (0, 0);
    for Entry { name, plugin, error, .. } in &generation.entries {
        match (plugin, error) {
            (_, Some(error)) => {
                bad += 1;
                writeln!(out, "broken    {name}: {}", error.message)?;
            }
            (Some(plugin), None) => {
                good += 1;
                let hooks: Vec<&str> = plugin.hooks().iter().map(|hook| hook.interface()).collect();
                let (hooks, size) = (hooks.join(", "), plugin.size());
                writeln!(out, "ok        {name}: {hooks}, {size} bytes")?;
            }
            (None, None) => writeln!(out, "disabled  {name}")?,
        }
    }
    for orphan in &generation.orphans {
        writeln!(out, "orphan    {}: settings without a plugin of that name", orphan.display())?;
    }
    writeln!(out, "{good} good, {bad} broken")?;
    Ok(bad == 0 && generation.orphans.is_empty())
}

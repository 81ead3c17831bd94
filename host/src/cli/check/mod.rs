//! `plugboard check`: checks a plugin folder as the server would load it, or single files.

mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime;

pub(super) use self::report::PluginDetails;
use super::exit_status::{EXIT_BAD_CONFIG, EXIT_BAD_USAGE};
use super::load_config::{load_certificate, load_offline_configuration, ok_or_print_error};
use plugboard_config::{Config, Flags};
use plugboard_registry::reload;
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::examine::{PluginReport, ReportStatus};
use plugboard_runtime::plugin::recorder::Recorder;
use plugboard_runtime::plugin::{Loader, PluginFiles};

/// Check the configuration and plugins without serving.
#[derive(clap::Args)]
#[command(
    after_help = "With files, it prints a detailed report on each of them. Without, it checks the \
                  configuration and the plugin folder, and prints one line for each plugin.\n\n\
                  The exit status is 0 if everything is valid, 1 if a plugin is broken, 2 if the \
                  command line is invalid, and 78 if the configuration is invalid."
)]
pub(super) struct CheckCommand {
    /// Plugins to check [default: those of the plugin folder]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Settings of the plugin [default: the file of the same name with .toml]
    #[arg(long, value_name = "FILE", requires = "files")]
    settings: Option<PathBuf>,
    /// Configuration file [default: plugboard.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Plugin folder [default: plugins]
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    plugins: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    pub(super) fn run(self) -> ExitCode {
        if self.settings.is_some() && self.files.len() > 1 {
            eprintln!("plugboard: --settings needs exactly one plugin file");
            return ExitCode::from(EXIT_BAD_USAGE);
        }
        let flags = Flags { config: self.config, plugins: self.plugins, ..Flags::default() };
        let Ok(config) = load_offline_configuration(flags) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let is_whole_folder = self.files.is_empty();
        // A check of single files does not need the certificate.
        let tls = if is_whole_folder { load_certificate(&config) } else { Ok(None) };
        let Ok(tls) = tls else { return ExitCode::from(EXIT_BAD_CONFIG) };
        if let Some(warning) = tls.and_then(|tls| tls.expiry_warning(Timestamp::now())) {
            eprintln!("plugboard: {warning}");
        }
        let settings = self.settings;
        let sources_for = |file| PluginFiles::with_settings(file, settings.clone());
        let files = self.files.into_iter().map(sources_for).collect::<Result<Vec<_>, _>>();
        let Ok(files) = ok_or_print_error(files) else { return ExitCode::from(EXIT_BAD_CONFIG) };
        let result = check_plugins(&config, files).and_then(|check_result| {
            match (self.json, is_whole_folder) {
                (true, _) => check_result.write_json()?,
                (false, true) => check_result.write_overview()?,
                (false, false) => check_result.write_details()?,
            }
            Ok(check_result.is_success())
        });
        match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Reports on the checked plugins.
#[derive(Serialize)]
struct CheckResult {
    plugins: Vec<PluginReport>,
    /// Settings without a plugin of their name.
    orphans: Vec<PathBuf>,
}

/// Checks these files, or those of the plugin folder if there are none.
fn check_plugins(config: &Config, files: Vec<PluginFiles>) -> anyhow::Result<CheckResult> {
    let (sources, orphans) = if files.is_empty() {
        let reload::PluginFolder { plugins, orphan_settings: orphans } =
            reload::list_plugins(&config.plugins)?;
        (plugins, orphans)
    } else {
        (files, Vec::new())
    };
    let engine = Engine::start(&config.engine, Purpose::Serve { threads: 1 })?;
    let recorder = Arc::new(Recorder::default());
    let loader = Loader::new(engine, None, None, config)?.with_recorder(recorder);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let plugins = runtime.block_on(async {
        let mut plugins = Vec::with_capacity(sources.len());
        for sources in &sources {
            plugins.push(loader.examine(sources).await);
        }
        plugins
    });
    Ok(CheckResult { plugins, orphans })
}

impl CheckResult {
    fn is_success(&self) -> bool {
        self.orphans.is_empty() && self.count(ReportStatus::Broken) == 0
    }

    fn count(&self, state: ReportStatus) -> usize {
        self.plugins.iter().filter(|plugin| plugin.state == state).count()
    }

    fn write_json(&self) -> anyhow::Result<()> {
        Ok(writeln!(io::stdout(), "{}", serde_json::to_string_pretty(self)?)?)
    }

    /// Writes one line for each plugin.
    fn write_overview(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for plugin in &self.plugins {
            let name = &plugin.name;
            match (plugin.state, &plugin.error) {
                (ReportStatus::Disabled, _) => writeln!(out, "disabled  {name}")?,
                (_, Some(error)) => writeln!(out, "broken    {name}: {}", error.message)?,
                (_, None) => {
                    let hooks: Vec<&str> =
                        plugin.hooks().iter().map(|hook| hook.interface()).collect();
                    let (hooks, size) = (hooks.join(", "), plugin.bytes.unwrap_or_default());
                    writeln!(out, "ok        {name}: {hooks}, {size} bytes")?;
                }
            }
            for warning in &plugin.warnings {
                writeln!(out, "warning   {name}: {warning}")?;
            }
        }
        for orphan in &self.orphans {
            let orphan = orphan.display();
            writeln!(out, "orphan    {orphan}: settings without a plugin of that name")?;
        }
        self.write_totals(&mut out)
    }

    /// Writes the detailed report on each plugin.
    fn write_details(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (nth, plugin) in self.plugins.iter().enumerate() {
            let gap = if nth == 0 { "" } else { "\n" };
            write!(out, "{gap}{}", PluginDetails(plugin))?;
        }
        if self.plugins.len() > 1 {
            writeln!(out)?;
            self.write_totals(&mut out)?;
        }
        Ok(())
    }

    fn write_totals(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{} good, {} broken",
            self.count(ReportStatus::Good),
            self.count(ReportStatus::Broken)
        )
    }
}

//! `plugboard build`: builds crates into components and deploys them to a plugin folder.
//!
//! Before a component is deployed, the loader of the server loads it with its future settings. The
//! checked bytes and settings are then copied.

mod cargo_build;
mod crates;
mod deploy;
mod target;
mod toolchain;
mod validate;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use cargo_metadata::PackageId;

use self::cargo_build::BuiltPlugin;
use self::crates::{FindCratesError, PluginCrate};
use self::deploy::{DeployFolder, DeployName, DeployTarget, SettingsOutcome, is_same_plugin};
use self::toolchain::Toolchain;
use self::validate::PluginValidator;
use super::exit_status::{EXIT_BAD_CONFIG, EXIT_BAD_USAGE};
use super::load_config::load_offline_configuration;
use super::table::format_size;
use plugboard_config::{Config, Flags};
use plugboard_runtime::plugin::PluginFiles;

/// Build plugins, check them with the loader of the server, and deploy them
///
/// Builds with cargo for wasm32-wasip2 in the crate's release profile, and respects $CARGO,
/// $RUSTC, $CARGO_TARGET_DIR and the crate's own toolchain. A running server loads the
/// deployed files at once.
///
/// The exit status is 0 on success, 1 if a plugin could not be built, loaded or deployed (the
/// others were), 2 if there is nothing to build, and 78 if the configuration cannot be read.
#[derive(clap::Args)]
pub(super) struct BuildCommand {
    /// Plugin crates: their folders, folders that contain such crates, or a workspace, for all
    /// of its plugins [default: the crate of the working directory]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Copy the components into this plugin folder, with the settings (NAME.toml beside
    /// Cargo.toml) if the folder has none for the plugin
    #[arg(long, value_name = "DIR")]
    deploy: Option<PathBuf>,
    /// Name of the deployed plugin. Names determine the order in the chain [default: the
    /// plugin's name in the folder, else a number after all others]
    #[arg(long, value_name = "NN-NAME", requires = "deploy")]
    name: Option<DeployName>,
    /// Replace the settings in the plugin folder with those of the crate
    #[arg(long, requires = "deploy")]
    settings: bool,
    /// Keep function names, files and lines for readable backtraces; the component gets larger
    #[arg(long)]
    debug_names: bool,
    /// Install a missing target (rustup target add wasm32-wasip2) without asking
    #[arg(long)]
    yes: bool,
    /// Configuration of the server that loads the plugins [default: plugboard.toml, if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl BuildCommand {
    pub(super) fn run(self) -> ExitCode {
        let flags = Flags { config: self.config.clone(), ..Flags::default() };
        let Ok(config) = load_offline_configuration(flags) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let prepared =
            self.find_crates().and_then(|crates| Ok((crates, self.open_deploy_folder()?)));
        let (crates, deploy_folder) = match prepared {
            Ok(prepared) => prepared,
            Err(FindCratesError::Usage(message)) => {
                eprintln!("plugboard: {message}");
                return ExitCode::from(EXIT_BAD_USAGE);
            }
            Err(FindCratesError::Cargo(error)) => {
                eprintln!("plugboard: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        match self.build(crates, deploy_folder, &config) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn find_crates(&self) -> Result<Vec<PluginCrate>, FindCratesError> {
        let crates = crates::find_plugin_crates(&self.paths)?;
        if let (Some(_), 2..) = (&self.name, crates.len()) {
            let names: Vec<&str> = crates.iter().map(|it| it.name.as_str()).collect();
            let names = names.join(", ");
            return Err(FindCratesError::Usage(format!(
                "--name needs exactly one plugin, not several: {names}"
            )));
        }
        if self.deploy.is_some() {
            reject_duplicate_names(&crates)?;
        }
        Ok(crates)
    }

    fn open_deploy_folder(&self) -> Result<Option<DeployFolder>, FindCratesError> {
        let Some(path) = &self.deploy else { return Ok(None) };
        if path.is_dir() {
            return Ok(Some(DeployFolder::open(path.clone())?));
        }
        let path = path.display();
        Err(FindCratesError::Usage(format!("{path} (--deploy) is not a folder; create it first")))
    }

    /// Builds, checks and deploys all crates. Returns whether all of them succeeded.
    fn build(
        &self,
        crates: Vec<PluginCrate>,
        mut folder: Option<DeployFolder>,
        config: &Config,
    ) -> anyhow::Result<bool> {
        let mut tally = BuildTally::default();
        // The targets are chosen first, so that an error is reported before a long build.
        let mut targets = HashMap::<PackageId, DeployTarget>::new();
        // The order of the arguments determines the order of new plugins in the chain.
        let mut workspaces = Vec::<(PathBuf, Vec<PluginCrate>)>::new();
        for plugin_crate in crates {
            match folder
                .as_mut()
                .map(|folder| folder.choose_target(&plugin_crate.name, self.name.as_ref()))
            {
                Some(Ok(place)) => _ = targets.insert(plugin_crate.id.clone(), place),
                Some(Err(error)) => {
                    tally.count(&plugin_crate, Err(error))?;
                    continue;
                }
                None => {}
            }
            match workspaces.iter_mut().find(|(path, _)| *path == plugin_crate.workspace) {
                Some((_, crates)) => crates.push(plugin_crate),
                None => workspaces.push((plugin_crate.workspace.clone(), vec![plugin_crate])),
            }
        }
        let validator = PluginValidator::new(config)?;
        for (workspace, crates) in &workspaces {
            let toolchain = Toolchain::in_folder(workspace);
            let built = target::ensure_installed(&toolchain, self.yes)
                .and_then(|()| toolchain.build(crates, self.debug_names))
                .map_err(|error| format!("{error:#}"));
            for plugin_crate in crates {
                let result = match built.as_ref().map(|built| built.get(&plugin_crate.id)) {
                    Ok(Some(built)) => self.deploy_built(
                        plugin_crate,
                        built,
                        targets.get(&plugin_crate.id),
                        &validator,
                    ),
                    // Cargo has printed the reason.
                    Ok(None) => Err(anyhow!("cargo did not build it")),
                    Err(error) => Err(anyhow!("{error}")),
                };
                tally.count(plugin_crate, result)?;
            }
        }
        tally.print_summary(folder.is_some(), config)
    }

    /// Checks a component with the loader, and deploys it.
    fn deploy_built(
        &self,
        plugin_crate: &PluginCrate,
        built: &BuiltPlugin,
        target: Option<&DeployTarget>,
        validator: &PluginValidator,
    ) -> anyhow::Result<()> {
        let own_settings = plugin_crate.settings_file();
        let settings = match target {
            Some(place)
                if place.settings().exists() && !(self.settings && own_settings.exists()) =>
            {
                place.settings()
            }
            _ => own_settings.clone(),
        };
        let validated = validator.validate(&PluginFiles { file: built.file.clone(), settings })?;
        let (size, seconds) =
            (format_size(validated.bytes.len() as u64), built.elapsed.as_secs_f64());
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "built     {}: {}, {size}, {seconds:.1} s",
            plugin_crate.name, validated.hooks
        )?;
        let Some(place) = target else {
            writeln!(out, "          {}", built.file.display())?;
            return Ok(());
        };
        let settings_outcome = place.deploy(&validated, self.settings)?;
        writeln!(out, "deployed  {}", place.file().display())?;
        let settings = place.settings();
        let settings = settings.display();
        match settings_outcome {
            SettingsOutcome::None => {}
            SettingsOutcome::Written => writeln!(out, "deployed  {settings}")?,
            SettingsOutcome::Unchanged if own_settings.exists() => {
                writeln!(
                    out,
                    "kept      {settings}: existing settings (--settings replaces them)"
                )?;
            }
            SettingsOutcome::Unchanged => writeln!(out, "kept      {settings}: existing settings")?,
        }
        for other in place.existing_duplicates() {
            let other = other.display();
            writeln!(out, "note      {other} is the same plugin, and also runs")?;
        }
        Ok(())
    }
}

/// Rejects two crates of the same name, because one would replace the other in the folder.
fn reject_duplicate_names(crates: &[PluginCrate]) -> Result<(), FindCratesError> {
    for (nth, plugin_crate) in crates.iter().enumerate() {
        if let Some(duplicate) =
            crates.iter().take(nth).find(|twin| is_same_plugin(&twin.name, &plugin_crate.name))
        {
            return Err(FindCratesError::Usage(format!(
                "{} and {} have the same plugin name; deploy them one at a time, each with its \
                 own --name",
                duplicate.folder.display(),
                plugin_crate.folder.display()
            )));
        }
    }
    Ok(())
}

/// Numbers of crates that succeeded and failed.
#[derive(Default)]
struct BuildTally {
    succeeded: usize,
    failed: usize,
}

impl BuildTally {
    fn count(&mut self, plugin_crate: &PluginCrate, result: anyhow::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => self.succeeded += 1,
            Err(error) => {
                self.failed += 1;
                // Keeps the order of both streams in a terminal.
                io::stdout().flush()?;
                eprintln!("failed    {}: {error:#}", plugin_crate.name);
            }
        }
        Ok(())
    }

    /// Prints the totals. Returns whether all crates succeeded.
    fn print_summary(&self, is_deployed: bool, config: &Config) -> anyhow::Result<bool> {
        let Self { succeeded: good, failed: bad } = *self;
        let mut out = io::stdout().lock();
        if good + bad > 1 {
            writeln!(out, "{good} built, {bad} failed")?;
        }
        if is_deployed && good > 0 {
            writeln!(out, "\nState in the server: curl http://{}/plugins", config.admin)?;
        }
        Ok(bad == 0)
    }
}

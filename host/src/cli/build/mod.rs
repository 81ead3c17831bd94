//! `plugboard build`: from crates to components in a plugin folder. What is deployed was
//! loaded first, with the settings that it will have.

mod crates;
mod deploy;
mod judge;
mod target;
mod toolchain;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use cargo_metadata::PackageId;

use self::crates::{Crate, FindError};
use self::deploy::{Folder, Name, Place, Settled, is_same};
use self::judge::Judge;
use self::toolchain::{Built, Toolchain};
use super::rows::size;
use super::{BAD_CONFIG, BAD_USAGE, offline_configuration};
use crate::config::{Config, Flags};
use crate::plugin::Sources;

/// Build plugins, see whether a server can load them, and deploy them
///
/// Builds with cargo ($CARGO, $RUSTC, $CARGO_TARGET_DIR and the crate's own toolchain
/// count) for wasm32-wasip2, by the crate's release profile. A server that serves the
/// folder takes up what is deployed at once.
///
/// The exit status is 0 when all is well, 1 when a plugin could not be built, loaded or
/// deployed (all others were), 2 when there is nothing to build, 78 when the configuration
/// cannot be read.
#[derive(clap::Args)]
pub(super) struct Build {
    /// Crates of plugins: their folders, or folders with such crates in them; of a
    /// workspace, all of its plugins [default: the crate of the working directory]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Copy what was built into this plugin folder, and the settings (NAME.toml beside
    /// Cargo.toml) when it has none of that plugin
    #[arg(long, value_name = "DIR")]
    deploy: Option<PathBuf>,
    /// Name to deploy under; names make the order of the chain [default: the one that the
    /// plugin has in the folder, else a number after all others]
    #[arg(long, value_name = "NN-NAME", requires = "deploy")]
    name: Option<Name>,
    /// Replace the settings in the plugin folder by those of the crate
    #[arg(long, requires = "deploy")]
    settings: bool,
    /// Keep the names of functions, and files and lines, for readable backtraces; makes a
    /// larger file
    #[arg(long)]
    debug_names: bool,
    /// Install what is missing (rustup target add wasm32-wasip2) without asking
    #[arg(long)]
    yes: bool,
    /// Configuration of the server that is to load them [default: plugboard.toml, if it is
    /// there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Build {
    pub(super) fn run(self) -> ExitCode {
        let flags = Flags { config: self.config.clone(), ..Flags::default() };
        let Some(config) = offline_configuration(flags) else {
            return ExitCode::from(BAD_CONFIG);
        };
        let prepared = self.crates().and_then(|crates| Ok((crates, self.folder()?)));
        let (crates, folder) = match prepared {
            Ok(prepared) => prepared,
            Err(FindError::Usage(message)) => {
                eprintln!("plugboard: {message}");
                return ExitCode::from(BAD_USAGE);
            }
            Err(FindError::Cargo(error)) => {
                eprintln!("plugboard: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        match self.build(crates, folder, &config) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn crates(&self) -> Result<Vec<Crate>, FindError> {
        let crates = crates::find(&self.paths)?;
        if let (Some(_), 2..) = (&self.name, crates.len()) {
            let names: Vec<&str> = crates.iter().map(|it| it.name.as_str()).collect();
            let names = names.join(", ");
            return Err(FindError::Usage(format!(
                "--name is for one plugin, and there are several: {names}"
            )));
        }
        if self.deploy.is_some() {
            refuse_twins(&crates)?;
        }
        Ok(crates)
    }

    fn folder(&self) -> Result<Option<Folder>, FindError> {
        let Some(path) = &self.deploy else { return Ok(None) };
        if path.is_dir() {
            return Ok(Some(Folder::open(path.clone())?));
        }
        let path = path.display();
        Err(FindError::Usage(format!("{path} (--deploy) is no folder; make it if it is to be one")))
    }

    /// Builds, judges and deploys all; whether all went well.
    fn build(
        &self,
        crates: Vec<Crate>,
        mut folder: Option<Folder>,
        config: &Config,
    ) -> anyhow::Result<bool> {
        let mut tally = Tally::default();
        // Before anything is built, as it may not be for nothing.
        let mut places = HashMap::<PackageId, Place>::new();
        // In the order that was given, which makes that of new plugins in the chain.
        let mut workspaces = Vec::<(PathBuf, Vec<Crate>)>::new();
        for it in crates {
            match folder.as_mut().map(|folder| folder.place(&it.name, self.name.as_ref())) {
                Some(Ok(place)) => _ = places.insert(it.id.clone(), place),
                Some(Err(error)) => {
                    tally.count(&it, Err(error))?;
                    continue;
                }
                None => {}
            }
            match workspaces.iter_mut().find(|(workspace, _)| *workspace == it.workspace) {
                Some((_, crates)) => crates.push(it),
                None => workspaces.push((it.workspace.clone(), vec![it])),
            }
        }
        let judge = Judge::new(config)?;
        for (workspace, crates) in &workspaces {
            let toolchain = Toolchain::of(workspace);
            let built = target::ensure(&toolchain, self.yes)
                .and_then(|()| toolchain.build(crates, self.debug_names))
                .map_err(|error| format!("{error:#}"));
            for it in crates {
                let done = match built.as_ref().map(|built| built.get(&it.id)) {
                    Ok(Some(built)) => self.finish(it, built, places.get(&it.id), &judge),
                    // Cargo has said why.
                    Ok(None) => Err(anyhow!("it was not built")),
                    Err(why) => Err(anyhow!("{why}")),
                };
                tally.count(it, done)?;
            }
        }
        tally.tell(folder.is_some(), config)
    }

    /// Judges what was built, and deploys it.
    fn finish(
        &self,
        it: &Crate,
        built: &Built,
        place: Option<&Place>,
        judge: &Judge,
    ) -> anyhow::Result<()> {
        let own = it.settings();
        let settings = match place {
            Some(place) if place.settings().exists() && !(self.settings && own.exists()) => {
                place.settings()
            }
            _ => own.clone(),
        };
        let judged = judge.judge(&Sources { file: built.file.clone(), settings })?;
        let (size, seconds) = (size(judged.bytes.len() as u64), built.took.as_secs_f64());
        let mut out = io::stdout().lock();
        writeln!(out, "built     {}: {}, {size}, {seconds:.1} s", it.name, judged.hooks)?;
        let Some(place) = place else {
            writeln!(out, "          {}", built.file.display())?;
            return Ok(());
        };
        let settled = place.put(&judged, self.settings)?;
        writeln!(out, "deployed  {}", place.file().display())?;
        let settings = place.settings();
        let settings = settings.display();
        match settled {
            Settled::None => {}
            Settled::Written => writeln!(out, "deployed  {settings}")?,
            Settled::Kept if own.exists() => {
                writeln!(out, "kept      {settings}: the server's own (--settings replaces it)")?;
            }
            Settled::Kept => writeln!(out, "kept      {settings}: the server's own")?,
        }
        for other in place.others() {
            let other = other.display();
            writeln!(out, "note      {other} is the same plugin, and is asked as well")?;
        }
        Ok(())
    }
}

/// In a folder, one of the name would take the other's place.
fn refuse_twins(crates: &[Crate]) -> Result<(), FindError> {
    for (nth, it) in crates.iter().enumerate() {
        if let Some(twin) = crates.iter().take(nth).find(|twin| is_same(&twin.name, &it.name)) {
            return Err(FindError::Usage(format!(
                "{} and {} have one name, and a plugin folder has one place for it: deploy them \
                 one at a time, each by --name",
                twin.folder.display(),
                it.folder.display()
            )));
        }
    }
    Ok(())
}

/// What came of the crates.
#[derive(Default)]
struct Tally {
    good: usize,
    bad: usize,
}

impl Tally {
    fn count(&mut self, it: &Crate, done: anyhow::Result<()>) -> io::Result<()> {
        match done {
            Ok(()) => self.good += 1,
            Err(error) => {
                self.bad += 1;
                // In the order in which it happened, where both are one terminal.
                io::stdout().flush()?;
                eprintln!("failed    {}: {error:#}", it.name);
            }
        }
        Ok(())
    }

    /// Says what came of all; whether all went well.
    fn tell(&self, is_deployed: bool, config: &Config) -> anyhow::Result<bool> {
        let Self { good, bad } = *self;
        let mut out = io::stdout().lock();
        if good + bad > 1 {
            writeln!(out, "{good} built, {bad} failed")?;
        }
        if is_deployed && good > 0 {
            writeln!(out, "\nWhat the server makes of it: curl http://{}/plugins", config.admin)?;
        }
        Ok(bad == 0)
    }
}

//! `plugboard new`: writes the crate of a working plugin, for its author to change.

mod name;
mod sdk;
mod template;

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use tempfile::TempDir;

use self::name::CrateName;
use self::sdk::Sdk;
use self::template::TemplateKind;

/// Make a new plugin: a crate with tests, settings, and events to try it with
///
/// It works as it stands: test it with `cargo test`, then build and deploy it with
/// `plugboard build`. The exit status is 0, or 1 when it cannot be made (then nothing of
/// it is left), or 2 when its name cannot be one.
#[derive(clap::Args)]
pub(super) struct NewCommand {
    /// Its name, and that of its folder: lowercase letters, digits, `-` and `_`
    name: CrateName,
    /// What it does
    #[arg(long, value_enum, default_value_t = TemplateKind::Router)]
    kind: TemplateKind,
    /// Make its folder in this one [default: the working directory]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Folder of the crate plugboard-sdk [default: that of the repository that this
    /// program was built in, or is started from, if it is there, else the published
    /// version]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

impl NewCommand {
    pub(super) fn run(self) -> ExitCode {
        let Self { name, kind, path, sdk } = self;
        let folder = path.unwrap_or_default().join(name.package());
        let created = create_crate(&name, kind, &folder, sdk.as_deref());
        match created.and_then(|()| Ok(print_next_steps(&name, kind, &folder)?)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Makes the folder, whole or not at all.
fn create_crate(
    name: &CrateName,
    kind: TemplateKind,
    folder: &Path,
    sdk: Option<&Path>,
) -> anyhow::Result<()> {
    let shown = folder.display();
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => bail!("{shown} is there already, and is not empty; nothing was changed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!("{shown} is there already, and is no folder; nothing was changed")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look into {shown}")),
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize();
    let parent = parent.with_context(|| format!("cannot make {shown}: there is no such folder"))?;
    let sdk = Sdk::find(sdk)?;
    if let Sdk::Published(version) = sdk {
        eprintln!(
            "plugboard: no sources of plugboard-sdk were found on this machine, so Cargo.toml asks \
             for its published version {version}; --sdk names a folder that has them"
        );
    }
    // Gone again if anything fails before it has its name.
    let staging = temporary_folder(&parent).with_context(|| format!("cannot make {shown}"))?;
    let requirement = sdk.requirement(&parent.join(name.package()))?;
    for (file, text) in template::render_files(name, kind, &requirement) {
        write(&staging.path().join(file), &text)?;
    }
    if let Some(lock) = sdk.lock_file() {
        // The versions that the SDK was tested with, which this machine may have at
        // hand. Cargo takes out those that are not needed.
        write(&staging.path().join("Cargo.lock"), &lock)?;
    }
    // An empty folder is replaced; one that got files in the meantime is not.
    fs::rename(staging.path(), folder).with_context(|| format!("cannot make {shown}"))?;
    _ = staging.keep();
    Ok(())
}

/// A folder beside the one that it shall become, with the usual permissions.
fn temporary_folder(parent: &Path) -> io::Result<TempDir> {
    let usual = Permissions::from_mode(0o777);
    tempfile::Builder::new().prefix(".plugboard-new-").permissions(usual).tempdir_in(parent)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn print_next_steps(name: &CrateName, kind: TemplateKind, folder: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Made {}: {}. Next:\n", folder.display(), kind.summary())?;
    writeln!(out, "  cd {}", folder.display())?;
    writeln!(out, "  cargo test")?;
    writeln!(out, "  plugboard build --deploy DIR     # DIR: the plugin folder of a server\n")?;
    writeln!(out, "Its place to change is src/lib.rs; its settings are {}.toml.", name.package())
}

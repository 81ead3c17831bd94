//! `plugboard new`: creates the crate of a working plugin from a template.

mod embedded;
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

/// Create a plugin: a crate with tests, settings and sample events
///
/// The plugin works without changes: test it with `cargo test`, then build and deploy it with
/// `plugboard build`.
///
/// The exit status is 0 on success, 1 if the crate cannot be created (no files remain), and 2
/// if the name is invalid.
#[derive(clap::Args)]
pub(super) struct NewCommand {
    /// Name of the plugin and of its folder: lowercase letters, digits, `-` and `_`
    name: CrateName,
    /// Hooks of the plugin
    #[arg(long, value_enum, default_value_t = TemplateKind::Router)]
    kind: TemplateKind,
    /// Folder in which to create it [default: the working directory]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Folder of the crate plugboard-sdk [default: that of the repository, if this program
    /// or the working directory is in it, else a copy in vendor/plugboard-sdk of the plugin]
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

/// Creates the folder of the crate, completely or not at all.
fn create_crate(
    name: &CrateName,
    kind: TemplateKind,
    folder: &Path,
    sdk: Option<&Path>,
) -> anyhow::Result<()> {
    let shown = folder.display();
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => bail!("{shown} already exists and is not empty; nothing was changed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!("{shown} already exists and is not a folder; nothing was changed")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize();
    let parent = parent
        .with_context(|| format!("cannot create {shown}: cannot access its parent folder"))?;
    let sdk = Sdk::find(sdk)?;
    // Removed on drop, unless the rename succeeds.
    let staging = temporary_folder(&parent).with_context(|| format!("cannot create {shown}"))?;
    let requirement = sdk.requirement(&parent.join(name.package()))?;
    for (file, text) in template::render_files(name, kind, &requirement) {
        write(&staging.path().join(file), &text)?;
    }
    if sdk == Sdk::Embedded {
        for (file, text) in embedded::files()? {
            write(&staging.path().join(embedded::FOLDER).join(file), &text)?;
        }
    }
    if let Some(lock) = sdk.lock_file() {
        // The versions with which the SDK is tested; this machine may already have them.
        // Cargo removes those that are not needed.
        write(&staging.path().join("Cargo.lock"), &lock)?;
    }
    // The rename replaces an empty folder, and fails if it has files in the meantime.
    fs::rename(staging.path(), folder).with_context(|| format!("cannot create {shown}"))?;
    _ = staging.keep();
    Ok(())
}

/// Creates a temporary folder beside the final one, with the usual permissions.
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
    writeln!(out, "Created {}: {}. Next:\n", folder.display(), kind.summary())?;
    writeln!(out, "  cd {}", folder.display())?;
    writeln!(out, "  cargo test")?;
    writeln!(out, "  plugboard build --deploy DIR     # DIR: the plugin folder of a server\n")?;
    writeln!(out, "The code is in src/lib.rs, the settings are in {}.toml.", name.package())
}

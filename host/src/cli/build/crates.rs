//! Which crates there are to build, as cargo sees them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};
use thiserror::Error;

use super::toolchain::Toolchain;

/// What a plugin of ours depends on.
const SDK: &str = "plugboard-sdk";

/// A crate that a plugin is built of.
#[derive(Debug)]
pub(super) struct Crate {
    /// The package's name, which is the plugin's.
    pub(super) name: String,
    /// As cargo calls it.
    pub(super) id: PackageId,
    /// Where its manifest is.
    pub(super) folder: PathBuf,
    /// The folder of the workspace that it is in.
    pub(super) workspace: PathBuf,
}

impl Crate {
    /// Where its settings are, if it has any.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }
}

/// Why there is nothing to build.
#[derive(Debug, Error)]
pub(super) enum FindError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// Cargo cannot say.
    #[error(transparent)]
    Cargo(#[from] anyhow::Error),
}

/// The plugins at these paths, each once; without a path, that of the working directory
/// or of a folder around it.
///
/// # Errors
///
/// When a path leads to no plugin, or to a crate that cargo cannot read.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<Crate>, FindError> {
    let mut crates = Vec::<Crate>::new();
    let mut seen = BTreeSet::new();
    let mut add = |found: Vec<Crate>| {
        crates.extend(found.into_iter().filter(|it| seen.insert(it.folder.clone())));
    };
    if paths.is_empty() {
        let here = std::env::current_dir().context("there is no working directory")?;
        let manifest = here.ancestors().map(manifest_in).find(|manifest| manifest.is_file());
        match manifest {
            Some(manifest) => add(in_crate(&manifest)?),
            None => add(in_folder(&here)?),
        }
    }
    for path in paths {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(usage(path, "is not there"));
            }
            Err(error) => {
                return Err(anyhow!(error)
                    .context(format!("cannot read {}", path.display()))
                    .into());
            }
        };
        if manifest_in(&real).is_file() {
            add(in_crate(&manifest_in(&real))?);
        } else if real.is_dir() {
            add(in_folder(&real)?);
        } else if real.file_name().is_some_and(|name| name == "Cargo.toml") {
            add(in_crate(&real)?);
        } else {
            return Err(usage(path, "is neither a folder nor a Cargo.toml"));
        }
    }
    Ok(crates)
}

fn usage(path: &Path, what: &str) -> FindError {
    FindError::Usage(format!("{} {what}", path.display()))
}

fn manifest_in(folder: &Path) -> PathBuf {
    folder.join("Cargo.toml")
}

/// The plugins in the folders of a folder that is no crate itself.
fn in_folder(folder: &Path) -> Result<Vec<Crate>, FindError> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let manifests: BTreeSet<PathBuf> = entries
        .flatten()
        .map(|entry| manifest_in(&entry.path()))
        .filter(|manifest| manifest.is_file())
        .collect();
    let mut crates = Vec::new();
    for manifest in manifests {
        crates.extend(plugins_of(&manifest)?.unwrap_or_default());
    }
    if crates.is_empty() {
        return Err(usage(
            folder,
            "has no plugin in it: neither it nor a folder in it has a Cargo.toml that depends on \
             plugboard-sdk; `plugboard new` makes one",
        ));
    }
    Ok(crates)
}

/// The plugin that a manifest is of, or those of its workspace.
fn in_crate(manifest: &Path) -> Result<Vec<Crate>, FindError> {
    plugins_of(manifest)?.filter(|plugins| !plugins.is_empty()).ok_or_else(|| {
        usage(
            manifest,
            "is of no plugin: a plugin depends on plugboard-sdk, and has \
             `crate-type = [\"cdylib\", \"rlib\"]` under [lib]",
        )
    })
}

/// None: it is of a crate that is something else.
fn plugins_of(manifest: &Path) -> anyhow::Result<Option<Vec<Crate>>> {
    let metadata = metadata(manifest)?;
    let workspace = metadata.workspace_root.as_std_path();
    let of = |package: &Package| Crate {
        name: package.name.to_string(),
        id: package.id.clone(),
        folder: folder_of(package.manifest_path.as_std_path()),
        workspace: workspace.to_owned(),
    };
    let is_it = |package: &&Package| package.manifest_path.as_std_path() == manifest;
    match metadata.packages.iter().find(is_it) {
        Some(package) if is_plugin(package) => Ok(Some(vec![of(package)])),
        Some(_) if workspace != folder_of(manifest) => Ok(None),
        _ => {
            let members = metadata.workspace_packages().into_iter();
            Ok(Some(members.filter(|package| is_plugin(package)).map(of).collect()))
        }
    }
}

fn folder_of(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn is_plugin(package: &Package) -> bool {
    // Its library: an example can be one, too.
    package.targets.iter().any(|target| target.is_cdylib())
        && package.dependencies.iter().any(|dependency| dependency.name == SDK)
}

/// What cargo says of a manifest's workspace.
fn metadata(manifest: &Path) -> anyhow::Result<Metadata> {
    let mut ask = MetadataCommand::new().manifest_path(manifest).no_deps().cargo_command();
    Toolchain::of(&folder_of(manifest)).prepare(&mut ask);
    let answer = ask.output().context("cannot start cargo; plugins are built with it")?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(anyhow!("cargo cannot read {}:\n{}", manifest.display(), said.trim_end()));
    }
    let answer = String::from_utf8_lossy(&answer.stdout);
    MetadataCommand::parse(answer).with_context(|| {
        format!("what cargo says of {} is not what was expected", manifest.display())
    })
}

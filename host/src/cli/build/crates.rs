//! Finds the crates to build, through `cargo metadata`.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};
use thiserror::Error;

use super::toolchain::Toolchain;

/// What a plugin of ours depends on.
const SDK_PACKAGE: &str = "plugboard-sdk";

/// A crate that a plugin is built of.
#[derive(Debug)]
pub(super) struct PluginCrate {
    /// The package's name, which is the plugin's.
    pub(super) name: String,
    /// As cargo calls it.
    pub(super) id: PackageId,
    /// Where its manifest is.
    pub(super) folder: PathBuf,
    /// The folder of the workspace that it is in.
    pub(super) workspace: PathBuf,
}

impl PluginCrate {
    /// Where its settings are, if it has any.
    pub(super) fn settings_file(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }
}

/// Why there is nothing to build.
#[derive(Debug, Error)]
pub(super) enum FindCratesError {
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
pub(super) fn find_plugin_crates(paths: &[PathBuf]) -> Result<Vec<PluginCrate>, FindCratesError> {
    let mut crates = Vec::<PluginCrate>::new();
    let mut seen_folders = BTreeSet::new();
    let mut add = |candidates: Vec<PluginCrate>| {
        crates.extend(candidates.into_iter().filter(|it| seen_folders.insert(it.folder.clone())));
    };
    if paths.is_empty() {
        let here = std::env::current_dir().context("there is no working directory")?;
        let manifest = here.ancestors().map(manifest_path).find(|manifest| manifest.is_file());
        match manifest {
            Some(manifest) => add(crates_of_manifest(&manifest)?),
            None => add(crates_in_folder(&here)?),
        }
    }
    for path in paths {
        let canonical = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(usage_error(path, "is not there"));
            }
            Err(error) => {
                return Err(anyhow!(error)
                    .context(format!("cannot read {}", path.display()))
                    .into());
            }
        };
        if manifest_path(&canonical).is_file() {
            add(crates_of_manifest(&manifest_path(&canonical))?);
        } else if canonical.is_dir() {
            add(crates_in_folder(&canonical)?);
        } else if canonical.file_name().is_some_and(|name| name == "Cargo.toml") {
            add(crates_of_manifest(&canonical)?);
        } else {
            return Err(usage_error(path, "is neither a folder nor a Cargo.toml"));
        }
    }
    Ok(crates)
}

fn usage_error(path: &Path, problem: &str) -> FindCratesError {
    FindCratesError::Usage(format!("{} {problem}", path.display()))
}

fn manifest_path(folder: &Path) -> PathBuf {
    folder.join("Cargo.toml")
}

/// The plugins in the folders of a folder that is no crate itself.
fn crates_in_folder(folder: &Path) -> Result<Vec<PluginCrate>, FindCratesError> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let manifests: BTreeSet<PathBuf> = entries
        .flatten()
        .map(|entry| manifest_path(&entry.path()))
        .filter(|manifest| manifest.is_file())
        .collect();
    let mut crates = Vec::new();
    for manifest in manifests {
        crates.extend(read_plugin_crates(&manifest)?.unwrap_or_default());
    }
    if crates.is_empty() {
        return Err(usage_error(
            folder,
            "has no plugin in it: neither it nor a folder in it has a Cargo.toml that depends on \
             plugboard-sdk; `plugboard new` makes one",
        ));
    }
    Ok(crates)
}

/// The plugin that a manifest is of, or those of its workspace.
fn crates_of_manifest(manifest: &Path) -> Result<Vec<PluginCrate>, FindCratesError> {
    read_plugin_crates(manifest)?.filter(|plugins| !plugins.is_empty()).ok_or_else(|| {
        usage_error(
            manifest,
            "is of no plugin: a plugin depends on plugboard-sdk, and has \
             `crate-type = [\"cdylib\", \"rlib\"]` under [lib]",
        )
    })
}

/// None: it is of a crate that is something else.
fn read_plugin_crates(manifest: &Path) -> anyhow::Result<Option<Vec<PluginCrate>>> {
    let metadata = read_metadata(manifest)?;
    let workspace = metadata.workspace_root.as_std_path();
    let to_plugin_crate = |package: &Package| PluginCrate {
        name: package.name.to_string(),
        id: package.id.clone(),
        folder: parent_folder(package.manifest_path.as_std_path()),
        workspace: workspace.to_owned(),
    };
    let has_this_manifest = |package: &&Package| package.manifest_path.as_std_path() == manifest;
    match metadata.packages.iter().find(has_this_manifest) {
        Some(package) if is_plugin(package) => Ok(Some(vec![to_plugin_crate(package)])),
        Some(_) if workspace != parent_folder(manifest) => Ok(None),
        _ => {
            let members = metadata.workspace_packages().into_iter();
            Ok(Some(members.filter(|package| is_plugin(package)).map(to_plugin_crate).collect()))
        }
    }
}

fn parent_folder(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn is_plugin(package: &Package) -> bool {
    // Its library: an example can be one, too.
    package.targets.iter().any(|target| target.is_cdylib())
        && package.dependencies.iter().any(|dependency| dependency.name == SDK_PACKAGE)
}

/// What cargo says of a manifest's workspace.
fn read_metadata(manifest: &Path) -> anyhow::Result<Metadata> {
    let mut command = MetadataCommand::new().manifest_path(manifest).no_deps().cargo_command();
    Toolchain::in_folder(&parent_folder(manifest)).configure(&mut command);
    let output = command.output().context("cannot start cargo; plugins are built with it")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("cargo cannot read {}:\n{}", manifest.display(), stderr.trim_end()));
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    MetadataCommand::parse(answer).with_context(|| {
        format!("what cargo says of {} is not what was expected", manifest.display())
    })
}

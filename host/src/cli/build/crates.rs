//! Finds the crates to build, through `cargo metadata`.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};
use thiserror::Error;

use super::toolchain::Toolchain;

/// Package that every plugin depends on.
const SDK_PACKAGE: &str = "plugboard-sdk";

/// Crate of a plugin.
#[derive(Debug)]
pub(super) struct PluginCrate {
    /// Name of the package, which is the name of the plugin.
    pub(super) name: String,
    /// Id of the package in cargo's messages.
    pub(super) id: PackageId,
    /// Folder of its manifest.
    pub(super) folder: PathBuf,
    /// Folder of its workspace.
    pub(super) workspace: PathBuf,
}

impl PluginCrate {
    /// Returns the path of its settings, which are optional.
    pub(super) fn settings_file(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }
}

/// Error of the search for plugin crates.
#[derive(Debug, Error)]
pub(super) enum FindCratesError {
    /// The arguments are invalid.
    #[error("{0}")]
    Usage(String),
    /// Cargo failed, or a folder cannot be read.
    #[error(transparent)]
    Cargo(#[from] anyhow::Error),
}

/// Returns the plugins at these paths, each once. Without a path, it returns the plugin of
/// the working directory or of a folder above it.
///
/// # Errors
///
/// If a path has no plugin, or cargo cannot read a crate.
pub(super) fn find_plugin_crates(paths: &[PathBuf]) -> Result<Vec<PluginCrate>, FindCratesError> {
    let mut crates = Vec::<PluginCrate>::new();
    let mut seen_folders = BTreeSet::new();
    let mut add = |candidates: Vec<PluginCrate>| {
        crates.extend(candidates.into_iter().filter(|it| seen_folders.insert(it.folder.clone())));
    };
    if paths.is_empty() {
        let here = std::env::current_dir().context("cannot determine the working directory")?;
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
                return Err(usage_error(path, "does not exist"));
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

/// Returns the plugins in the subfolders of a folder that is not a crate.
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
            "contains no plugin: neither the folder nor its subfolders have a Cargo.toml that \
             depends on plugboard-sdk; create a plugin with `plugboard new`",
        ));
    }
    Ok(crates)
}

/// Returns the plugin of a manifest, or the plugins of its workspace.
fn crates_of_manifest(manifest: &Path) -> Result<Vec<PluginCrate>, FindCratesError> {
    read_plugin_crates(manifest)?.filter(|plugins| !plugins.is_empty()).ok_or_else(|| {
        usage_error(
            manifest,
            "is not the manifest of a plugin: a plugin depends on plugboard-sdk, and has \
             `crate-type = [\"cdylib\", \"rlib\"]` under [lib]",
        )
    })
}

/// Returns the plugins of a manifest or of its workspace. None: the crate is not a plugin.
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
    // Only the library counts: an example can be a cdylib as well.
    package.targets.iter().any(|target| target.is_cdylib())
        && package.dependencies.iter().any(|dependency| dependency.name == SDK_PACKAGE)
}

/// Returns the metadata of a manifest's workspace.
fn read_metadata(manifest: &Path) -> anyhow::Result<Metadata> {
    let mut command = MetadataCommand::new().manifest_path(manifest).no_deps().cargo_command();
    Toolchain::in_folder(&parent_folder(manifest)).configure(&mut command);
    let output = command.output().context("cannot start cargo, which builds the plugins")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("cargo cannot read {}:\n{}", manifest.display(), stderr.trim_end()));
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    MetadataCommand::parse(answer).with_context(|| {
        format!("cannot parse the output of `cargo metadata` for {}", manifest.display())
    })
}

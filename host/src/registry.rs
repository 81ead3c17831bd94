//! Generations: the immutable set of plugins that answers a request.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::plugin::error::PluginError;
use crate::plugin::stats::LastError;
use crate::plugin::{Loader, Plugin, Sources};

/// All that a request needs to know about plugins.
pub struct Generation {
    /// Which one it is, counted from 1.
    pub number: u64,
    /// The plugins that can be asked, in the order of their file names.
    pub chain: Vec<Arc<Plugin>>,
    /// The plugins that cannot, and why.
    pub broken: Vec<Broken>,
    /// Those that the operator switched off.
    pub disabled: Vec<Disabled>,
    /// Settings without a plugin of their name.
    pub orphans: Vec<PathBuf>,
}

/// A plugin with `enabled = false`.
pub struct Disabled {
    /// The plugin's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
}

/// A file in the folder that is not in the chain although it should be.
pub struct Broken {
    /// The plugin's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Why.
    pub error: LastError,
}

/// Loads every plugin of a folder. One that is broken does not stop the others.
///
/// # Errors
///
/// When the folder itself cannot be read.
pub async fn load_folder(loader: &Loader, folder: &Path) -> anyhow::Result<Generation> {
    let Listing { plugins, orphans } = list(folder)?;
    for orphan in &orphans {
        tracing::warn!(file = ?orphan, "settings without a plugin of that name");
    }
    let (chain, broken, disabled) = (Vec::new(), Vec::new(), Vec::new());
    let mut generation = Generation { number: 1, chain, broken, disabled, orphans };
    for sources in plugins {
        let name = sources.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match load(loader, &sources).await {
            Ok(Some(plugin)) => generation.chain.push(Arc::new(plugin)),
            Ok(None) => generation.disabled.push(Disabled { name, file: sources.file }),
            Err(error) => {
                tracing::error!(
                    plugin = ?name,
                    error = error.label(),
                    stage = error.stage().name(),
                    "plugin is not loaded: {error}"
                );
                let error = LastError::from(&error);
                generation.broken.push(Broken { name, file: sources.file, error });
            }
        }
    }
    Ok(generation)
}

async fn load(loader: &Loader, sources: &Sources) -> Result<Option<Plugin>, PluginError> {
    let settings = loader.settings(sources).await?;
    if !settings.enabled {
        return Ok(None);
    }
    loader.load(sources, settings).await.map(Some)
}

/// What is in a folder.
struct Listing {
    plugins: Vec<Sources>,
    orphans: Vec<PathBuf>,
}

/// The plugins in a folder, in the order of their file names. Hidden files are
/// those of editors and copy tools.
fn list(folder: &Path) -> anyhow::Result<Listing> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the plugin folder {}", folder.display()))?;
    let mut files = BTreeSet::new();
    let mut settings = BTreeSet::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        match path.extension().and_then(OsStr::to_str) {
            _ if hidden => {}
            // Loading says why it cannot be used.
            Some("wasm" | "cwasm") => _ = files.insert(path),
            Some("toml") => _ = settings.insert(path),
            _ => {}
        }
    }
    settings.retain(|path| !files.contains(&path.with_extension("wasm")));
    let plugins = files.into_iter().map(Sources::beside).collect();
    Ok(Listing { plugins, orphans: settings.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_come_in_the_order_of_their_names_and_others_are_left() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "20-b.wasm",
            "10-a.wasm",
            "10-a.toml",
            "10-aa.toml",
            ".hidden.wasm",
            "notes.txt",
            "9.wasm",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let Listing { plugins, orphans } = list(folder.path()).unwrap();
        let names: Vec<_> = plugins.iter().map(|sources| sources.name().unwrap()).collect();
        assert_eq!(names, ["10-a", "20-b", "9"]);
        assert_eq!(plugins[0].settings, folder.path().join("10-a.toml"));
        assert_eq!(orphans, [folder.path().join("10-aa.toml")]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = format!("{:#}", list(Path::new("/nowhere/plugins")).err().unwrap());
        assert!(error.contains("/nowhere/plugins"), "{error}");
    }
}

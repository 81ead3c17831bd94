//! Listing of a plugin folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use plugboard_runtime::plugin::PluginFiles;

/// The contents of a plugin folder.
pub struct PluginFolder {
    /// The plugins, in the order of their file names.
    pub plugins: Vec<PluginFiles>,
    /// Settings files without a plugin of the same name.
    pub orphan_settings: Vec<PathBuf>,
}

/// Lists the plugins in a folder. Skips hidden files, which belong to editors and copy tools.
/// Blocks the thread.
///
/// # Errors
///
/// Fails if the folder cannot be read.
pub fn list_plugins(folder: &Path) -> anyhow::Result<PluginFolder> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the plugin folder {}", folder.display()))?;
    let mut files = BTreeSet::new();
    let mut settings = BTreeSet::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let is_hidden =
            path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        match path.extension().and_then(OsStr::to_str) {
            _ if is_hidden => {}
            // The loader reports the error of an unusable file.
            Some("wasm" | "cwasm") => _ = files.insert(path),
            Some("toml") => _ = settings.insert(path),
            _ => {}
        }
    }
    settings.retain(|path| !files.contains(&path.with_extension("wasm")));
    let plugins = files.into_iter().map(PluginFiles::with_adjacent_settings).collect();
    Ok(PluginFolder { plugins, orphan_settings: settings.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_listed_in_file_name_order() {
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
        let PluginFolder { plugins, orphan_settings: orphans } =
            list_plugins(folder.path()).unwrap();
        let names: Vec<_> = plugins.iter().map(|sources| sources.name().unwrap()).collect();
        assert_eq!(names, ["10-a", "20-b", "9"]);
        assert_eq!(plugins[0].settings, folder.path().join("10-a.toml"));
        assert_eq!(orphans, [folder.path().join("10-aa.toml")]);
    }

    #[test]
    fn missing_folder_is_named_in_error() {
        let error = format!("{:#}", list_plugins(Path::new("/nowhere/plugins")).err().unwrap());
        assert!(error.contains("/nowhere/plugins"), "{error}");
    }
}

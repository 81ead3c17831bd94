//! What is in a plugin folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::plugin::Sources;

/// What is in a folder.
pub struct Listing {
    /// In the order of their file names.
    pub plugins: Vec<Sources>,
    /// Settings without a plugin of their name.
    pub orphans: Vec<PathBuf>,
}

/// The plugins in a folder. Hidden files are those of editors and copy tools.
/// Blocks.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn list(folder: &Path) -> anyhow::Result<Listing> {
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

//! Copy of the SDK in the program.
//!
//! It makes `plugboard new` independent of the repository and of a published version. The copy is
//! the folder `guest-sdk`, in which `wit` and the licenses are symbolic links. Its manifest
//! inherits keys from the workspace; [`files`] fills them in.

use std::path::{Path, PathBuf};

use anyhow::Context;
use include_dir::{Dir, File, include_dir};
use toml::{Table, Value};

/// Folder of the SDK in the crate of a plugin.
pub(super) const FOLDER: &str = "vendor/plugboard-sdk";

/// Versions of dependencies with which the SDK is tested.
pub(super) const LOCK_FILE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));

static SOURCES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");

const WORKSPACE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));

/// Returns the files of the SDK: path in its folder, and text.
///
/// # Errors
///
/// If the embedded files are invalid. The tests of the repository exclude this.
pub(super) fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut sources = Vec::new();
    collect(&SOURCES, &mut sources);
    let mut files = Vec::new();
    for source in sources {
        let path = source.path();
        let read = || {
            let text = source.contents_utf8().context("not UTF-8")?;
            if path == Path::new("Cargo.toml") {
                standalone_manifest(text)
            } else {
                Ok(text.to_owned())
            }
        };
        let text = read().with_context(|| format!("{} of the embedded SDK", path.display()))?;
        files.push((path.to_owned(), text));
    }
    Ok(files)
}

/// Adds the files of a folder and of its subfolders.
fn collect(folder: &'static Dir<'static>, files: &mut Vec<&'static File<'static>>) {
    files.extend(folder.files());
    for folder in folder.dirs() {
        collect(folder, files);
    }
}

/// Returns a manifest in which the values of the workspace replace the references to it.
fn standalone_manifest(text: &str) -> anyhow::Result<String> {
    let mut manifest: Table = text.parse()?;
    let workspace: Table = WORKSPACE.parse()?;
    let workspace = workspace.get("workspace").context("no workspace")?;
    // The lints are checked in the workspace; the copy does not need them.
    manifest.remove("lints");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        inherit(package, workspace.get("package"))?;
        package.insert("publish".to_owned(), Value::Boolean(false));
    }
    let shared = workspace.get("dependencies");
    if let Some(Value::Table(dependencies)) = manifest.get_mut("dependencies") {
        inherit(dependencies, shared)?;
    }
    let targets = manifest.get_mut("target").and_then(Value::as_table_mut);
    for (_, target) in targets.into_iter().flatten() {
        if let Some(Value::Table(dependencies)) = target.get_mut("dependencies") {
            inherit(dependencies, shared)?;
        }
    }
    Ok(format!("# Written by `plugboard new`.\n\n{}", toml::to_string(&manifest)?))
}

/// Replaces each `KEY.workspace = true` by the workspace's value of the same key.
fn inherit(table: &mut Table, shared: Option<&Value>) -> anyhow::Result<()> {
    for (key, value) in table {
        if value.get("workspace").is_some() {
            let shared = shared.and_then(|shared| shared.get(key));
            value.clone_from(shared.with_context(|| format!("the workspace has no {key}"))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn text(path: &str) -> String {
        let files = files().unwrap();
        let file = files.into_iter().find(|(name, _)| name == Path::new(path));
        file.unwrap_or_else(|| panic!("{path} is missing")).1
    }

    #[test]
    fn embedded_sdk_contains_contract_and_licenses() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let contract = fs::read_dir(format!("{root}/wit")).unwrap();
        let names = contract.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in names {
            let expected = fs::read_to_string(format!("{root}/wit/{name}")).unwrap();
            assert_eq!(text(&format!("wit/{name}")), expected, "{name}");
        }
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let expected = fs::read_to_string(format!("{root}/{name}")).unwrap();
            assert_eq!(text(name), expected, "{name}");
        }
        assert!(text("src/lib.rs").contains("pub trait Router"));
    }

    #[test]
    fn embedded_manifest_has_values_of_workspace() {
        let manifest = text("Cargo.toml");
        assert!(!manifest.contains("workspace"), "{manifest}");
        let manifest: Table = manifest.parse().unwrap();
        assert_eq!(manifest["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(manifest["package"]["edition"].as_str(), Some("2024"));
        assert_eq!(manifest["package"]["publish"].as_bool(), Some(false));
        let shared: Table = WORKSPACE.parse().unwrap();
        let shared = &shared["workspace"]["dependencies"];
        assert_eq!(manifest["dependencies"]["serde"], shared["serde"]);
        let (_, target) = manifest["target"].as_table().unwrap().iter().next().unwrap();
        assert_eq!(target["dependencies"]["wit-bindgen"], shared["wit-bindgen"]);
    }

    #[test]
    fn unknown_key_of_workspace_is_error() {
        let error = standalone_manifest("[package]\nhomepage.workspace = true\n").unwrap_err();
        assert_eq!(error.to_string(), "the workspace has no homepage");
    }
}

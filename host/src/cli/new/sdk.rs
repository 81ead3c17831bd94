//! Finds the SDK that a new plugin depends on.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use toml::Table;

use super::embedded;

/// Name of the SDK's package.
const PACKAGE: &str = "plugboard-sdk";

/// SDK that a plugin is built with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// Folder of the crate, without symbolic links.
    Folder(PathBuf),
    /// Copy in the program, which is written to the folder of the plugin.
    Embedded,
}

impl Sdk {
    /// Returns the requested folder; else the SDK of the repository that contains this
    /// program or the working directory; else the embedded copy.
    ///
    /// # Errors
    ///
    /// If the requested folder is not the SDK.
    pub(super) fn find(requested: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(folder) = requested {
            return match folder.canonicalize() {
                Ok(real) if is_sdk(&real) => Ok(Self::Folder(real)),
                Ok(_) => bail!(
                    "{} (--sdk) is not the SDK: it has no Cargo.toml of a package {PACKAGE}",
                    folder.display()
                ),
                Err(error) => {
                    Err(error).with_context(|| format!("cannot read {} (--sdk)", folder.display()))
                }
            };
        }
        // The folder of the build does not count: packages are built on other machines.
        let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
        let folder = starts.into_iter().flatten().find_map(|start| find_above(&start));
        Ok(folder.map_or(Self::Embedded, Self::Folder))
    }

    /// Returns the dependency on the SDK for the manifest of a crate, as TOML. The path is
    /// relative if both are in one repository.
    ///
    /// # Errors
    ///
    /// If the path is not UTF-8.
    pub(super) fn requirement(&self, crate_folder: &Path) -> anyhow::Result<String> {
        match self {
            Self::Embedded => Ok(format!("{{ path = {} }}", toml_quote(embedded::FOLDER))),
            Self::Folder(folder) => {
                let is_same_repository = crate_folder.starts_with(repository_root(folder));
                let path = if is_same_repository {
                    relative_path(crate_folder, folder)
                } else {
                    folder.clone()
                };
                let path = path.to_str().with_context(|| {
                    format!("{} cannot be written into Cargo.toml: not UTF-8", path.display())
                })?;
                Ok(format!("{{ path = {} }}", toml_quote(path)))
            }
        }
    }

    /// Returns a lock file with the versions that the SDK is tested with, if there is one.
    pub(super) fn lock_file(&self) -> Option<String> {
        let Self::Folder(folder) = self else { return Some(embedded::LOCK_FILE.to_owned()) };
        let lock = std::fs::read_to_string(folder.parent()?.join("Cargo.lock")).ok()?;
        lock.contains(&format!("name = \"{PACKAGE}\"")).then_some(lock)
    }
}

/// Returns the SDK that is beside one of the folders above `start`, from the innermost on.
fn find_above(start: &Path) -> Option<PathBuf> {
    let candidates = start.ancestors().map(|folder| folder.join("guest-sdk"));
    candidates.filter_map(|folder| folder.canonicalize().ok()).find(|folder| is_sdk(folder))
}

/// Returns whether the folder's manifest is that of the SDK.
fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let manifest: Table = manifest.parse().unwrap_or_default();
    let name = manifest.get("package").and_then(|package| package.get("name"));
    name.and_then(|name| name.as_str()) == Some(PACKAGE)
}

/// Returns the root of a folder's repository; without git, the parent folder.
fn repository_root(folder: &Path) -> &Path {
    let with_git = folder.ancestors().find(|folder| folder.join(".git").exists());
    with_git.or(folder.parent()).unwrap_or(folder)
}

/// Returns the relative path from one folder to another. Both are canonical.
fn relative_path(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Quotes a text as a TOML string.
fn toml_quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sdk_in(folder: &Path) -> PathBuf {
        let sdk = folder.join("guest-sdk");
        fs::create_dir_all(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "[package]\nname = 'plugboard-sdk'\n").unwrap();
        sdk
    }

    #[test]
    fn repository_of_program_has_sdk() {
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
        let expected = Sdk::Folder(expected.canonicalize().unwrap());
        assert_eq!(Sdk::find(None).unwrap(), expected);
        assert!(expected.lock_file().unwrap().contains("name = \"serde\""));
    }

    #[test]
    fn sdk_folder_is_found_by_its_manifest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(find_above(&inner), None);
        let sdk = sdk_in(&root);
        assert_eq!(find_above(&inner), Some(sdk.clone()));
        assert_eq!(find_above(&root), Some(sdk.clone()));
        // A folder of the same name without the SDK is skipped.
        fs::create_dir(root.join("a/guest-sdk")).unwrap();
        assert_eq!(find_above(&inner), Some(sdk.clone()));
        assert_eq!(Sdk::find(Some(&sdk)).unwrap(), Sdk::Folder(sdk));
        let error = Sdk::find(Some(&root.join("a"))).unwrap_err().to_string();
        assert!(error.contains("(--sdk) is not the SDK"), "{error}");
        let error = Sdk::find(Some(&root.join("nowhere"))).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn sdk_path_is_relative_within_repository() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let sdk = Sdk::Folder(sdk_in(&root.join("plugboard")));
        let requirement = |crate_folder: &str| sdk.requirement(&root.join(crate_folder)).unwrap();
        let absolute = format!("{{ path = \"{}/plugboard/guest-sdk\" }}", root.display());
        assert_eq!(requirement("plugboard/plugins/vip"), "{ path = \"../../guest-sdk\" }");
        assert_eq!(requirement("vip"), absolute);
        fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(requirement("vip"), "{ path = \"../plugboard/guest-sdk\" }");
    }

    #[test]
    fn embedded_sdk_is_required_by_path_in_crate() {
        let requirement = Sdk::Embedded.requirement(Path::new("/vip")).unwrap();
        assert_eq!(requirement, "{ path = \"vendor/plugboard-sdk\" }");
        assert!(Sdk::Embedded.lock_file().unwrap().contains("name = \"plugboard-sdk\""));
    }

    #[test]
    fn paths_are_escaped_for_toml() {
        for text in ["a b", "a\"b", "a\\b", "a\nb", "é'"] {
            let table: Table = format!("x = {}", toml_quote(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}

//! Finds the SDK that a new plugin depends on.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use toml::Table;

/// The crate's name.
const PACKAGE: &str = "plugboard-sdk";

/// The SDK that a plugin is built with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// Its folder, without links.
    Folder(PathBuf),
    /// A version that was published: the one that belongs to this program.
    Published(&'static str),
}

impl Sdk {
    /// The folder that was asked for; else that of the repository that this program was
    /// built in, or lies in, or is started in; else the published version.
    ///
    /// # Errors
    ///
    /// When what was asked for is not the SDK.
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
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
        let starts = [Some(built_in), std::env::current_exe().ok(), std::env::current_dir().ok()];
        let folder = starts.into_iter().flatten().find_map(|start| find_above(&start));
        Ok(folder.map_or(Self::Published(env!("CARGO_PKG_VERSION")), Self::Folder))
    }

    /// What the manifest of a crate in this folder says of it, as TOML: a path that
    /// goes with the repository when both are in one.
    ///
    /// # Errors
    ///
    /// When the path is no text.
    pub(super) fn requirement(&self, crate_folder: &Path) -> anyhow::Result<String> {
        match self {
            Self::Published(version) => Ok(toml_quote(version)),
            Self::Folder(folder) => {
                let is_same_repository = crate_folder.starts_with(repository_root(folder));
                let path = if is_same_repository {
                    relative_path(crate_folder, folder)
                } else {
                    folder.clone()
                };
                let path = path.to_str().with_context(|| {
                    format!("{} cannot be written into Cargo.toml: it is no text", path.display())
                })?;
                Ok(format!("{{ path = {} }}", toml_quote(path)))
            }
        }
    }

    /// The versions that the SDK is tested with, if they are there.
    pub(super) fn lock_file(&self) -> Option<String> {
        let Self::Folder(folder) = self else { return None };
        let lock = std::fs::read_to_string(folder.parent()?.join("Cargo.lock")).ok()?;
        lock.contains(&format!("name = \"{PACKAGE}\"")).then_some(lock)
    }
}

/// The SDK that lies beside one of these folders, from the innermost one on.
fn find_above(start: &Path) -> Option<PathBuf> {
    let candidates = start.ancestors().map(|folder| folder.join("guest-sdk"));
    candidates.filter_map(|folder| folder.canonicalize().ok()).find(|folder| is_sdk(folder))
}

/// Whether that is what the folder's manifest says.
fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let manifest: Table = manifest.parse().unwrap_or_default();
    let name = manifest.get("package").and_then(|package| package.get("name"));
    name.and_then(|name| name.as_str()) == Some(PACKAGE)
}

/// The repository that a folder belongs to: without git, what it lies in.
fn repository_root(folder: &Path) -> &Path {
    let with_git = folder.ancestors().find(|folder| folder.join(".git").exists());
    with_git.or(folder.parent()).unwrap_or(folder)
}

/// The way from one folder to another. Neither has links or `..` in it.
fn relative_path(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// A string of TOML.
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
    fn the_repository_of_this_program_has_it() {
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
        let ours = Sdk::Folder(expected.canonicalize().unwrap());
        assert_eq!(Sdk::find(None).unwrap(), ours);
        assert!(ours.lock_file().unwrap().contains("name = \"serde\""));
    }

    #[test]
    fn a_folder_is_judged_by_its_manifest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(find_above(&inner), None);
        let sdk = sdk_in(&root);
        assert_eq!(find_above(&inner), Some(sdk.clone()));
        assert_eq!(find_above(&root), Some(sdk.clone()));
        // One that is something else is passed by.
        fs::create_dir(root.join("a/guest-sdk")).unwrap();
        assert_eq!(find_above(&inner), Some(sdk.clone()));
        assert_eq!(Sdk::find(Some(&sdk)).unwrap(), Sdk::Folder(sdk));
        let error = Sdk::find(Some(&root.join("a"))).unwrap_err().to_string();
        assert!(error.contains("(--sdk) is not the SDK"), "{error}");
        let error = Sdk::find(Some(&root.join("nowhere"))).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn a_path_is_relative_within_a_repository() {
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
    fn published_sdk_is_required_by_version() {
        let published = Sdk::Published("1.2.3");
        assert_eq!(published.requirement(Path::new("/vip")).unwrap(), "\"1.2.3\"");
        assert_eq!(published.lock_file(), None);
    }

    #[test]
    fn paths_are_escaped_for_toml() {
        for text in ["a b", "a\"b", "a\\b", "a\nb", "é'"] {
            let table: Table = format!("x = {}", toml_quote(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}

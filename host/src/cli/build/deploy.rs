//! Deploys a component with a rename, so that a server sees either the old or the new file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::validate::ValidatedPlugin;
use crate::cli::atomic_file::write_temporary;

/// Distance between the numbers of plugins, which leaves room for others.
const NUMBER_STEP: u32 = 10;

/// Highest number. A number of three digits would sort before those of two.
const MAX_NUMBER: u32 = 99;

/// Plugin folder that components are deployed to.
pub(super) struct DeployFolder {
    path: PathBuf,
    /// Names of its plugins and settings, and the names that were chosen since.
    names: BTreeSet<String>,
}

/// Name of a plugin in its folder.
pub(super) struct DeployTarget {
    folder: PathBuf,
    name: String,
    /// Other names of the same plugin.
    duplicates: Vec<String>,
}

/// Effect of a deployment on the settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SettingsOutcome {
    /// The plugin has no settings.
    None,
    /// The settings in the folder were kept.
    Unchanged,
    /// The settings of the crate were written.
    Written,
}

/// Name of the deployed file, without its extension.
#[derive(Clone, Debug)]
pub(super) struct DeployName(String);

/// Error of a name that is invalid.
#[derive(Debug, Error)]
pub(super) enum DeployNameError {
    #[error("omit the extension: {0}")]
    Extension(String),
    #[error("expected a file name without a folder, such as 10-vip")]
    NotAFileName,
}

impl FromStr for DeployName {
    type Err = DeployNameError;

    fn from_str(text: &str) -> Result<Self, DeployNameError> {
        if let Some(name) = text.strip_suffix(".wasm") {
            return Err(DeployNameError::Extension(name.to_owned()));
        }
        if text.is_empty() || text.starts_with('.') || text.contains(['/', '\\', '\0']) {
            return Err(DeployNameError::NotAFileName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl DeployFolder {
    /// Opens a folder, and reads the names in it.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let entries = fs::read_dir(&path);
        let entries = entries.with_context(|| format!("cannot read {}", path.display()))?;
        let names = entries.flatten().filter_map(|entry| {
            let file =
                entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            let (name, ending) = file.rsplit_once('.')?;
            matches!(ending, "wasm" | "toml").then(|| name.to_owned())
        });
        Ok(Self { names: names.collect(), path })
    }

    /// Chooses the name of a plugin: the requested name, else its existing name, else a
    /// number after all others. The names that were chosen before count as well.
    ///
    /// # Errors
    ///
    /// If the plugin has several names in the folder, or no number is free.
    pub(super) fn choose_target(
        &mut self,
        plugin: &str,
        requested: Option<&DeployName>,
    ) -> anyhow::Result<DeployTarget> {
        let names = &self.names;
        let is_this_plugin = |name: &&String| is_same_plugin(split_number(name).1, plugin);
        let mut existing: Vec<String> = names.iter().filter(is_this_plugin).cloned().collect();
        let name = match (requested, existing.as_slice()) {
            (Some(DeployName(name)), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                let last = names.iter().filter_map(|name| split_number(name).0).max();
                let next = last.map_or(NUMBER_STEP, |last| {
                    (last / NUMBER_STEP + 1).saturating_mul(NUMBER_STEP)
                });
                // The next number without a gap, if no multiple is free.
                let last = last.map_or(0, |last| last.saturating_add(1));
                let next = [next, last].into_iter().find(|number| *number <= MAX_NUMBER);
                let Some(next) = next else {
                    bail!(
                        "no number is free after the existing plugins; choose a name with --name"
                    );
                };
                format!("{next:02}-{plugin}")
            }
            (None, several) => bail!(
                "{} has this plugin under several names ({}); choose one with --name",
                self.path.display(),
                several.join(", ")
            ),
        };
        existing.retain(|other| *other != name);
        self.names.insert(name.clone());
        Ok(DeployTarget { folder: self.path.clone(), name, duplicates: existing })
    }
}

/// Returns whether two names are the same plugin. The file of cargo has underscores instead
/// of hyphens.
pub(super) fn is_same_plugin(plugin: &str, other: &str) -> bool {
    plugin.replace('_', "-") == other.replace('_', "-")
}

/// Splits a name into its number, if it has one, and the rest.
fn split_number(name: &str) -> (Option<u32>, &str) {
    match name.split_once('-') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            (number.parse().ok(), rest)
        }
        _ => (None, name),
    }
}

impl DeployTarget {
    /// Returns the path of the component.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name))
    }

    /// Returns the path of the settings.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// Returns other existing files of the same plugin.
    pub(super) fn existing_duplicates(&self) -> impl Iterator<Item = PathBuf> {
        let others = self.duplicates.iter().map(|name| self.folder.join(format!("{name}.wasm")));
        others.filter(|file| file.exists())
    }

    /// Writes a plugin to the folder, completely or not at all. Writes its settings if the
    /// folder has none or `replace` is set.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(super) fn deploy(
        &self,
        validated: &ValidatedPlugin,
        replace: bool,
    ) -> anyhow::Result<SettingsOutcome> {
        let (file, settings) = (self.file(), self.settings());
        let settings_outcome = match &validated.settings {
            Some(_) if replace || !settings.exists() => SettingsOutcome::Written,
            _ if settings.exists() => SettingsOutcome::Unchanged,
            _ => SettingsOutcome::None,
        };
        let text =
            validated.settings.as_deref().filter(|_| settings_outcome == SettingsOutcome::Written);
        let path = self.folder.display();
        // Both files are written before the renames, so the server sees one change. The
        // settings come first, because a plugin can be loaded without them.
        let write_all = || {
            let sources = &validated.sources;
            let text = text.map(|text| write_temporary(&settings, text, Some(&sources.settings)));
            io::Result::Ok((
                text.transpose()?,
                write_temporary(&file, &validated.bytes, Some(&sources.file))?,
            ))
        };
        let (text, component) = write_all().with_context(|| format!("cannot write into {path}"))?;
        let persist = |file: NamedTempFile, name: &Path| {
            file.persist(name).with_context(|| format!("cannot write {}", name.display()))
        };
        if let Some(new_settings) = text {
            let backup = SettingsBackup::create(&settings)?;
            persist(new_settings, &settings)?;
            if let Err(error) = persist(component, &file) {
                let restored = backup.restore(&settings);
                return Err(match restored {
                    Ok(()) => error,
                    Err(back) => error.context(format!(
                        "the previous {} could not be restored ({back})",
                        settings.display()
                    )),
                });
            }
        } else {
            persist(component, &file)?;
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot sync {path} to the disk"))?;
        Ok(settings_outcome)
    }
}

/// Copy of the previous settings. None: the file did not exist.
struct SettingsBackup(Option<NamedTempFile>);

impl SettingsBackup {
    fn create(settings: &Path) -> anyhow::Result<Self> {
        let copy = || match fs::read(settings) {
            Ok(bytes) => write_temporary(settings, &bytes, None).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self(copy().with_context(|| format!("cannot back up {}", settings.display()))?))
    }

    fn restore(self, settings: &Path) -> io::Result<()> {
        match self.0 {
            Some(copy) => Ok(copy.persist(settings).map(drop)?),
            None => fs::remove_file(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use plugboard_runtime::plugin::PluginFiles;

    /// Creates a folder with these empty files.
    fn folder_with(files: &[&str]) -> (tempfile::TempDir, DeployFolder) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let opened = DeployFolder::open(folder.path().to_owned()).unwrap();
        (folder, opened)
    }

    fn chosen_name(files: &[&str], plugin: &str) -> Result<String, String> {
        let (_files, mut folder) = folder_with(files);
        folder
            .choose_target(plugin, None)
            .map(|place| place.name)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn plugin_keeps_its_name_or_gets_next_number() {
        let ok = |name: &str| Ok(name.to_owned());
        assert_eq!(chosen_name(&[], "vip"), ok("10-vip"));
        assert_eq!(chosen_name(&["05-a.wasm", "20-b.wasm"], "vip"), ok("30-vip"));
        assert_eq!(chosen_name(&["05-a.wasm"], "vip"), ok("10-vip"));
        assert_eq!(chosen_name(&["07-vip.wasm", "20-b.wasm"], "vip"), ok("07-vip"));
        assert_eq!(chosen_name(&["vip.wasm", "20-b.wasm"], "vip"), ok("vip"));
        assert_eq!(chosen_name(&["20-vip_two.wasm"], "vip-two"), ok("20-vip_two"));
        // Settings without a plugin determine the name.
        assert_eq!(chosen_name(&["40-vip.toml"], "vip"), ok("40-vip"));
        // Similar names are other plugins.
        assert_eq!(chosen_name(&["20-not-vip.wasm", "30-vip2.wasm"], "vip"), ok("40-vip"));
        assert_eq!(chosen_name(&[".60-vip.wasm", "70-vip.txt", "vip"], "vip"), ok("10-vip"));
        // No multiple of 10 is free.
        assert_eq!(chosen_name(&["95-a.wasm"], "vip"), ok("96-vip"));
        assert_eq!(chosen_name(&["98-a.wasm"], "vip"), ok("99-vip"));
        assert!(chosen_name(&["99-a.wasm"], "vip").unwrap_err().contains("--name"));
        assert!(chosen_name(&["4294967295-a.wasm"], "vip").unwrap_err().contains("--name"));
        let ambiguous = chosen_name(&["10-vip.wasm", "20-vip.wasm"], "vip").unwrap_err();
        assert!(ambiguous.contains("10-vip, 20-vip"), "{ambiguous}");
    }

    #[test]
    fn new_plugins_get_distinct_numbers() {
        let (_files, mut folder) = folder_with(&["85-a.wasm"]);
        let mut name = |plugin| folder.choose_target(plugin, None).map(|place| place.name).ok();
        let chosen = ["b", "c", "b"].map(&mut name);
        assert_eq!(
            chosen.each_ref().map(Option::as_deref),
            [Some("90-b"), Some("91-c"), Some("90-b")]
        );
    }

    #[test]
    fn requested_name_is_used_and_duplicates_are_listed() {
        let (_files, mut folder) = folder_with(&["10-vip.wasm", "10-vip.toml"]);
        let place = folder.choose_target("vip", Some(&"20-vip".parse().unwrap())).unwrap();
        assert_eq!(place.name, "20-vip");
        assert!(place.existing_duplicates().eq([folder.path.join("10-vip.wasm")]));
        for (text, expected) in
            [("10-vip.wasm", "10-vip"), ("a/b", "file"), (".a", "file"), ("", "file")]
        {
            let error = text.parse::<DeployName>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn validated(settings: Option<&str>) -> ValidatedPlugin {
        let settings = settings.map(|text| text.as_bytes().to_vec());
        let sources = PluginFiles::with_adjacent_settings(PathBuf::from("nowhere"));
        ValidatedPlugin { sources, bytes: b"component".to_vec(), settings, hooks: String::new() }
    }

    #[test]
    fn existing_settings_are_kept_unless_replaced() {
        let (files, mut folder) = folder_with(&[]);
        let place = folder.choose_target("vip", None).unwrap();
        let text = || fs::read_to_string(files.path().join("10-vip.toml")).ok();
        assert_eq!(place.deploy(&validated(None), false).unwrap(), SettingsOutcome::None);
        assert_eq!(text(), None);
        assert_eq!(place.deploy(&validated(Some("a")), false).unwrap(), SettingsOutcome::Written);
        assert_eq!(text().as_deref(), Some("a"));
        assert_eq!(place.deploy(&validated(Some("b")), false).unwrap(), SettingsOutcome::Unchanged);
        assert_eq!(text().as_deref(), Some("a"));
        assert_eq!(place.deploy(&validated(Some("b")), true).unwrap(), SettingsOutcome::Written);
        assert_eq!(text().as_deref(), Some("b"));
        // A crate without settings keeps the existing ones.
        assert_eq!(place.deploy(&validated(None), true).unwrap(), SettingsOutcome::Unchanged);
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2);
        assert_eq!(fs::read(place.file()).unwrap(), b"component");
    }

    #[test]
    fn deployed_settings_keep_file_permissions() {
        let (files, mut folder) = folder_with(&[]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let place = folder.choose_target("vip", None).unwrap();
        let sources = PluginFiles::with_adjacent_settings(files.path().join("own"));
        fs::write(&sources.settings, "").unwrap();
        chmod(&sources.settings, 0o600);
        let plugin = ValidatedPlugin { sources, ..validated(Some("a")) };
        place.deploy(&plugin, false).unwrap();
        assert_eq!(mode(&place.settings()), 0o600);
        // The operator's permissions are kept.
        chmod(&place.settings(), 0o640);
        chmod(&place.file(), 0o604);
        place.deploy(&plugin, true).unwrap();
        assert_eq!([mode(&place.settings()), mode(&place.file())], [0o640, 0o604]);
    }

    #[test]
    fn failed_deploy_leaves_folder_unchanged() {
        let (files, mut folder) = folder_with(&[]);
        let place = folder.choose_target("vip", None).unwrap();
        fs::create_dir(place.file()).unwrap();
        for settings in [None, Some("a")] {
            let error = format!("{:#}", place.deploy(&validated(settings), false).unwrap_err());
            assert!(error.contains("10-vip.wasm"), "{error}");
            assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
        }
        fs::write(place.settings(), "old").unwrap();
        place.deploy(&validated(Some("new")), true).unwrap_err();
        assert_eq!(fs::read_to_string(place.settings()).unwrap(), "old");
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2);
    }
}

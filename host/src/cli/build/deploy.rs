//! Putting a plugin into a plugin folder, so that a server that looks at any moment sees
//! the old one or the new one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::judge::Judged;
use crate::cli::staged::stage;

/// Between the numbers of plugins, so that others fit in.
const STEP: u32 = 10;

/// Highest number. One of three digits would come before those of two.
const HIGHEST: u32 = 99;

/// A folder of plugins.
pub(super) struct Folder {
    path: PathBuf,
    /// The plugins in it, settings that wait for theirs, and what was given a place.
    names: BTreeSet<String>,
}

/// Where a plugin stands in its folder.
pub(super) struct Place {
    folder: PathBuf,
    name: String,
    /// The same plugin under other names.
    others: Vec<String>,
}

/// What became of a plugin's settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It has none.
    None,
    /// Those in the folder stay.
    Kept,
    /// Those of the crate were put there.
    Written,
}

/// A name to deploy under: that of the file, without its ending.
#[derive(Clone, Debug)]
pub(super) struct Name(String);

/// Why a name is none.
#[derive(Debug, Error)]
pub(super) enum NameError {
    #[error("leave the ending out: {0}")]
    Ending(String),
    #[error("a name is that of a file, such as 10-vip, without a folder")]
    NoFile,
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(name) = text.strip_suffix(".wasm") {
            return Err(NameError::Ending(name.to_owned()));
        }
        if text.is_empty() || text.starts_with('.') || text.contains(['/', '\\', '\0']) {
            return Err(NameError::NoFile);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Folder {
    /// The folder as it is now.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
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

    /// Where a plugin goes: to the name that is asked for, else where it stands already,
    /// else after all others, which are also those that were given a place before.
    ///
    /// # Errors
    ///
    /// When it stands there twice, or no number is left.
    pub(super) fn place(&mut self, plugin: &str, asked: Option<&Name>) -> anyhow::Result<Place> {
        let names = &self.names;
        let is_it = |name: &&String| is_same(without_number(name).1, plugin);
        let mut there: Vec<String> = names.iter().filter(is_it).cloned().collect();
        let name = match (asked, there.as_slice()) {
            (Some(Name(name)), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                let last = names.iter().filter_map(|name| without_number(name).0).max();
                let next = last.map_or(STEP, |last| (last / STEP + 1).saturating_mul(STEP));
                // Without room for others before it, if there is none.
                let last = last.map_or(0, |last| last.saturating_add(1));
                let next = [next, last].into_iter().find(|number| *number <= HIGHEST);
                let Some(next) = next else {
                    bail!("no number is left after all others: say where it goes by --name");
                };
                format!("{next:02}-{plugin}")
            }
            (None, several) => bail!(
                "{} has it more than once ({}): say which one by --name",
                self.path.display(),
                several.join(", ")
            ),
        };
        there.retain(|other| *other != name);
        self.names.insert(name.clone());
        Ok(Place { folder: self.path.clone(), name, others: there })
    }
}

/// Whether a plugin folder takes these for one plugin: the file as cargo names it has
/// underscores.
pub(super) fn is_same(plugin: &str, other: &str) -> bool {
    plugin.replace('_', "-") == other.replace('_', "-")
}

/// The number that a name starts with, and the rest.
fn without_number(name: &str) -> (Option<u32>, &str) {
    match name.split_once('-') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            (number.parse().ok(), rest)
        }
        _ => (None, name),
    }
}

impl Place {
    /// The component's file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name))
    }

    /// The settings' file.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// Other files of the same plugin.
    pub(super) fn others(&self) -> impl Iterator<Item = PathBuf> {
        let others = self.others.iter().map(|name| self.folder.join(format!("{name}.wasm")));
        others.filter(|file| file.exists())
    }

    /// Puts a plugin there, whole or not at all, with the settings that it was judged
    /// with, unless those are there already.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn put(&self, judged: &Judged, replace: bool) -> anyhow::Result<Settled> {
        let (file, settings) = (self.file(), self.settings());
        let settled = match &judged.settings {
            Some(_) if replace || !settings.exists() => Settled::Written,
            _ if settings.exists() => Settled::Kept,
            _ => Settled::None,
        };
        let text = judged.settings.as_deref().filter(|_| settled == Settled::Written);
        let path = self.folder.display();
        // Both are on the disk before either gets its name, and then they are one change
        // to the server. The settings come first, as a plugin could be loaded without.
        let staged = || {
            let sources = &judged.sources;
            let text = text.map(|text| stage(&settings, text, Some(&sources.settings)));
            io::Result::Ok((text.transpose()?, stage(&file, &judged.bytes, Some(&sources.file))?))
        };
        let (text, component) = staged().with_context(|| format!("cannot write into {path}"))?;
        let named = |file: NamedTempFile, name: &Path| {
            file.persist(name).with_context(|| format!("cannot write {}", name.display()))
        };
        if let Some(text) = text {
            let before = Before::of(&settings)?;
            named(text, &settings)?;
            if let Err(error) = named(component, &file) {
                let back = before.put_back(&settings);
                return Err(match back {
                    Ok(()) => error,
                    Err(back) => error.context(format!(
                        "the new {} is left without its plugin ({back})",
                        settings.display()
                    )),
                });
            }
        } else {
            named(component, &file)?;
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot write {path} to the disk"))?;
        Ok(settled)
    }
}

/// Settings as they were. None: there were none.
struct Before(Option<NamedTempFile>);

impl Before {
    fn of(settings: &Path) -> anyhow::Result<Self> {
        let copy = || match fs::read(settings) {
            Ok(bytes) => stage(settings, &bytes, None).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self(copy().with_context(|| format!("cannot keep {} meanwhile", settings.display()))?))
    }

    fn put_back(self, settings: &Path) -> io::Result<()> {
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
    use crate::plugin::Sources;

    /// A folder with these empty files.
    fn folder(files: &[&str]) -> (tempfile::TempDir, Folder) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let opened = Folder::open(folder.path().to_owned()).unwrap();
        (folder, opened)
    }

    fn name(files: &[&str], plugin: &str) -> Result<String, String> {
        let (_files, mut folder) = folder(files);
        folder.place(plugin, None).map(|place| place.name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plugin_goes_where_it_is_or_after_all_others() {
        let ok = |name: &str| Ok(name.to_owned());
        assert_eq!(name(&[], "vip"), ok("10-vip"));
        assert_eq!(name(&["05-a.wasm", "20-b.wasm"], "vip"), ok("30-vip"));
        assert_eq!(name(&["05-a.wasm"], "vip"), ok("10-vip"));
        assert_eq!(name(&["07-vip.wasm", "20-b.wasm"], "vip"), ok("07-vip"));
        assert_eq!(name(&["vip.wasm", "20-b.wasm"], "vip"), ok("vip"));
        assert_eq!(name(&["20-vip_two.wasm"], "vip-two"), ok("20-vip_two"));
        // Settings that were put there before.
        assert_eq!(name(&["40-vip.toml"], "vip"), ok("40-vip"));
        // What only looks like it.
        assert_eq!(name(&["20-not-vip.wasm", "30-vip2.wasm"], "vip"), ok("40-vip"));
        assert_eq!(name(&[".60-vip.wasm", "70-vip.txt", "vip"], "vip"), ok("10-vip"));
        // Where there is no round number left.
        assert_eq!(name(&["95-a.wasm"], "vip"), ok("96-vip"));
        assert_eq!(name(&["98-a.wasm"], "vip"), ok("99-vip"));
        assert!(name(&["99-a.wasm"], "vip").unwrap_err().contains("--name"));
        assert!(name(&["4294967295-a.wasm"], "vip").unwrap_err().contains("--name"));
        let twice = name(&["10-vip.wasm", "20-vip.wasm"], "vip").unwrap_err();
        assert!(twice.contains("10-vip, 20-vip"), "{twice}");
    }

    #[test]
    fn no_two_plugins_are_given_one_place() {
        let (_files, mut folder) = folder(&["85-a.wasm"]);
        let mut name = |plugin| folder.place(plugin, None).map(|place| place.name).ok();
        let given = ["b", "c", "b"].map(&mut name);
        assert_eq!(
            given.each_ref().map(Option::as_deref),
            [Some("90-b"), Some("91-c"), Some("90-b")]
        );
    }

    #[test]
    fn a_name_can_be_asked_for_and_others_are_told() {
        let (_files, mut folder) = folder(&["10-vip.wasm", "10-vip.toml"]);
        let place = folder.place("vip", Some(&"20-vip".parse().unwrap())).unwrap();
        assert_eq!(place.name, "20-vip");
        assert!(place.others().eq([folder.path.join("10-vip.wasm")]));
        for (text, expected) in
            [("10-vip.wasm", "10-vip"), ("a/b", "file"), (".a", "file"), ("", "file")]
        {
            let error = text.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn judged(settings: Option<&str>) -> Judged {
        let settings = settings.map(|text| text.as_bytes().to_vec());
        let sources = Sources::beside(PathBuf::from("nowhere"));
        Judged { sources, bytes: b"component".to_vec(), settings, hooks: String::new() }
    }

    #[test]
    fn settings_are_written_once_unless_they_are_to_be_replaced() {
        let (files, mut folder) = folder(&[]);
        let place = folder.place("vip", None).unwrap();
        let text = || fs::read_to_string(files.path().join("10-vip.toml")).ok();
        assert_eq!(place.put(&judged(None), false).unwrap(), Settled::None);
        assert_eq!(text(), None);
        assert_eq!(place.put(&judged(Some("a")), false).unwrap(), Settled::Written);
        assert_eq!(text().as_deref(), Some("a"));
        assert_eq!(place.put(&judged(Some("b")), false).unwrap(), Settled::Kept);
        assert_eq!(text().as_deref(), Some("a"));
        assert_eq!(place.put(&judged(Some("b")), true).unwrap(), Settled::Written);
        assert_eq!(text().as_deref(), Some("b"));
        // A crate that has none takes none away.
        assert_eq!(place.put(&judged(None), true).unwrap(), Settled::Kept);
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2);
        assert_eq!(fs::read(place.file()).unwrap(), b"component");
    }

    #[test]
    fn secrets_in_settings_stay_as_unreadable_as_they_are() {
        let (files, mut folder) = folder(&[]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let place = folder.place("vip", None).unwrap();
        let sources = Sources::beside(files.path().join("own"));
        fs::write(&sources.settings, "").unwrap();
        chmod(&sources.settings, 0o600);
        let judged = Judged { sources, ..judged(Some("a")) };
        place.put(&judged, false).unwrap();
        assert_eq!(mode(&place.settings()), 0o600);
        // What the operator made of it counts.
        chmod(&place.settings(), 0o640);
        chmod(&place.file(), 0o604);
        place.put(&judged, true).unwrap();
        assert_eq!([mode(&place.settings()), mode(&place.file())], [0o640, 0o604]);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let (files, mut folder) = folder(&[]);
        let place = folder.place("vip", None).unwrap();
        fs::create_dir(place.file()).unwrap();
        for settings in [None, Some("a")] {
            let error = format!("{:#}", place.put(&judged(settings), false).unwrap_err());
            assert!(error.contains("10-vip.wasm"), "{error}");
            assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
        }
        fs::write(place.settings(), "old").unwrap();
        place.put(&judged(Some("new")), true).unwrap_err();
        assert_eq!(fs::read_to_string(place.settings()).unwrap(), "old");
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2);
    }
}

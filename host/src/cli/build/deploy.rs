//! Putting a plugin into a plugin folder, so that a server that looks at any moment sees
//! the old one or the new one.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::judge::Judged;

/// Between the numbers of plugins, so that others fit in.
const STEP: u32 = 10;

/// Highest number. One of three digits would come before those of two.
const HIGHEST: u32 = 99;

/// A folder of plugins.
pub(super) struct Folder(PathBuf);

/// Where a plugin stands in its folder.
pub(super) struct Place<'a> {
    folder: &'a Path,
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
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where a plugin goes: to the name that is asked for, else where it stands already,
    /// else after all others.
    ///
    /// # Errors
    ///
    /// When it stands there twice, or no number is left.
    pub(super) fn place(&self, plugin: &str, asked: Option<&Name>) -> anyhow::Result<Place<'_>> {
        let names = self.names()?;
        // The file as cargo names it has underscores.
        let bare = |name: &str| name.replace('_', "-");
        let is_it = |name: &&String| bare(without_number(name).1) == bare(plugin);
        let mut there: Vec<String> = names.iter().filter(is_it).cloned().collect();
        let name = match (asked, there.as_slice()) {
            (Some(Name(name)), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                let last = names.iter().filter_map(|name| without_number(name).0).max();
                let next = last.map_or(STEP, |last| (last / STEP + 1).saturating_mul(STEP));
                if next > HIGHEST {
                    bail!("no number is left after all others: say where it goes by --name");
                }
                format!("{next:02}-{plugin}")
            }
            (None, several) => bail!(
                "{} has it more than once ({}): say which one by --name",
                self.0.display(),
                several.join(", ")
            ),
        };
        there.retain(|other| *other != name);
        Ok(Place { folder: &self.0, name, others: there })
    }

    /// The plugins in it, and settings that wait for theirs.
    fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        let path = self.0.display();
        let entries = std::fs::read_dir(&self.0).with_context(|| format!("cannot read {path}"))?;
        let names = entries.flatten().filter_map(|entry| {
            let file =
                entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            let (name, ending) = file.rsplit_once('.')?;
            matches!(ending, "wasm" | "toml").then(|| name.to_owned())
        });
        Ok(names.collect())
    }
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

impl Place<'_> {
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
        // Both are on the disk before either gets its name, and then they are one change
        // to the server. The settings come first, as a plugin could be loaded without.
        let staged = || {
            let text = text.map(|text| self.stage(text)).transpose()?;
            io::Result::Ok((text, self.stage(&judged.bytes)?))
        };
        let path = self.folder.display();
        let (text, component) = staged().with_context(|| format!("cannot write into {path}"))?;
        let named = |file: NamedTempFile, name: &Path| {
            file.persist(name).with_context(|| format!("cannot write {}", name.display()))
        };
        if let Some(text) = text {
            named(text, &settings)?;
        }
        named(component, &file)?;
        let synced = File::open(self.folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot write {path} to the disk"))?;
        Ok(settled)
    }

    /// A file under a name that no server looks at, gone again unless it gets another
    /// one; with the usual permissions, as the server may be another user.
    fn stage(&self, bytes: &[u8]) -> io::Result<NamedTempFile> {
        let usual = Permissions::from_mode(0o666);
        let mut builder = tempfile::Builder::new();
        let mut file =
            builder.prefix(".plugboard-build-").permissions(usual).tempfile_in(self.folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with these empty files.
    fn folder(files: &[&str]) -> (tempfile::TempDir, Folder) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let path = folder.path().to_owned();
        (folder, Folder::new(path))
    }

    fn name(files: &[&str], plugin: &str) -> Result<String, String> {
        let (_files, folder) = folder(files);
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
        assert!(name(&["95-a.wasm"], "vip").unwrap_err().contains("--name"));
        let twice = name(&["10-vip.wasm", "20-vip.wasm"], "vip").unwrap_err();
        assert!(twice.contains("10-vip, 20-vip"), "{twice}");
    }

    #[test]
    fn a_name_can_be_asked_for_and_others_are_told() {
        let (_files, folder) = folder(&["10-vip.wasm", "10-vip.toml"]);
        let place = folder.place("vip", Some(&"20-vip".parse().unwrap())).unwrap();
        assert_eq!(place.name, "20-vip");
        assert!(place.others().eq([folder.0.join("10-vip.wasm")]));
        for (text, expected) in
            [("10-vip.wasm", "10-vip"), ("a/b", "file"), (".a", "file"), ("", "file")]
        {
            let error = text.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn judged(settings: Option<&str>) -> Judged {
        let settings = settings.map(|text| text.as_bytes().to_vec());
        Judged { bytes: b"component".to_vec(), settings, hooks: String::new() }
    }

    #[test]
    fn settings_are_written_once_unless_they_are_to_be_replaced() {
        let (files, folder) = folder(&[]);
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
        let mode = fs::metadata(place.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let (files, folder) = folder(&[]);
        let place = folder.place("vip", None).unwrap();
        fs::create_dir(place.file()).unwrap();
        let error = format!("{:#}", place.put(&judged(None), false).unwrap_err());
        assert!(error.contains("10-vip.wasm"), "{error}");
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
    }
}

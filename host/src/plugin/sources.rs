//! A plugin's files: what is on the disk, told apart by digest.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::error::PluginError;

/// Largest plugin file. componentize-py makes 18 MB.
const MAX_FILE: u64 = 64 << 20;

/// Largest settings file.
const MAX_SETTINGS: u64 = 1 << 20;

/// A file that was changed less than this before it was read may have been
/// changed again since, without a change of its times: file systems count in
/// steps, of up to two seconds.
const GRAIN: Duration = Duration::from_secs(3);

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sources {
    /// The component.
    pub file: PathBuf,
    /// Its settings, which may be missing.
    pub settings: PathBuf,
}

impl Sources {
    /// A component and the settings beside it.
    pub fn beside(file: PathBuf) -> Self {
        // Compiled code has a name of its own, as it may stand beside the plugin.
        let own = file.extension().is_none_or(|ending| ending != "wasm");
        let settings =
            if own { file.with_added_extension("toml") } else { file.with_extension("toml") };
        Self { file, settings }
    }

    /// A component and these settings, or else those beside it. Settings that were asked
    /// for have to be there.
    ///
    /// # Errors
    ///
    /// When they were asked for and cannot be read.
    pub fn with(file: PathBuf, settings: Option<PathBuf>) -> Result<Self, PluginError> {
        let Some(settings) = settings else { return Ok(Self::beside(file)) };
        read(&settings, MAX_SETTINGS)?;
        Ok(Self { file, settings })
    }

    /// The plugin's name.
    ///
    /// # Errors
    ///
    /// When the file's name is not text.
    pub fn name(&self) -> Result<&str, PluginError> {
        let name = self.file.file_stem().and_then(|name| name.to_str());
        name.ok_or_else(|| PluginError::Name(self.file.clone()))
    }

    /// The name for people, whatever the file's is.
    pub fn shown_name(&self) -> String {
        let is_wasm = self.file.extension().is_some_and(|ending| ending == "wasm");
        let name = if is_wasm { self.file.file_stem() } else { self.file.file_name() };
        name.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What the system says of both files, without reading them.
    pub fn stamps(&self) -> Stamps {
        Stamps { file: Stamp::of(&self.file), settings: Stamp::of(&self.settings) }
    }

    /// Reads both files, as they were at one moment: changed while they were
    /// read, they are read again. Blocks.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or does not stop changing.
    pub fn read(&self) -> Result<Files, PluginError> {
        const ATTEMPTS: u32 = 3;
        for _ in 0..ATTEMPTS {
            let stamps = self.stamps();
            let read_at = SystemTime::now();
            let bytes = read(&self.file, MAX_FILE)?;
            let settings = match read(&self.settings, MAX_SETTINGS) {
                Ok(bytes) => Some(bytes),
                Err(PluginError::Unreadable { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && is_absent(&self.settings) =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            if self.stamps() != stamps {
                continue;
            }
            let version =
                Version { file: Digest::of(&bytes), settings: settings.as_deref().map(Digest::of) };
            return Ok(Files { bytes, settings, version, stamps, read_at });
        }
        Err(PluginError::Changing(self.file.clone()))
    }
}

/// The contents of a plugin's files at one moment.
pub struct Files {
    /// The component.
    pub bytes: Vec<u8>,
    /// The settings, if there are any.
    pub settings: Option<Vec<u8>>,
    /// The digests of both.
    pub version: Version,
    stamps: Stamps,
    read_at: SystemTime,
}

impl Files {
    /// What to compare with, to see whether the files were changed since. None
    /// when they were changed so shortly before that one could not see it.
    pub fn stamps(&self) -> Option<Stamps> {
        let settled = |stamp: &Option<Stamp>| {
            stamp.is_none_or(|stamp| {
                let changed = Duration::from_secs(stamp.changed.try_into().unwrap_or(0));
                let changed = SystemTime::UNIX_EPOCH + changed;
                self.read_at.duration_since(changed).is_ok_and(|age| age > GRAIN)
            })
        };
        (settled(&self.stamps.file) && settled(&self.stamps.settings)).then_some(self.stamps)
    }
}

/// What makes a version of a plugin: its file and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the component.
    pub file: Digest,
    /// Of the settings, if there are any.
    pub settings: Option<Digest>,
}

/// SHA-256 of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the system says of a plugin's files; None for one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    file: Option<Stamp>,
    settings: Option<Stamp>,
}

/// What the system says of a file, links followed. Changes whenever the file is
/// written or replaced, also by a tool that keeps the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: i64,
    changed_nanos: i64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: metadata.ctime(),
            changed_nanos: metadata.ctime_nsec(),
        })
    }
}

/// The bytes of a file that is one: a pipe would never end.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, PluginError> {
    let unreadable = |source| PluginError::Unreadable { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        // Opening a pipe waits for whoever writes to it, else.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PluginError::NotAFile(path.to_owned()));
    }
    if metadata.len() > most {
        return Err(PluginError::FileTooLarge { size: metadata.len(), most });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    // It may grow while it is read.
    let size = file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)? as u64;
    if size > most {
        return Err(PluginError::FileTooLarge { size, most });
    }
    Ok(bytes)
}

/// Whether there is nothing of this name, not even a link that leads nowhere.
fn is_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_changed_is_not_trusted_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::beside(folder.path().join("10-a.wasm"));
        std::fs::write(&sources.file, "new").unwrap();
        assert!(sources.read().unwrap().stamps().is_none());
        let mut files = sources.read().unwrap();
        files.read_at += 2 * GRAIN;
        assert_eq!(files.stamps(), Some(sources.stamps()));
        std::fs::write(&sources.settings, "enabled = true").unwrap();
        assert_ne!(files.stamps(), Some(sources.stamps()));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::beside(folder.path().join("10-a.wasm"));
        let label = || sources.read().err().map(|error| error.label());
        let fifo = rustix::fs::Mode::from(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &sources.file, fifo).unwrap();
        assert_eq!(label(), Some("not_a_file"));
        std::fs::remove_file(&sources.file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &sources.file).unwrap();
        assert_eq!(label(), Some("not_a_file"));
        std::fs::remove_file(&sources.file).unwrap();
        std::fs::write(&sources.file, "x").unwrap();
        assert_eq!(label(), None);
        // A link that leads nowhere is not the same as no settings.
        std::os::unix::fs::symlink("nowhere", &sources.settings).unwrap();
        assert_eq!(label(), Some("unreadable"));
    }

    #[test]
    fn settings_that_are_asked_for_have_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.wasm"), folder.path().join("b.toml"));
        assert_eq!(Sources::with(file.clone(), None).unwrap(), Sources::beside(file.clone()));
        let with = || Sources::with(file.clone(), Some(other.clone()));
        assert_eq!(with().map_err(|error| error.label()), Err("unreadable"));
        std::fs::write(&other, "").unwrap();
        assert_eq!(with().unwrap().settings, other);
    }

    #[test]
    fn a_version_is_the_file_and_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::beside(folder.path().join("10-a.wasm"));
        std::fs::write(&sources.file, "one").unwrap();
        let version = || sources.read().unwrap().version;
        let first = version();
        std::fs::write(&sources.settings, "").unwrap();
        let second = version();
        assert_ne!(first, second);
        assert_eq!(first.file, second.file);
        std::fs::remove_file(&sources.settings).unwrap();
        assert_eq!(first, version());
    }
}

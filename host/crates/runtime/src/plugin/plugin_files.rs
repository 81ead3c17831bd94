//! Files of a plugin: reads both consistently, and identifies their contents by digest.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::error::LoadError;

/// Largest plugin file, in bytes. Files of componentize-py have 18 MB.
const MAX_FILE: u64 = 64 << 20;

/// Largest settings file, in bytes.
const MAX_SETTINGS: u64 = 1 << 20;

/// Age that a change must have for its timestamp to be reliable, with a margin. Timestamps of
/// file systems have steps of up to two seconds, so a second change within a step is
/// invisible.
const TIMESTAMP_GRANULARITY: Duration = Duration::from_secs(3);

/// Paths of a plugin's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluginFiles {
    /// Path of the component.
    pub file: PathBuf,
    /// Path of its settings, which may not exist.
    pub settings: PathBuf,
}

impl PluginFiles {
    /// Returns the paths of a component and of the settings beside it.
    pub fn with_adjacent_settings(file: PathBuf) -> Self {
        // Compiled code has other settings than a plugin of the same name beside it.
        let is_not_wasm = file.extension().is_none_or(|ending| ending != "wasm");
        let settings = if is_not_wasm {
            file.with_added_extension("toml")
        } else {
            file.with_extension("toml")
        };
        Self { file, settings }
    }

    /// Returns the paths of a component and of the given settings, else of the settings beside
    /// it. Given settings must exist.
    ///
    /// # Errors
    ///
    /// Fails if given settings cannot be read.
    pub fn with_settings(file: PathBuf, settings: Option<PathBuf>) -> Result<Self, LoadError> {
        let Some(settings) = settings else { return Ok(Self::with_adjacent_settings(file)) };
        read(&settings, MAX_SETTINGS)?;
        Ok(Self { file, settings })
    }

    /// Returns the plugin's name.
    ///
    /// # Errors
    ///
    /// Fails if the file name is not UTF-8.
    pub fn name(&self) -> Result<&str, LoadError> {
        let name = self.file.file_stem().and_then(|name| name.to_str());
        name.ok_or_else(|| LoadError::InvalidFileName(self.file.clone()))
    }

    /// Returns the name for display, for any file name.
    pub fn display_name(&self) -> String {
        let is_wasm = self.file.extension().is_some_and(|ending| ending == "wasm");
        let name = if is_wasm { self.file.file_stem() } else { self.file.file_name() };
        name.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the fingerprints of both files, without reading their contents.
    pub fn fingerprints(&self) -> FileFingerprints {
        FileFingerprints {
            file: FileFingerprint::read(&self.file),
            settings: FileFingerprint::read(&self.settings),
        }
    }

    /// Reads a consistent state of both files. If they change meanwhile, it reads them again,
    /// up to three times. Blocks.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or changes during each attempt.
    pub fn read(&self) -> Result<PluginContents, LoadError> {
        const ATTEMPTS: u32 = 3;
        for _ in 0..ATTEMPTS {
            let fingerprints = self.fingerprints();
            let read_at = SystemTime::now();
            let bytes = read(&self.file, MAX_FILE)?;
            let settings = match read(&self.settings, MAX_SETTINGS) {
                Ok(bytes) => Some(bytes),
                Err(LoadError::Unreadable { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && is_absent(&self.settings) =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            if self.fingerprints() != fingerprints {
                continue;
            }
            let version = PluginVersion {
                file: ContentDigest::compute(&bytes),
                settings: settings.as_deref().map(ContentDigest::compute),
            };
            return Ok(PluginContents { bytes, settings, version, fingerprints, read_at });
        }
        Err(LoadError::FileChanging(self.file.clone()))
    }
}

/// Contents of a plugin's files at one moment.
pub struct PluginContents {
    /// Bytes of the component.
    pub bytes: Vec<u8>,
    /// Bytes of the settings, if the file exists.
    pub settings: Option<Vec<u8>>,
    /// Digests of both files.
    pub version: PluginVersion,
    fingerprints: FileFingerprints,
    read_at: SystemTime,
}

impl PluginContents {
    /// Returns the fingerprints for the detection of later changes. `None`: the files changed
    /// so recently that the fingerprints may miss a change.
    pub fn stable_fingerprints(&self) -> Option<FileFingerprints> {
        let is_settled = |stamp: &Option<FileFingerprint>| {
            stamp.is_none_or(|stamp| {
                let changed = Duration::from_secs(stamp.changed.try_into().unwrap_or(0));
                let changed = SystemTime::UNIX_EPOCH + changed;
                self.read_at.duration_since(changed).is_ok_and(|age| age > TIMESTAMP_GRANULARITY)
            })
        };
        (is_settled(&self.fingerprints.file) && is_settled(&self.fingerprints.settings))
            .then_some(self.fingerprints)
    }
}

/// Version of a plugin: the digests of its file and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginVersion {
    /// Digest of the component.
    pub file: ContentDigest,
    /// Digest of the settings, if the file exists.
    pub settings: Option<ContentDigest>,
}

/// SHA-256 of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Computes the digest of these bytes.
    pub fn compute(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fingerprints of a plugin's files; `None` for a file that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFingerprints {
    file: Option<FileFingerprint>,
    settings: Option<FileFingerprint>,
}

/// Metadata of a file, with links followed. It changes whenever the file is written or
/// replaced, even by a tool that preserves the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileFingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: i64,
    changed_nanos: i64,
}

impl FileFingerprint {
    fn read(path: &Path) -> Option<Self> {
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

/// Reads a regular file. Rejects others, because a pipe may never end.
fn read(path: &Path, max_len: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        // Without this flag, opening a pipe would wait for a writer.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    if metadata.len() > max_len {
        return Err(LoadError::FileTooLarge { size: metadata.len(), most: max_len });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    // The file may grow while it is read.
    let size = file.take(max_len + 1).read_to_end(&mut bytes).map_err(unreadable)? as u64;
    if size > max_len {
        return Err(LoadError::FileTooLarge { size, most: max_len });
    }
    Ok(bytes)
}

/// Returns whether no file of this name exists, not even a dangling link.
fn is_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recently_changed_file_has_no_stable_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let plugin_files = PluginFiles::with_adjacent_settings(folder.path().join("10-a.wasm"));
        std::fs::write(&plugin_files.file, "new").unwrap();
        assert!(plugin_files.read().unwrap().stable_fingerprints().is_none());
        let mut contents = plugin_files.read().unwrap();
        contents.read_at += 2 * TIMESTAMP_GRANULARITY;
        assert_eq!(contents.stable_fingerprints(), Some(plugin_files.fingerprints()));
        std::fs::write(&plugin_files.settings, "enabled = true").unwrap();
        assert_ne!(contents.stable_fingerprints(), Some(plugin_files.fingerprints()));
    }

    #[test]
    fn read_rejects_non_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let plugin_files = PluginFiles::with_adjacent_settings(folder.path().join("10-a.wasm"));
        let label = || plugin_files.read().err().map(|error| error.label());
        let fifo = rustix::fs::Mode::from(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &plugin_files.file, fifo).unwrap();
        assert_eq!(label(), Some("not_a_file"));
        std::fs::remove_file(&plugin_files.file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &plugin_files.file).unwrap();
        assert_eq!(label(), Some("not_a_file"));
        std::fs::remove_file(&plugin_files.file).unwrap();
        std::fs::write(&plugin_files.file, "x").unwrap();
        assert_eq!(label(), None);
        // A dangling link is an error, unlike absent settings.
        std::os::unix::fs::symlink("nowhere", &plugin_files.settings).unwrap();
        assert_eq!(label(), Some("unreadable"));
    }

    #[test]
    fn explicit_settings_file_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.wasm"), folder.path().join("b.toml"));
        assert_eq!(
            PluginFiles::with_settings(file.clone(), None).unwrap(),
            PluginFiles::with_adjacent_settings(file.clone())
        );
        let with_other = || PluginFiles::with_settings(file.clone(), Some(other.clone()));
        assert_eq!(with_other().map_err(|error| error.label()), Err("unreadable"));
        std::fs::write(&other, "").unwrap();
        assert_eq!(with_other().unwrap().settings, other);
    }

    #[test]
    fn version_covers_component_and_settings() {
        let folder = tempfile::tempdir().unwrap();
        let plugin_files = PluginFiles::with_adjacent_settings(folder.path().join("10-a.wasm"));
        std::fs::write(&plugin_files.file, "one").unwrap();
        let version = || plugin_files.read().unwrap().version;
        let first = version();
        std::fs::write(&plugin_files.settings, "").unwrap();
        let second = version();
        assert_ne!(first, second);
        assert_eq!(first.file, second.file);
        std::fs::remove_file(&plugin_files.settings).unwrap();
        assert_eq!(first, version());
    }
}

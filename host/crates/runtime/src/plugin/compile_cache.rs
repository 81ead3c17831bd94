//! Compile cache: machine code of components, kept on disk so that a restart does not
//! compile them again.
//!
//! Machine code cannot be validated, so the cache only reads files that no other user can
//! have written: its folder belongs to the user of this process and is closed to all
//! others. A checksum binds each file to its component and to the compiler. A file that
//! is damaged, or that belongs to another component or compiler, is compiled again. The
//! cache does not protect against a process of the same user, which could replace the
//! program as well.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use wasmtime::component::Component;

use super::plugin_files::ContentDigest;
use crate::engine::Engine;

/// Name of the cache folder in the data folder.
const FOLDER: &str = "compiled";

/// First bytes of every file.
const MAGIC: &[u8] = b"plugboard compiled 1\n";

/// Extension of complete files; a file without it is being written.
const ENDING: &str = "cwasm";

/// Age from which an incomplete file counts as abandoned.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// Maximum size of all files together, in bytes. Beyond it, the least recently used files are
/// removed. A hundred plugins in Rust take ten megabytes, one in Python sixty.
const MAX_TOTAL_SIZE: u64 = 2 << 30;

/// Compile cache of one data folder.
#[derive(Debug)]
pub struct CompileCache {
    folder: PathBuf,
    /// Digest of the compiler's version and settings, and of the processor's features.
    compiler: [u8; 32],
}

impl CompileCache {
    /// Opens the cache below a data folder, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be created, or if other users have access to it.
    pub fn open(data: &Path, engine: &Engine) -> anyhow::Result<Self> {
        let folder = data.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let metadata = fs::symlink_metadata(&folder)
            .with_context(|| format!("cannot read the metadata of {}", folder.display()))?;
        ensure!(
            metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw(),
            "{} must be a folder of the user that runs Plugboard, because the machine code in it \
             is trusted",
            folder.display()
        );
        ensure!(
            metadata.mode() & 0o077 == 0,
            "{} is open to other users, but the machine code in it is trusted; remove its \
             contents, then `chmod 700` it",
            folder.display()
        );
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.wasm().precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, compiler: hasher.0.finalize().into() })
    }

    /// Returns the machine code of a component, if the cache has it and it is intact.
    pub(super) fn get(&self, engine: &Engine, digest: ContentDigest) -> Option<Component> {
        let path = self.path(digest);
        match self.read(&path, digest).and_then(|code| deserialize(engine, &code)) {
            Ok(component) => Some(component),
            Err(error) if is_missing(&error) => None,
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    reason = format!("{error:#}"),
                    "cached machine code rejected; compiling again"
                );
                None
            }
        }
    }

    /// Stores the machine code of a component. A failure is only logged, because the caller
    /// can use the code without the cache.
    pub(super) fn put(&self, digest: ContentDigest, component: &Component) {
        let path = self.path(digest);
        let code = component.serialize().map_err(anyhow::Error::from);
        let write_result = code.and_then(|code| self.write(&path, digest, &code));
        if let Err(error) = write_result {
            tracing::warn!(
                file = %path.display(),
                reason = format!("{error:#}"),
                "cannot cache machine code; the next start will compile again"
            );
        }
        if let Err(error) = self.prune() {
            tracing::warn!(
                folder = %self.folder.display(),
                reason = format!("{error:#}"),
                "cannot remove unused machine code"
            );
        }
    }

    fn path(&self, digest: ContentDigest) -> PathBuf {
        let compiler: String =
            self.compiler.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{digest}-{compiler}.{ENDING}"))
    }

    /// Reads a file, and returns its code if this cache wrote it for this component.
    fn read(&self, path: &Path, digest: ContentDigest) -> anyhow::Result<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "it is not a regular file");
        ensure!(
            metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0,
            "it belongs to another user, or other users may write it"
        );
        ensure!(metadata.len() <= MAX_TOTAL_SIZE, "it is larger than the limit of the cache");
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len())? + 1);
        file.read_to_end(&mut bytes)?;
        let header_len = self.header(digest).len();
        let (header, rest) = bytes.split_at_checked(header_len).context("it is truncated")?;
        ensure!(header == self.header(digest), "it is for another component or compiler");
        let (checksum, code) = rest.split_at_checked(32).context("it is truncated")?;
        ensure!(checksum == self.checksum(digest, code), "its checksum does not match");
        // The time tells `prune` that the file is in use.
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!(%error, "cannot set the modification time of a cached file");
        }
        // In place, without a second buffer of the file's size.
        let start = bytes.len() - code.len();
        bytes.drain(..start);
        Ok(bytes)
    }

    fn write(&self, path: &Path, digest: ContentDigest, code: &[u8]) -> anyhow::Result<()> {
        // The file is deleted on drop if a step before `persist` fails.
        let mut file = NamedTempFile::new_in(&self.folder)?;
        for part in [&*self.header(digest), &self.checksum(digest, code), code] {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        // Makes the new name durable as well.
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn header(&self, digest: ContentDigest) -> Vec<u8> {
        [MAGIC, digest.as_bytes(), &self.compiler].concat()
    }

    fn checksum(&self, digest: ContentDigest, code: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.header(digest)).chain_update(code).finalize().into()
    }

    /// Removes the least recently used files until the rest is within [`MAX_TOTAL_SIZE`], and
    /// the incomplete files that a crash has left.
    fn prune(&self) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may prune as well.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (modified, length, path) in files {
            let is_compiled = path.extension().is_some_and(|ending| ending == ENDING);
            let is_stale = !is_compiled && modified.elapsed().is_ok_and(|age| age > STALE_AFTER);
            if !is_stale && (total <= MAX_TOTAL_SIZE || !is_compiled) {
                continue;
            }
            total -= length;
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "machine code cannot be validated; its origin is checked")]
fn deserialize(engine: &Engine, code: &[u8]) -> anyhow::Result<Component> {
    // SAFETY: `Component::serialize` made these bytes in `put`, as their checksum confirms,
    // and only the user of this process can write to their folder.
    let component = unsafe { Component::deserialize(engine.wasm(), code) };
    component.map_err(anyhow::Error::from)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Hasher whose result is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns zero: the caller uses the whole digest instead.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::Purpose;
    use plugboard_config::EngineConfig;

    /// Smallest valid component: a header without sections.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn engine() -> Engine {
        Engine::start(
            &EngineConfig { instances: 1, max_memory: 1 << 20 },
            Purpose::Serve { threads: 1 },
        )
        .unwrap()
    }

    fn filled_cache() -> (tempfile::TempDir, Engine, CompileCache, ContentDigest) {
        let (data, engine) = (tempfile::tempdir().unwrap(), engine());
        let cache = CompileCache::open(data.path(), &engine).unwrap();
        let digest = ContentDigest::compute(EMPTY);
        cache.put(digest, &Component::from_binary(engine.wasm(), EMPTY).unwrap());
        assert!(cache.get(&engine, digest).is_some());
        (data, engine, cache, digest)
    }

    #[test]
    fn tampered_files_are_rejected() {
        let (_data, engine, cache, digest) = filled_cache();
        let path = cache.path(digest);
        let good = fs::read(&path).unwrap();
        for position in [0, 30, 60, 90, 120, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(cache.get(&engine, digest).is_none(), "byte {position}");
        }
        for length in [0, 10, 100, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(cache.get(&engine, digest).is_none(), "{length} bytes");
        }
        fs::write(&path, &good).unwrap();
        assert!(cache.get(&engine, digest).is_some());
    }

    #[test]
    fn files_writable_by_others_are_rejected() {
        let (data, engine, cache, digest) = filled_cache();
        let path = cache.path(digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.get(&engine, digest).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(cache.get(&engine, digest).is_some());
        // The same bytes behind a symbolic link.
        let link_target = data.path().join("elsewhere");
        fs::rename(&path, &link_target).unwrap();
        std::os::unix::fs::symlink(&link_target, &path).unwrap();
        assert!(cache.get(&engine, digest).is_none());
        fs::set_permissions(&cache.folder, fs::Permissions::from_mode(0o755)).unwrap();
        let error = CompileCache::open(data.path(), &engine).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn code_of_other_component_or_compiler_is_rejected() {
        let (_data, engine, mut cache, digest) = filled_cache();
        let other = ContentDigest::compute(b"another");
        fs::copy(cache.path(digest), cache.path(other)).unwrap();
        assert!(cache.get(&engine, other).is_none());
        let old_path = cache.path(digest);
        cache.compiler[31] ^= 1;
        fs::rename(old_path, cache.path(digest)).unwrap();
        assert!(cache.get(&engine, digest).is_none());
    }
}

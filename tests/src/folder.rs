//! Plugin folders of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Collector, ROUTING_GUEST, built_file};

/// Plugin folder of one test. Dropping it removes the folder.
pub struct PluginFolder(TempDir);

impl PluginFolder {
    /// Creates an empty plugin folder.
    #[expect(clippy::new_without_default, reason = "it creates a folder on disk")]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Creates a folder with a router, tools, a transfer hook and an observer that sends events
    /// to the collector. `extra_settings` extends the observer's settings.
    pub fn with_every_hook(collector: &Collector, extra_settings: &str) -> Self {
        Self::new()
            .with_guest("10-good", ROUTING_GUEST)
            .with_guest("20-tools", "tools")
            .with_settings("20-tools", "[config]\nnames = 'check_availability'\n")
            .with_guest("30-transfers", "transfers")
            .with_guest("50-observer", "observer")
            .with_settings("50-observer", &collector.settings(extra_settings))
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a fixture guest into the folder as `NAME.wasm`.
    #[must_use]
    pub fn with_guest(self, name: &str, guest: &str) -> Self {
        self.replace_guest(name, guest);
        self
    }

    /// Puts a sample plugin into the folder as `NAME.wasm`.
    #[must_use]
    pub fn with_sample(self, name: &str, sample: &str) -> Self {
        self.copy_into_place(name, &built_file(&format!("plugins/{sample}.wasm")));
        self
    }

    /// Writes `NAME.wasm` with these bytes.
    #[must_use]
    pub fn with_bytes(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.file(name, "wasm"), bytes).unwrap();
        self
    }

    /// Writes the settings file `NAME.toml`.
    #[must_use]
    pub fn with_settings(self, name: &str, text: &str) -> Self {
        self.replace_settings(name, text);
        self
    }

    /// Replaces `NAME.toml` atomically, by a rename.
    pub fn replace_settings(&self, name: &str, text: &str) {
        let new = self.file(name, "new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name, "toml")).unwrap();
    }

    /// Replaces `NAME.wasm` with another guest atomically, by a rename.
    pub fn replace_guest(&self, name: &str, guest: &str) {
        self.copy_into_place(name, &guest_path(guest));
    }

    fn copy_into_place(&self, name: &str, file: &Path) {
        let new = self.file(name, "new");
        fs::copy(file, &new).unwrap();
        fs::rename(new, self.file(name, "wasm")).unwrap();
    }

    /// Returns the path of `NAME.EXTENSION`.
    pub fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path().join(format!("{name}.{extension}"))
    }
}

/// Returns the bytes of a fixture guest.
pub fn guest_bytes(guest: &str) -> Vec<u8> {
    fs::read(guest_path(guest)).unwrap()
}

/// Returns the names of all fixture guests, sorted.
pub fn guest_names() -> Vec<String> {
    let folder = guest_path("routes").parent().unwrap().to_owned();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wasm = files.filter(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let mut names: Vec<String> =
        wasm.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn guest_path(guest: &str) -> PathBuf {
    built_file(&format!("guests/{guest}.wasm"))
}

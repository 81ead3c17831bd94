//! Plugin folders.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Collector, ROUTING_GUEST, built_file};

/// A folder of plugins for one test, gone with it.
pub struct PluginFolder(TempDir);

impl PluginFolder {
    /// An empty folder.
    #[expect(clippy::new_without_default, reason = "it makes a folder on the disk")]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A router, every hook that is asked in the middle of a call, and an observer that
    /// tells the collector; with `extra_settings` in the table of its settings.
    pub fn with_every_hook(collector: &Collector, extra_settings: &str) -> Self {
        Self::new()
            .with_guest("10-good", ROUTING_GUEST)
            .with_guest("20-tools", "tools")
            .with_settings("20-tools", "[config]\nnames = 'check_availability'\n")
            .with_guest("30-transfers", "transfers")
            .with_guest("50-observer", "observer")
            .with_settings("50-observer", &collector.settings(extra_settings))
    }

    /// The folder.
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

    /// Writes `NAME.toml`.
    #[must_use]
    pub fn with_settings(self, name: &str, text: &str) -> Self {
        self.replace_settings(name, text);
        self
    }

    /// Puts other settings in the place of `NAME.toml`, by a rename.
    pub fn replace_settings(&self, name: &str, text: &str) {
        let new = self.file(name, "new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name, "toml")).unwrap();
    }

    /// Puts another guest in the place of `NAME.wasm`, as it should be done: by a
    /// rename.
    pub fn replace_guest(&self, name: &str, guest: &str) {
        self.copy_into_place(name, &guest_path(guest));
    }

    fn copy_into_place(&self, name: &str, file: &Path) {
        let new = self.file(name, "new");
        fs::copy(file, &new).unwrap();
        fs::rename(new, self.file(name, "wasm")).unwrap();
    }

    /// The path of `NAME.ENDING`.
    pub fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path().join(format!("{name}.{extension}"))
    }
}

/// The bytes of a fixture guest, to damage.
pub fn guest_bytes(guest: &str) -> Vec<u8> {
    fs::read(guest_path(guest)).unwrap()
}

/// The names of all fixture guests.
pub fn guest_names() -> Vec<String> {
    let folder = guest_path("routes").parent().unwrap().to_owned();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wasm = files.filter(|path| path.extension().is_some_and(|ending| ending == "wasm"));
    let mut names: Vec<String> =
        wasm.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn guest_path(guest: &str) -> PathBuf {
    built_file(&format!("guests/{guest}.wasm"))
}

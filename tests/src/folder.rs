//! Plugin folders.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Collector, GOOD, built};

/// A folder of plugins for one test, gone with it.
pub struct PluginFolder(TempDir);

impl PluginFolder {
    /// An empty folder.
    #[expect(clippy::new_without_default, reason = "it makes a folder on the disk")]
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A router, every hook that is asked in the middle of a call, and an observer that
    /// tells the collector; with `more` in the table of its settings.
    pub fn with_every_hook(collector: &Collector, more: &str) -> Self {
        Self::new()
            .guest("10-good", GOOD)
            .guest("20-tools", "tools")
            .settings("20-tools", "[config]\nnames = 'check_availability'\n")
            .guest("30-transfers", "transfers")
            .guest("50-observer", "observer")
            .settings("50-observer", &collector.settings(more))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a fixture guest into the folder as `NAME.wasm`.
    #[must_use]
    pub fn guest(self, name: &str, guest: &str) -> Self {
        self.replace(name, guest);
        self
    }

    /// Puts a sample plugin into the folder as `NAME.wasm`.
    #[must_use]
    pub fn sample(self, name: &str, sample: &str) -> Self {
        self.put(name, &built(&format!("plugins/{sample}.wasm")));
        self
    }

    /// Writes `NAME.wasm` with these bytes.
    #[must_use]
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.file(name, "wasm"), bytes).unwrap();
        self
    }

    /// Writes `NAME.toml`.
    #[must_use]
    pub fn settings(self, name: &str, text: &str) -> Self {
        self.configure(name, text);
        self
    }

    /// Puts other settings in the place of `NAME.toml`, by a rename.
    pub fn configure(&self, name: &str, text: &str) {
        let new = self.file(name, "new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name, "toml")).unwrap();
    }

    /// Puts another guest in the place of `NAME.wasm`, as it should be done: by a
    /// rename.
    pub fn replace(&self, name: &str, guest: &str) {
        self.put(name, &guest_file(guest));
    }

    fn put(&self, name: &str, file: &Path) {
        let new = self.file(name, "new");
        fs::copy(file, &new).unwrap();
        fs::rename(new, self.file(name, "wasm")).unwrap();
    }

    /// The path of `NAME.ENDING`.
    pub fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.path().join(format!("{name}.{ending}"))
    }
}

/// The bytes of a fixture guest, to damage.
pub fn guest_bytes(guest: &str) -> Vec<u8> {
    fs::read(guest_file(guest)).unwrap()
}

/// The names of all fixture guests.
pub fn guests() -> Vec<String> {
    let folder = guest_file("routes").parent().unwrap().to_owned();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wasm = files.filter(|path| path.extension().is_some_and(|ending| ending == "wasm"));
    let mut names: Vec<String> =
        wasm.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn guest_file(guest: &str) -> PathBuf {
    built(&format!("guests/{guest}.wasm"))
}

//! Plugin folders for the bench: the sample dial plan, alone or among many.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// The sample that is measured.
const SAMPLE: &str = "10-number-plan.wasm";

/// Where it sends the number that the load calls, and how it is asked about that.
const SETTINGS: &str =
    "[match]\nto = '5001'\n[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n";

/// A folder of plugins, gone with it.
pub(crate) struct Folder {
    folder: TempDir,
    component: Vec<u8>,
}

impl Folder {
    /// No plugin.
    pub(crate) fn empty() -> anyhow::Result<Self> {
        Ok(Self { folder: TempDir::new()?, component: Vec::new() })
    }

    /// One observer that takes every event and does nothing with it.
    pub(crate) fn of_observer(guests: &Path) -> anyhow::Result<Self> {
        let guest = guests.join("observer.wasm");
        let component = std::fs::read(&guest).with_context(|| guest.display().to_string())?;
        let folder = Self { folder: TempDir::new()?, component };
        folder.set_observing(true)?;
        Ok(folder)
    }

    /// Switches the observer on or off.
    pub(crate) fn set_observing(&self, on: bool) -> anyhow::Result<()> {
        self.put("500-observer", 0, &format!("enabled = {on}\n[config]\ndo = 'nothing'\n"))
    }

    /// One plugin, that is asked about the number that the load calls.
    pub(crate) fn of_one(samples: &Path) -> anyhow::Result<Self> {
        Self::of_sample(&samples.join(SAMPLE), SETTINGS)
    }

    /// A plugin of this file, with these settings.
    pub(crate) fn of_sample(sample: &Path, settings: &str) -> anyhow::Result<Self> {
        let component = std::fs::read(sample).with_context(|| sample.display().to_string())?;
        let folder = Self { folder: TempDir::new()?, component };
        folder.put("500-plan", 0, settings)?;
        Ok(folder)
    }

    /// So many more that are asked about other numbers; half of them come first.
    /// With `distinct`, each has to be compiled for itself.
    pub(crate) fn with_others(self, others: u32, distinct: bool) -> anyhow::Result<Self> {
        for nth in 0..others {
            let order = if nth % 2 == 0 { 100 } else { 900 };
            let settings = format!("[match]\nto = ['{}', '{}*']\n", 10_000 + nth, 70_000 + nth);
            let version = if distinct { nth + 1 } else { 0 };
            self.put(&format!("{order}-other-{nth}"), version, &settings)?;
        }
        Ok(self)
    }

    /// Another version of the one plugin, which sends calls elsewhere.
    pub(crate) fn change(&self, version: u32) -> anyhow::Result<String> {
        let host = format!("version-{version}");
        let settings = SETTINGS.replace("avr-sts-openai", &host);
        self.put("500-plan", version, &settings)?;
        Ok(host)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a plugin and its settings as it should be done: by renames.
    fn put(&self, name: &str, version: u32, settings: &str) -> anyhow::Result<()> {
        let place = |name: String, bytes: &[u8]| {
            let new = self.path().join(".new");
            std::fs::write(&new, bytes)?;
            std::fs::rename(new, self.path().join(name))
        };
        place(format!("{name}.toml"), settings.as_bytes())?;
        place(format!("{name}.wasm"), &self.version(version))?;
        Ok(())
    }

    /// The component with another digest: a custom section at its end.
    fn version(&self, version: u32) -> Vec<u8> {
        let mut bytes = self.component.clone();
        // A section of kind 0, its length, the length of its name, its name.
        bytes.extend([0, 6, 1, b'v']);
        bytes.extend(version.to_le_bytes());
        bytes
    }
}

/// A folder for what is kept across restarts.
pub(crate) struct Data(TempDir);

impl Data {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }
}

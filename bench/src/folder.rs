//! Plugin directories and data directories of the measured servers.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// File of the sample dial plan.
const NUMBER_PLAN: &str = "10-number-plan.wasm";

/// Settings with which the dial plan routes the call of the load, and matches no other
/// call.
const NUMBER_PLAN_SETTINGS: &str =
    "[match]\nto = '5001'\n[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n";

/// A plugin directory, removed on drop.
pub(crate) struct PluginFolder {
    folder: TempDir,
    component: Vec<u8>,
}

impl PluginFolder {
    /// Creates a directory without plugins.
    pub(crate) fn empty() -> anyhow::Result<Self> {
        Ok(Self { folder: TempDir::new()?, component: Vec::new() })
    }

    /// Creates a directory with one observer, which acknowledges every event.
    pub(crate) fn observer(guests: &Path) -> anyhow::Result<Self> {
        let folder = Self::with_component(&guests.join("observer.wasm"))?;
        folder.enable_observer(true)?;
        Ok(folder)
    }

    /// Enables or disables the observer.
    pub(crate) fn enable_observer(&self, enabled: bool) -> anyhow::Result<()> {
        let settings = format!("enabled = {enabled}\n[config]\ndo = 'nothing'\n");
        self.deploy("500-observer", 0, &settings)
    }

    /// Creates a directory with one router, which matches the call of the load.
    pub(crate) fn number_plan(samples: &Path) -> anyhow::Result<Self> {
        Self::sample(&samples.join(NUMBER_PLAN), NUMBER_PLAN_SETTINGS)
    }

    /// Creates a directory with one component and its settings.
    pub(crate) fn sample(component: &Path, settings: &str) -> anyhow::Result<Self> {
        let folder = Self::with_component(component)?;
        folder.deploy("500-plan", 0, settings)?;
        Ok(folder)
    }

    fn with_component(file: &Path) -> anyhow::Result<Self> {
        let component = std::fs::read(file).with_context(|| file.display().to_string())?;
        Ok(Self { folder: TempDir::new()?, component })
    }

    /// Adds routers that match other numbers, half of them earlier in the chain. With
    /// `distinct`, no two are the same component, so each is compiled.
    pub(crate) fn with_others(self, others: u32, distinct: bool) -> anyhow::Result<Self> {
        for nth in 0..others {
            let order = if nth % 2 == 0 { 100 } else { 900 };
            let settings = format!("[match]\nto = ['{}', '{}*']\n", 10_000 + nth, 70_000 + nth);
            let version = if distinct { nth + 1 } else { 0 };
            self.deploy(&format!("{order}-other-{nth}"), version, &settings)?;
        }
        Ok(self)
    }

    /// Deploys another version of the dial plan, and returns the host to which it
    /// routes calls.
    pub(crate) fn deploy_version(&self, version: u32) -> anyhow::Result<String> {
        let host = format!("version-{version}");
        let settings = NUMBER_PLAN_SETTINGS.replace("avr-sts-openai", &host);
        self.deploy("500-plan", version, &settings)?;
        Ok(host)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes settings and component, each with a rename.
    fn deploy(&self, name: &str, version: u32, settings: &str) -> anyhow::Result<()> {
        let write = |name: String, bytes: &[u8]| {
            let new = self.path().join(".new");
            std::fs::write(&new, bytes)?;
            std::fs::rename(new, self.path().join(name))
        };
        write(format!("{name}.toml"), settings.as_bytes())?;
        write(format!("{name}.wasm"), &self.version(version))?;
        Ok(())
    }

    /// Returns the component with another digest, which an appended custom section causes.
    fn version(&self, version: u32) -> Vec<u8> {
        let mut bytes = self.component.clone();
        // Section id 0, length of the section, length of its name, name, content.
        bytes.extend([0, 6, 1, b'v']);
        bytes.extend(version.to_le_bytes());
        bytes
    }
}

/// A data directory, removed on drop.
pub(crate) struct Data(TempDir);

impl Data {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Returns the environment variable that names the directory.
    pub(crate) fn env(&self) -> (&'static str, String) {
        ("PLUGBOARD_DATA", self.path().display().to_string())
    }
}

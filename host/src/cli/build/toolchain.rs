//! Runs cargo and rustc for the crates of a workspace.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use cargo_metadata::{Message, PackageId};

use super::crates::PluginCrate;
use super::target::WASM_TARGET;

/// Where cargo puts what it builds.
const TARGET_DIR_VARIABLE: &str = "CARGO_TARGET_DIR";

/// The profile that plugins are built by.
const PROFILE: &str = "release";

/// Cargo and rustc as they are for the crates of one folder, which may have a toolchain
/// and a configuration of its own.
pub(super) struct Toolchain {
    folder: PathBuf,
}

/// What was built of a crate.
pub(super) struct BuiltPlugin {
    /// The component.
    pub(super) file: PathBuf,
    /// From the start of cargo on.
    pub(super) elapsed: Duration,
}

impl Toolchain {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn rustc(&self) -> Command {
        self.command("RUSTC", "rustc")
    }

    pub(super) fn rustup(&self) -> Command {
        self.command("RUSTUP", "rustup")
    }

    fn command(&self, variable: &str, name: &str) -> Command {
        let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()));
        self.configure(&mut command);
        command
    }

    /// Has a command run for these crates, as it would from a shell in their folder.
    pub(super) fn configure(&self, command: &mut Command) {
        command.current_dir(&self.folder);
        // It is given from where we are.
        let target = std::env::var_os(TARGET_DIR_VARIABLE).filter(|folder| !folder.is_empty());
        if let Some(Ok(target)) = target.map(absolute) {
            command.env(TARGET_DIR_VARIABLE, target);
        }
        // What cargo says of us when it has started us would look like a change to build
        // scripts that read it, and they would be run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
    }

    /// Builds crates of the workspace, and shows what cargo and rustc say. What could not
    /// be built is missing from the result.
    pub(super) fn build(
        &self,
        crates: &[PluginCrate],
        debug_names: bool,
    ) -> anyhow::Result<HashMap<PackageId, BuiltPlugin>> {
        let mut cargo = self.command("CARGO", "cargo");
        cargo.args(["build", "--lib", "--profile", PROFILE, "--target", WASM_TARGET]);
        // What rustc says goes to the terminal as it is, and the rest comes to us.
        cargo.args(["--keep-going", "--message-format", "json-render-diagnostics"]);
        if debug_names {
            cargo.args(debug_name_arguments(PROFILE));
        }
        for it in crates {
            cargo.args(["--package", &it.id.repr]);
        }
        let start = Instant::now();
        let child = cargo.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut running = child.context("cannot start cargo; plugins are built with it")?;
        let mut built = HashMap::new();
        let messages = running.stdout.take().context("cargo has no output")?;
        for message in Message::parse_stream(BufReader::new(messages)) {
            let Message::CompilerArtifact(artifact) = message? else { continue };
            let is_requested =
                crates.iter().any(|it| it.id == artifact.package_id) && artifact.target.is_cdylib();
            let file = artifact.filenames.iter().find(|file| file.extension() == Some("wasm"));
            if let (true, Some(file)) = (is_requested, file) {
                let (file, took) = (file.as_std_path().to_owned(), start.elapsed());
                built.insert(artifact.package_id, BuiltPlugin { file, elapsed: took });
            }
        }
        // How it ended says no more than which files are missing.
        running.wait()?;
        Ok(built)
    }
}

/// What has cargo keep names, files and lines.
fn debug_name_arguments(profile: &str) -> [OsString; 4] {
    let config_override =
        |key: &str, value: &str| format!("profile.{profile}.{key}={value}").into();
    let debug = config_override("debug", "\"line-tables-only\"");
    ["--config".into(), debug, "--config".into(), config_override("strip", "\"none\"")]
}

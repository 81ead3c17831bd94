//! Builds the crates of plugins with cargo.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use cargo_metadata::{Message, PackageId};

use super::crates::PluginCrate;
use super::target::WASM_TARGET;
use super::toolchain::Toolchain;

/// Cargo profile of plugin builds.
const PROFILE: &str = "release";

/// Result of the build of a crate.
pub(super) struct BuiltPlugin {
    /// File of the component.
    pub(super) file: PathBuf,
    /// Time from the start of cargo until the component was built.
    pub(super) elapsed: Duration,
}

impl Toolchain {
    /// Builds crates of the workspace. The messages of cargo and rustc go to the terminal.
    /// The result lacks crates that could not be built.
    pub(super) fn build(
        &self,
        crates: &[PluginCrate],
        debug_names: bool,
    ) -> anyhow::Result<HashMap<PackageId, BuiltPlugin>> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--lib", "--profile", PROFILE, "--target", WASM_TARGET]);
        // Diagnostics of rustc go to the terminal; the other messages are parsed here.
        cargo.args(["--keep-going", "--message-format", "json-render-diagnostics"]);
        if debug_names {
            cargo.args(debug_name_arguments(PROFILE));
        }
        for it in crates {
            cargo.args(["--package", &it.id.repr]);
        }
        let start = Instant::now();
        let child = cargo.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut running = child.context("cannot start cargo, which builds the plugins")?;
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
        // The exit status is ignored: the missing files show the failures.
        running.wait()?;
        Ok(built)
    }
}

/// Returns arguments with which cargo keeps function names, files and lines.
fn debug_name_arguments(profile: &str) -> [OsString; 4] {
    let config_override =
        |key: &str, value: &str| format!("profile.{profile}.{key}={value}").into();
    let debug = config_override("debug", "\"line-tables-only\"");
    ["--config".into(), debug, "--config".into(), config_override("strip", "\"none\"")]
}

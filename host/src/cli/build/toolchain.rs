//! The commands of a toolchain: cargo, rustc and rustup.

use std::path::{Path, PathBuf, absolute};
use std::process::Command;

/// Environment variable with the folder of cargo's build results.
const TARGET_DIR_VARIABLE: &str = "CARGO_TARGET_DIR";

/// Cargo and rustc for the crates of one folder, which can have its own toolchain and
/// configuration.
pub(super) struct Toolchain {
    folder: PathBuf,
}

impl Toolchain {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn cargo(&self) -> Command {
        self.command("CARGO", "cargo")
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

    /// Configures a command to run as from a shell in the folder of the crates.
    pub(super) fn configure(&self, command: &mut Command) {
        command.current_dir(&self.folder);
        // A relative path refers to this process's working directory.
        let target = std::env::var_os(TARGET_DIR_VARIABLE).filter(|folder| !folder.is_empty());
        if let Some(Ok(target)) = target.map(absolute) {
            command.env(TARGET_DIR_VARIABLE, target);
        }
        // If cargo has started this process, these variables describe its own package. Build
        // scripts that read them would run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
    }
}

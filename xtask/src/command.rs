//! Helpers that find, run and install other programs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::root;

/// Result of a task; the error is a text for the terminal.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Prints a line to the terminal.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Returns a command that runs at the root of the repository.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// Returns a command of the cargo that runs this program.
pub fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    // Cargo's variables about this crate would make it run again every build script that
    // reads them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command to its end, with its output on the terminal.
pub fn run(command: Command) -> Result {
    start(command).and_then(wait)
}

/// A program that runs in the background.
pub struct Started {
    line: String,
    child: Child,
}

impl Started {
    /// Returns whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Starts a command, with its output on the terminal.
pub fn start(mut command: Command) -> Result<Started> {
    let line = describe(&command);
    say(&format!("+ {line}"));
    match command.spawn() {
        Ok(child) => Ok(Started { line, child }),
        Err(error) => Err(format!("cannot start `{line}`: {error}")),
    }
}

/// Waits until a program ends.
pub fn wait(mut started: Started) -> Result {
    let line = &started.line;
    match started.child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("cannot wait for `{line}`: {error}")),
    }
}

/// Runs a command to its end, and returns its standard output.
pub fn output(mut command: Command) -> Result<String> {
    let line = describe(&command);
    match command.stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Err(format!("`{line}` failed: {}", output.status)),
        Err(error) => Err(format!("cannot start `{line}`: {error}")),
    }
}

/// Finds a program in the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Finds a program in the PATH, or installs the system's package of the same name.
/// `purpose` is for messages.
pub fn find_or_install(name: &str, purpose: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    install(name, purpose)?;
    find(name).ok_or_else(|| format!("{name} ({purpose}) is in no directory of the PATH"))
}

/// Installs one of the system's packages with apt-get. `purpose` is for messages.
pub fn install(package: &str, purpose: &str) -> Result {
    let missing =
        || format!("{package} ({purpose}) is missing; install it: apt-get install {package}");
    if find("apt-get").is_none() {
        return Err(missing());
    }
    let apt = |arguments: &[&str]| {
        let mut command = program("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(command)
    };
    apt(&["update", "--quiet"])
        .and_then(|()| apt(&["install", "--yes", "--quiet", package]))
        .map_err(|_| missing())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

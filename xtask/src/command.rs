//! Running other programs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::root;

/// What a chore comes to; the error is for the person at the terminal.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Says something to the person at the terminal.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// A program, started at the root of the repository.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    // What cargo says of this crate would look like a change to build scripts that
    // read it, and they would be run again with every chore.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs it to its end, and shows what it says.
pub fn run(command: Command) -> Result {
    start(command).and_then(wait)
}

/// A program that runs beside us.
pub struct Started {
    line: String,
    child: Child,
}

impl Started {
    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Starts it, and shows what it says.
pub fn start(mut command: Command) -> Result<Started> {
    let line = describe(&command);
    say(&format!("+ {line}"));
    match command.spawn() {
        Ok(child) => Ok(Started { line, child }),
        Err(error) => Err(format!("cannot start `{line}`: {error}")),
    }
}

/// Waits for its end.
pub fn wait(mut started: Started) -> Result {
    let line = &started.line;
    match started.child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("cannot wait for `{line}`: {error}")),
    }
}

/// Runs it to its end, and gives what it printed.
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

/// Where a program is, if it is installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Where a program is that comes with the system's packages, not with cargo; installed from
/// the package of its name if it is missing and can be. `what` says what it is for.
pub fn find_or_install(name: &str, what: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    install(name, what)?;
    find(name).ok_or_else(|| format!("{name} ({what}) is in no folder of the PATH"))
}

/// Installs one of the system's packages where there is apt-get. `what` says what it is for.
pub fn install(package: &str, what: &str) -> Result {
    let missing =
        || format!("{package} ({what}) is missing; install it: apt-get install {package}");
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

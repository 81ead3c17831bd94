//! Running other programs.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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
    command
}

/// Runs it to its end, and shows what it says.
pub fn run(mut command: Command) -> Result {
    let line = describe(&command);
    say(&format!("+ {line}"));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("cannot start `{line}`: {error}")),
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

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

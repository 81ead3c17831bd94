//! Subcommands of the program that end by themselves.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::program;

/// Exit status and output of a subcommand.
pub struct CommandOutput {
    /// Exit status of the process.
    pub status: i32,
    /// Text on the standard output.
    pub stdout: String,
    /// Text on the standard error.
    pub stderr: String,
}

/// Runs the program in a folder with an empty environment and a text on its standard input.
pub fn run_plugboard(folder: &Path, arguments: &[&str], stdin: &str) -> CommandOutput {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program may end before it reads the input.
    _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    CommandOutput {
        status: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

impl CommandOutput {
    /// Parses the standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}{}", self.stdout, self.stderr))
    }
}

//! `plugboard completions`: prints the completion script of a shell.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

/// Print the completion script of a shell.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    plugboard completions bash > ~/.local/share/bash-completion/completions/plugboard\n  \
    plugboard completions fish > ~/.config/fish/completions/plugboard.fish\n  \
    plugboard completions zsh > DIR/_plugboard    # DIR is a directory of $fpath")]
pub(super) struct CompletionsCommand {
    /// Shell that runs the script
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn run(self, mut command: Command) -> ExitCode {
        // clap_complete panics if it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "plugboard", &mut script);
        match io::stdout().write_all(&script) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("plugboard: cannot print the script: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

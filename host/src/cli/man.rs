//! `plugboard man`: writes the man pages of all commands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;

use crate::build_info::{DATE, VERSION};

/// Write man pages, one for each command.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  plugboard man ~/.local/share/man/man1")]
pub(super) struct ManCommand {
    /// Directory for the pages; it is created if it is missing
    dir: PathBuf,
}

impl ManCommand {
    pub(super) fn run(self, command: Command) -> ExitCode {
        // `plugboard help` has no page, because it only repeats the others.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let created = fs::create_dir_all(&self.dir);
        match created.and_then(|()| write_pages(&command, &self.dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("plugboard: cannot write to {}: {error}", self.dir.display());
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes the page of a command, and the pages of its subcommands.
fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    let page = Man::new(command.clone())
        .date(DATE.as_str())
        .source(format!("plugboard {VERSION}"))
        .manual("Plugboard");
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(dir.join(page.get_filename()), text)?;
    command.get_subcommands().try_for_each(|subcommand| write_pages(subcommand, dir))
}

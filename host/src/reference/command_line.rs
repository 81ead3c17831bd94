//! Page of commands and flags, from clap.

use clap::CommandFactory;
use expect_test::expect_file;

use super::{GENERATED_NOTICE, assert_page};
use crate::cli::Cli;

#[test]
fn command_line_page_is_current() {
    let mut text = format!("{GENERATED_NOTICE}\n\n# The command line\n\nThe output of `--help`.\n");
    let mut command = Cli::command();
    // A fixed width, so that the text does not depend on the terminal.
    command = command.term_width(100);
    command.build();
    write_help(&mut command, &mut text);
    assert_page(&expect_file!["../../../docs/reference/command-line.md"], &text);
}

/// Writes the help of a command and of its subcommands.
fn write_help(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let long = command.render_long_help().to_string();
    let long: Vec<&str> = long.lines().map(str::trim_end).collect();
    *text += &format!("\n## {name}\n\n```text\n{}\n```\n", long.join("\n").trim_end());
    for subcommand in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        write_help(subcommand, text);
    }
}

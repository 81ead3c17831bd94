//! The page of verbs and flags, from clap.

use clap::CommandFactory;
use expect_test::expect_file;

use super::{GENERATED_NOTICE, assert_page};
use crate::cli::Cli;

#[test]
fn command_line_page_is_current() {
    let mut text = format!("{GENERATED_NOTICE}\n\n# The command line\n\nWhat `--help` says.\n");
    let mut command = Cli::command();
    // As in a terminal of this width, wherever it is made.
    command = command.term_width(100);
    command.build();
    write_help(&mut command, &mut text);
    assert_page(&expect_file!["../../../docs/reference/command-line.md"], &text);
}

/// A verb, then those below it.
fn write_help(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let long = command.render_long_help().to_string();
    let long: Vec<&str> = long.lines().map(str::trim_end).collect();
    *text += &format!("\n## {name}\n\n```text\n{}\n```\n", long.join("\n").trim_end());
    for subcommand in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        write_help(subcommand, text);
    }
}

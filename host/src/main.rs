//! `plugboard`, the program. What it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use plugboard::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}

//! `plugboard`, the program: the command line over the crates in `host/crates/`.

#![forbid(unsafe_code)]

mod cli;
#[cfg(test)]
mod reference;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}

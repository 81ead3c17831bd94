//! The program `plugboard`: a command line on top of the crates in `host/crates/`.

#![forbid(unsafe_code)]

mod build_info;
mod cli;
#[cfg(test)]
mod reference;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}

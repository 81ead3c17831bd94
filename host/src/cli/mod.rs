//! The command line: a file per verb.

mod check;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit status for a configuration that cannot be served (BSD's `EX_CONFIG`).
const BAD_CONFIG: u8 = 78;

/// Decides where phone calls go, with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "plugboard", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Take webhooks and answer them
    Serve(serve::Serve),
    /// Judge configuration and plugins without serving
    Check(check::Check),
}

impl Cli {
    /// Does what the command line says.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Serve(serve) => serve.run(),
            Verb::Check(check) => check.run(),
        }
    }
}

/// The process's environment, as far as it is text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

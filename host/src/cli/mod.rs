//! The command line: a file per verb.

mod build;
mod check;
mod forget;
mod new;
mod rows;
mod run;
mod serve;
mod simulate;
mod staged;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{self, Config, Flags, Loaded};
use crate::server::Tls;

/// Exit status for a configuration that cannot be served (BSD's `EX_CONFIG`).
const BAD_CONFIG: u8 = 78;

/// Exit status for a command line that makes no sense (clap's).
const BAD_USAGE: u8 = 2;

/// Decides where phone calls go, with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "plugboard", version)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    // What these two say of themselves is their help, the first line and the rest.
    New(new::New),
    Build(build::Build),
    /// Take webhooks and answer them
    Serve(serve::Serve),
    /// Judge configuration and plugins without serving
    Check(check::Check),
    /// Try a plugin on one event, and see what it does
    Run(run::Run),
    /// Erase everything that is stored about a call
    Forget(forget::Forget),
    /// Play AVR Core: send whole calls and report how they were answered
    Simulate(simulate::Simulate),
}

impl Cli {
    /// Does what the command line says.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::New(new) => new.run(),
            Verb::Build(build) => build.run(),
            Verb::Serve(serve) => serve.run(),
            Verb::Check(check) => check.run(),
            Verb::Run(run) => run.run(),
            Verb::Forget(forget) => forget.run(),
            Verb::Simulate(simulate) => simulate.run(),
        }
    }
}

/// What is configured. None: it cannot be used, and it was said why.
fn configuration(flags: Flags) -> Option<Loaded> {
    usable(config::load(flags, environment()))
}

/// What is configured, for a verb that does not serve: what is odd about it was said. None:
/// it cannot be used, and it was said why.
fn offline_configuration(flags: Flags) -> Option<Config> {
    let Loaded { config, warnings } = configuration(flags)?;
    for warning in warnings {
        eprintln!("plugboard: {warning}");
    }
    Some(config)
}

/// The certificate that the configuration names, if it names one. None: it cannot be
/// used, and it was said why.
fn certificate(config: &Config) -> Option<Option<Tls>> {
    usable(config.tls.as_ref().map(Tls::load).transpose())
}

fn usable<T>(read: Result<T, impl Display>) -> Option<T> {
    read.inspect_err(|error| eprintln!("plugboard: {error}")).ok()
}

/// Every connection is a file; the usual limit of 1,024 is a leftover.
///
/// # Errors
///
/// When the system does not allow more.
fn raise_file_limit() -> std::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The process's environment, as far as it is text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

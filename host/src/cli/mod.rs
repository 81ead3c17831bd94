//! The command line: one file for each verb.
//!
//! `new`, `build`, `check` and `run` use the parts of the server, so that authors see what the
//! server will do: the same loader, limits, grants and adapters.

mod atomic_file;
mod build;
mod check;
mod config_args;
mod forget;
mod new;
mod run;
mod serve;
mod table;

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plugboard_simulate::{SimulateCommand, SimulateError};
use rustix::process::{Resource, getrlimit, setrlimit};

use plugboard_config::{self as config, Config, Flags, LoadedConfig};
use plugboard_tls::Tls;

/// Exit status for a configuration that cannot be served (BSD's `EX_CONFIG`).
const EXIT_BAD_CONFIG: u8 = 78;

/// Exit status for a command line that makes no sense (clap's).
const EXIT_BAD_USAGE: u8 = 2;

/// Decides where phone calls go, with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "plugboard", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    // What these two say of themselves is their help, the first line and the rest.
    New(new::NewCommand),
    Build(build::BuildCommand),
    /// Take webhooks and answer them
    Serve(serve::ServeCommand),
    /// Judge configuration and plugins without serving
    Check(check::CheckCommand),
    /// Try a plugin on one event, and see what it does
    Run(run::RunCommand),
    /// Erase everything that is stored about a call
    Forget(forget::ForgetCommand),
    /// Play AVR Core: send whole calls and report how they were answered
    Simulate(SimulateCommand),
}

impl Cli {
    /// Does what the command line says.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Subcommands::New(new) => new.run(),
            Subcommands::Build(build) => build.run(),
            Subcommands::Serve(serve) => serve.run(),
            Subcommands::Check(check) => check.run(),
            Subcommands::Run(run) => run.run(),
            Subcommands::Forget(forget) => forget.run(),
            Subcommands::Simulate(command) => simulate(command),
        }
    }
}

/// Plays calls; the exit status tells whether all of them succeeded.
fn simulate(command: SimulateCommand) -> ExitCode {
    if let Err(error) = raise_file_limit() {
        eprintln!("plugboard: fewer calls at a time may have to do: {error}");
    }
    match command.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("plugboard: {error}");
            match error {
                SimulateError::Usage(_) => ExitCode::from(EXIT_BAD_USAGE),
                SimulateError::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// The configuration cannot be used. The error has been printed; the exit status is
/// [`EXIT_BAD_CONFIG`].
struct BadConfig;

/// Loads the configuration.
fn load_configuration(flags: Flags) -> Result<LoadedConfig, BadConfig> {
    ok_or_print_error(config::load(flags, environment_variables()))
}

/// Loads the configuration for a command that does not serve, and prints its warnings.
fn load_offline_configuration(flags: Flags) -> Result<Config, BadConfig> {
    let LoadedConfig { config, warnings } = load_configuration(flags)?;
    for warning in warnings {
        eprintln!("plugboard: {warning}");
    }
    Ok(config)
}

/// Loads the certificate, if one is configured.
fn load_certificate(config: &Config) -> Result<Option<Tls>, BadConfig> {
    ok_or_print_error(config.tls.as_ref().map(Tls::load).transpose())
}

fn ok_or_print_error<T>(result: Result<T, impl Display>) -> Result<T, BadConfig> {
    result.map_err(|error| {
        eprintln!("plugboard: {error}");
        BadConfig
    })
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
fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

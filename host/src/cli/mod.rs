//! The command line: one file for each verb.
//!
//! `new`, `build`, `check` and `run` use the parts of the server: the same loader, limits, grants
//! and adapters. Plugin authors therefore see the behaviour of the server.

mod admin_client;
mod atomic_file;
mod build;
mod check;
mod completions;
mod config_args;
mod erase;
mod exit_status;
mod file_limit;
mod health;
mod load_config;
mod man;
mod new;
mod run;
mod serve;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use plugboard_simulate::{SimulateCommand, SimulateError};

use self::exit_status::EXIT_BAD_USAGE;
use self::file_limit::raise_file_limit;
use crate::build_info;

/// Decides where phone calls go, with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "plugboard", version = build_info::LONG_VERSION.as_str())]
pub struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    // The help texts of these two are the doc comments of their types.
    New(new::NewCommand),
    Build(build::BuildCommand),
    /// Run the server
    Serve(serve::ServeCommand),
    /// Ask a running server whether it is ready for calls
    Health(health::HealthCommand),
    /// Check the configuration and plugins without serving
    Check(check::CheckCommand),
    /// Run a plugin on one event and report each step
    Run(run::RunCommand),
    /// Erase all stored data of a call
    Erase(erase::EraseCommand),
    /// Simulate AVR Core: send calls and report the answers
    Simulate(SimulateCommand),
    /// Print the completion script of a shell
    Completions(completions::CompletionsCommand),
    /// Write man pages, one for each command
    Man(man::ManCommand),
}

impl Cli {
    /// Runs the command of the command line.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Subcommands::New(new) => new.run(),
            Subcommands::Build(build) => build.run(),
            Subcommands::Serve(serve) => serve.run(),
            Subcommands::Health(health) => health.run(),
            Subcommands::Check(check) => check.run(),
            Subcommands::Run(run) => run.run(),
            Subcommands::Erase(erase) => erase.run(),
            Subcommands::Simulate(command) => simulate(command),
            Subcommands::Completions(completions) => completions.run(Cli::command()),
            Subcommands::Man(man) => man.run(Cli::command()),
        }
    }
}

/// Simulates calls. The exit status is 0 if all of them succeeded.
fn simulate(command: SimulateCommand) -> ExitCode {
    if let Err(error) = raise_file_limit() {
        eprintln!(
            "plugboard: cannot raise the limit of open files, so fewer calls can run: {error}"
        );
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

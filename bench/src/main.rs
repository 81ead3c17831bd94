//! Load benchmark: Plugboard beside a bare axum handler, in one run.
//!
//! Rounds are interleaved: each round measures every server once, the server on one
//! core and the load generator on another. Only ratios of the same round are
//! comparable, because machines differ and other work comes and goes.

mod compare;
mod cpu;
mod decisions;
mod events;
mod folder;
mod languages;
mod load;
mod reload;
mod server;
mod stats;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

use self::compare::EnvOverride;
use self::load::Load;
use self::server::Server;

/// Core of the server, core of the load generator.
const CORES: (usize, usize) = (0, 1);

/// Requests per second of the latency measurements, far below saturation.
const FIXED_RATE: u32 = 2_000;

/// Default number of rounds.
const ROUNDS: u32 = 21;

/// Rounds of a comparison by default, and the fewest that are accepted.
const COMPARE_ROUNDS: (u32, u32) = (31, 30);

/// Measures Plugboard against a bare axum handler.
#[derive(Parser)]
struct Arguments {
    /// Path of the load generator
    #[arg(long, default_value = "wrk")]
    wrk: PathBuf,
    /// Rounds; each measures every server once [default: 21, with --compare 31]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200))]
    rounds: Option<u32>,
    /// Seconds of load per measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Measure only this part
    #[arg(long)]
    only: Option<Part>,
    /// Compare CPU per request with this `plugboard` executable, and measure nothing else
    #[arg(long, value_name = "OTHER_BINARY", conflicts_with = "only")]
    compare: Option<PathBuf>,
    /// Set an environment variable of OTHER_BINARY (NAME=VALUE) or remove it (NAME); can
    /// be repeated
    #[arg(long, value_name = "NAME[=VALUE]", requires = "compare")]
    compare_env: Vec<EnvOverride>,
    /// Few rounds and small inputs: checks that every part works, and measures nothing
    #[arg(long, hide = true)]
    short: bool,
}

impl Arguments {
    fn rounds(&self) -> anyhow::Result<u32> {
        if self.short {
            return Ok(self.rounds.unwrap_or(1));
        }
        if self.compare.is_none() {
            return Ok(self.rounds.unwrap_or(ROUNDS));
        }
        let (default, least) = COMPARE_ROUNDS;
        let rounds = self.rounds.unwrap_or(default);
        ensure!(rounds >= least, "--compare needs at least {least} rounds, not {rounds}");
        Ok(rounds)
    }
}

/// Part of the benchmark that can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Decisions, beside a bare handler
    Decisions,
    /// Events: acceptance, delivery latency, backlog
    Events,
    /// Reload, start and memory
    Reload,
    /// Plugins in Rust, JavaScript and Python
    Languages,
}

/// Sizes of the inputs.
struct Sizes {
    /// Plugins beside the one that matches the call.
    other_plugins: u32,
    /// Events of the backlog.
    backlog: u64,
    /// Repetitions of a reload and of a start.
    reloads: u32,
    /// Plugins of a start.
    start_plugins: u32,
    /// Starts with a warm compile cache, per language.
    warm_starts: u32,
    /// Flag for a comparison that begins with a round that does not count.
    has_warm_up: bool,
}

impl Sizes {
    const FULL: Self = Self {
        other_plugins: 999,
        backlog: 1_000_000,
        reloads: 7,
        start_plugins: 100,
        warm_starts: 6,
        has_warm_up: true,
    };

    const SHORT: Self = Self {
        other_plugins: 49,
        backlog: 5_000,
        reloads: 1,
        start_plugins: 4,
        warm_starts: 1,
        has_warm_up: false,
    };
}

/// Paths, load generator and sizes that all parts share.
struct Bench {
    /// Directory of `plugboard` and `bare`.
    programs: PathBuf,
    /// Directory of the sample plugins.
    samples: PathBuf,
    /// Directory of the fixture guests.
    guests: PathBuf,
    load: Load,
    /// Flag for a server and a load generator on separate cores.
    pinned: bool,
    rounds: u32,
    sizes: Sizes,
}

impl Bench {
    fn new(arguments: &Arguments, pinned: bool) -> anyhow::Result<Self> {
        let bench = std::env::current_exe()?;
        let programs = bench.parent().context("the bench has no directory")?;
        let time = Duration::from_secs(arguments.seconds.into());
        Ok(Self {
            programs: programs.to_owned(),
            samples: programs.with_file_name("plugins"),
            guests: programs.with_file_name("guests"),
            load: Load::new(&arguments.wrk, pinned, time)?,
            pinned,
            rounds: arguments.rounds()?,
            sizes: if arguments.short { Sizes::SHORT } else { Sizes::FULL },
        })
    }

    /// Returns the path of the `plugboard` executable beside this one.
    fn program(&self) -> PathBuf {
        self.programs.join("plugboard")
    }

    /// Starts the bare axum handler.
    fn bare(&self) -> anyhow::Result<Server> {
        Server::bare(&self.programs.join("bare"), self.pinned)
    }

    /// Starts the `plugboard` executable beside this one.
    fn plugboard(
        &self,
        name: &'static str,
        plugins: &Path,
        env: &[(&str, String)],
    ) -> anyhow::Result<Server> {
        Server::plugboard(name, &self.program(), plugins, env, self.pinned)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the tables are the output of this program")]
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let pinned = std::thread::available_parallelism()?.get() > CORES.1;
    let bench = Bench::new(arguments, pinned)?;
    if !pinned {
        eprintln!("bench: server and load share the only core, so ratios to bare are too low");
    }
    let _awake = keep_cores_awake();
    if let Some(other) = &arguments.compare {
        println!("{}", compare::measure(&bench, other, &arguments.compare_env)?);
        return Ok(());
    }
    let is_wanted = |part| arguments.only.is_none_or(|only| only == part);
    if is_wanted(Part::Decisions) {
        println!("{}\n", decisions::measure(&bench)?);
    }
    if is_wanted(Part::Events) {
        println!("{}\n", events::measure(&bench)?);
    }
    if is_wanted(Part::Reload) {
        println!("{}\n", reload::measure(&bench)?);
    }
    if is_wanted(Part::Languages) {
        println!("{}", languages::measure(&bench)?);
    }
    Ok(())
}

/// Keeps idle cores out of sleep states until the returned file is closed, and reports
/// whether that worked.
///
/// A server slower than the load generator leaves the generator's core idle after every
/// response. Waking that core costs the server time, on a virtual machine a call of the
/// hypervisor. The bare handler keeps the generator busy and does not pay this cost.
fn keep_cores_awake() -> Option<File> {
    let open = || -> std::io::Result<File> {
        let mut file = File::options().write(true).open("/dev/cpu_dma_latency")?;
        // Longest acceptable wake-up latency in microseconds (PM QoS of Linux).
        file.write_all(&0i32.to_ne_bytes())?;
        Ok(file)
    };
    match open() {
        Ok(file) => {
            eprintln!("bench: idle cores are kept awake (/dev/cpu_dma_latency)");
            Some(file)
        }
        Err(error) => {
            eprintln!(
                "bench: idle cores may sleep (/dev/cpu_dma_latency: {error}); on a virtual \
                 machine, waking the load's core costs the slower server some microseconds per \
                 response"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(arguments: &[&str]) -> anyhow::Result<u32> {
        Arguments::try_parse_from([&["bench"], arguments].concat())?.rounds()
    }

    #[test]
    fn rounds_have_minimum_when_comparing() {
        assert_eq!(rounds(&[]).unwrap(), 21);
        assert_eq!(rounds(&["--rounds", "3"]).unwrap(), 3);
        assert_eq!(rounds(&["--compare", "other"]).unwrap(), 31);
        assert_eq!(rounds(&["--compare", "other", "--rounds", "30"]).unwrap(), 30);
        assert!(rounds(&["--compare", "other", "--rounds", "29"]).is_err());
        assert_eq!(rounds(&["--compare", "other", "--short", "--rounds", "2"]).unwrap(), 2);
    }

    #[test]
    fn comparison_options_are_checked() {
        assert!(rounds(&["--compare", "other", "--only", "events"]).is_err());
        assert!(rounds(&["--compare-env", "A=b"]).is_err());
        assert!(rounds(&["--compare", "other", "--compare-env", "=b"]).is_err());
        assert!(rounds(&["--compare", "other", "--compare-env", "A=b"]).is_ok());
    }
}

//! The bench: load against a bare axum handler and against Plugboard, in one
//! run, rounds interleaved, server on one core and load on another. What counts
//! are the ratios of the same round: machines differ and are never quiet.

mod events;
mod folder;
mod languages;
mod load;
mod reload;
mod server;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use self::folder::{Data, Folder};
use self::load::{Load, Rate};
use self::server::Server;
use self::table::{Measured, Table};

/// The core of the server, and the core of the load.
const CORES: (usize, usize) = (0, 1);

/// Below saturation: what a server of voice calls may see on a bad day.
const FIXED_RATE: u32 = 2_000;

/// Measures Plugboard against a bare axum handler.
#[derive(Parser)]
struct Arguments {
    /// The load generator
    #[arg(long, default_value = "wrk")]
    wrk: PathBuf,
    /// Rounds; each measures every server once. Many short ones, as other work of
    /// the machine comes and goes
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds of load for one measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

/// A part of the bench.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Decisions, beside a bare handler
    Decisions,
    /// Events: acceptance, delay, backlog
    Events,
    /// Reload, restart and memory
    Reload,
    /// Plugins in Rust, JavaScript and Python
    Languages,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("the bench has no folder")?;
    let pinned = std::thread::available_parallelism()?.get() > CORES.1;
    if !pinned {
        eprintln!("bench: one core only: server and load share it, and ratios flatter everybody");
    }
    let awake = keep_awake();
    match &awake {
        Ok(_) => eprintln!("bench: idle cores are kept awake (/dev/cpu_dma_latency)"),
        Err(error) => eprintln!(
            "bench: idle cores may sleep (/dev/cpu_dma_latency: {error}); on a virtual machine, \
             waking the load's core then costs the slower server some microseconds per answer"
        ),
    }
    let does = |part| arguments.only.is_none_or(|only| only == part);
    let load = Load::new(&arguments.wrk, pinned, Duration::from_secs(arguments.seconds.into()))?;
    if does(Part::Decisions) {
        println!("{}\n", decisions(programs, &load, arguments.rounds, pinned)?);
    }
    if does(Part::Events) {
        let guests = programs.with_file_name("guests");
        let places = events::Places { programs, guests: &guests, pinned };
        println!("{}\n", events::measure(&places, &load, arguments.rounds)?);
    }
    if does(Part::Reload) {
        let (program, samples) = (programs.join("plugboard"), programs.with_file_name("plugins"));
        println!("{}\n", reload::measure(&program, &samples, pinned)?);
    }
    if does(Part::Languages) {
        let samples = programs.with_file_name("plugins");
        let rounds = arguments.rounds;
        println!("{}", languages::measure(programs, &samples, &load, rounds, pinned)?);
    }
    drop(awake);
    Ok(())
}

/// Decisions, beside a bare handler.
fn decisions(programs: &Path, load: &Load, rounds: u32, pinned: bool) -> anyhow::Result<String> {
    let (program, samples) = (programs.join("plugboard"), programs.with_file_name("plugins"));
    let plan = Folder::of_one(&samples)?;
    let many = Folder::of_one(&samples)?.with_others(999, false)?;
    let data = Data::new()?;
    let data = data.path().display().to_string();
    let serve = |name, folder: &Folder, settings: &[_]| {
        Server::plugboard(name, &program, folder.path(), settings, pinned)
    };
    let uncached = |nth: u32| {
        [
            ("PLUGBOARD_CACHE_ENABLED", "false".to_owned()),
            ("PLUGBOARD_DATA", format!("{data}/{nth}")),
        ]
    };
    let servers = [
        Server::bare(&programs.join("bare"), pinned)?,
        serve("uncached, 1 plugin", &plan, &uncached(1))?,
        serve("1,000 plugins, 1 fits", &many, &uncached(2))?,
        serve("cached decision", &plan, &[("PLUGBOARD_DATA", format!("{data}/3"))])?,
    ];
    let mut table = Table::new(servers.iter().map(|server| server.name));
    for round in 1..=rounds {
        for (row, server) in servers.iter().enumerate() {
            eprintln!("round {round} of {rounds}: {}", server.name);
            let cpu = server.cpu_time()?;
            let full = load.run(&server.url, Rate::Full)?;
            let cpu = server.cpu_time()?.saturating_sub(cpu);
            let fixed = load.run(&server.url, Rate::Fixed(FIXED_RATE))?;
            table.add(row, Measured { full, cpu, fixed });
        }
    }
    let compared = table.compare(2, 1).context("a row is missing")?;
    Ok(format!("{}\n{compared}", table.render(FIXED_RATE)?))
}

/// Keeps idle cores from sleeping for as long as the file is open, if we may.
///
/// A server that is slower than the load lets the load's core fall idle after
/// every answer; waking it is the server's work, and on a virtual machine goes
/// through the hypervisor. That is a price of the machine, not of the server,
/// and the bare handler, which keeps the load busy, does not pay it.
fn keep_awake() -> std::io::Result<File> {
    let mut file = File::options().write(true).open("/dev/cpu_dma_latency")?;
    // The longest acceptable wake-up in microseconds, as Linux's PM QoS takes it.
    file.write_all(&0i32.to_ne_bytes())?;
    Ok(file)
}

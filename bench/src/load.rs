//! The load: wrk with a script that posts different calls and checks every
//! answer.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::CORES;
use crate::server::SECRET;

/// The script for wrk, whose first lines are made here.
const SCRIPT: &str = include_str!("load.lua");

/// Connections at full rate, as many as a busy AVR Core holds.
const CONNECTIONS: u32 = 32;

/// Connections at a fixed rate; each waits between requests.
const FIXED_CONNECTIONS: u32 = 20;

/// What is posted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// Calls that are to be decided.
    Calls,
    /// What was said in calls.
    Events,
}

/// The load generator.
pub(crate) struct Load {
    wrk: PathBuf,
    pinned: bool,
    time: Duration,
    scripts: TempDir,
    runs: Cell<u32>,
}

/// How much load.
#[derive(Clone, Copy)]
pub(crate) enum Rate {
    /// As much as the server takes.
    Full,
    /// The same, over so many connections.
    Many(u32),
    /// So many requests per second.
    Fixed(u32),
}

/// What one run of load saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Load {
    pub(crate) fn new(wrk: &Path, pinned: bool, time: Duration) -> anyhow::Result<Self> {
        Ok(Self { wrk: wrk.to_owned(), pinned, time, scripts: TempDir::new()?, runs: Cell::new(0) })
    }

    /// Puts load on a server.
    ///
    /// # Errors
    ///
    /// When a single answer is not what it should be.
    pub(crate) fn run(&self, url: &str, rate: Rate) -> anyhow::Result<Seen> {
        self.post(url, Posted::Calls, rate)
    }

    /// As [`Load::run`], of what is posted.
    pub(crate) fn post(&self, url: &str, posted: Posted, rate: Rate) -> anyhow::Result<Seen> {
        let (connections, delay) = match rate {
            Rate::Full => (CONNECTIONS, 0),
            Rate::Many(connections) => (connections, 0),
            Rate::Fixed(rate) => (FIXED_CONNECTIONS, 1_000 * FIXED_CONNECTIONS / rate),
        };
        let script = self.scripts.path().join("load.lua");
        let run = self.runs.replace(self.runs.get() + 1);
        let settings = format!(
            "secret = {SECRET:?}\npause = {delay}\nsaid = {}\nminute = {}\nsecond = {}\n",
            posted == Posted::Events,
            run / 60 % 60,
            run % 60
        );
        std::fs::write(&script, settings + SCRIPT)?;
        let mut command = pinned(&self.wrk, self.pinned.then_some(CORES.1));
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command.arg("--duration").arg(format!("{}s", self.time.as_secs()));
        command.arg("--script").arg(&script).arg(url);
        let output = command.output().with_context(|| format!("{}", self.wrk.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {said}{}", String::from_utf8_lossy(&output.stderr));
        parse(&said).with_context(|| format!("wrk said:\n{said}"))
    }
}

/// A program on one core, or anywhere.
pub(crate) fn pinned(program: &Path, core: Option<usize>) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string()]).arg(program);
            command
        }
    }
}

/// Reads the line that the script prints at the end.
fn parse(said: &str) -> anyhow::Result<Seen> {
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT ")).context("no result")?;
    let mut numbers = line.split(' ').map(str::parse::<u64>);
    let mut next = || anyhow::Ok(numbers.next().context("too few numbers")??);
    let (requests, microseconds, wrong, errors, p50, p99) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if wrong + errors > 0 {
        bail!("{wrong} wrong answers and {errors} errors in {requests} requests");
    }
    ensure!(requests > 0 && microseconds > 0, "nothing was answered");
    Ok(Seen {
        requests,
        per_second: requests as f64 * 1e6 / microseconds as f64,
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
    })
}

//! Load generator: wrk with a script that posts different calls and checks every
//! response.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::CORES;
use crate::server::SECRET;

/// Script for wrk, without the lines of settings that precede it.
const SCRIPT: &str = include_str!("load.lua");

/// Connections at full rate: as many as a busy AVR Core holds.
const CONNECTIONS: u32 = 32;

/// Connections at a fixed rate; each pauses between requests.
const FIXED_CONNECTIONS: u32 = 20;

/// Kind of the requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Starts of calls, each to be decided.
    Decisions,
    /// Transcription events of calls.
    Events,
}

/// Rate of the requests.
#[derive(Clone, Copy)]
pub(crate) enum Rate {
    /// As many requests as the server answers.
    Full,
    /// As many requests as the server answers, over this number of connections.
    FullOver(u32),
    /// Fixed number of requests per second.
    Fixed(u32),
}

/// The load generator and its scripts.
pub(crate) struct Load {
    wrk: PathBuf,
    pinned: bool,
    time: Duration,
    scripts: TempDir,
    runs: Cell<u32>,
}

/// Result of one run of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoadResult {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Load {
    pub(crate) fn new(wrk: &Path, pinned: bool, time: Duration) -> anyhow::Result<Self> {
        Ok(Self { wrk: wrk.to_owned(), pinned, time, scripts: TempDir::new()?, runs: Cell::new(0) })
    }

    /// Runs load against a URL.
    ///
    /// # Errors
    ///
    /// If wrk fails, or any response is not the expected one.
    pub(crate) fn run(
        &self,
        url: &str,
        workload: Workload,
        rate: Rate,
    ) -> anyhow::Result<LoadResult> {
        let (connections, pause) = match rate {
            Rate::Full => (CONNECTIONS, 0),
            Rate::FullOver(connections) => (connections, 0),
            Rate::Fixed(rate) => (FIXED_CONNECTIONS, 1_000 * FIXED_CONNECTIONS / rate),
        };
        let script = self.scripts.path().join("load.lua");
        let run = self.runs.replace(self.runs.get() + 1);
        let settings = format!(
            "secret = {SECRET:?}\npause = {pause}\nevents = {}\nminute = {}\nsecond = {}\n",
            workload == Workload::Events,
            run / 60 % 60,
            run % 60
        );
        std::fs::write(&script, settings + SCRIPT)?;
        let mut command = pinned(&self.wrk, self.pinned.then_some(CORES.1));
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command.arg("--duration").arg(format!("{}s", self.time.as_secs()));
        command.arg("--script").arg(&script).arg(url);
        let output = command.output().with_context(|| format!("{}", self.wrk.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        parse(&text).with_context(|| format!("wrk printed:\n{text}"))
    }
}

/// Returns a command that runs on one core, or on any.
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

/// Parses the line that the script prints at the end.
fn parse(text: &str) -> anyhow::Result<LoadResult> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT ")).context("no result")?;
    let mut numbers = line.split(' ').map(str::parse::<u64>);
    let mut next = || anyhow::Ok(numbers.next().context("too few numbers")??);
    let (requests, microseconds, wrong, errors, p50, p99) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if wrong + errors > 0 {
        bail!("{wrong} wrong responses and {errors} errors in {requests} requests");
    }
    ensure!(requests > 0 && microseconds > 0, "no request was answered");
    Ok(LoadResult {
        requests,
        per_second: requests as f64 * 1e6 / microseconds as f64,
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_line_is_parsed() {
        let result = parse("Running\nRESULT 500 250000 0 0 30 90\n").unwrap();
        let (p50, p99) = (Duration::from_micros(30), Duration::from_micros(90));
        assert_eq!(result, LoadResult { requests: 500, per_second: 2_000.0, p50, p99 });
    }

    #[test]
    fn wrong_responses_and_errors_fail() {
        for line in ["RESULT 500 250000 1 0 3 9", "RESULT 500 250000 0 1 3 9", "RESULT 0 1 0 0 0 0"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("RESULT 500 250000").is_err());
        assert!(parse("").is_err());
    }
}

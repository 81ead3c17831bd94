//! `plugboard simulate`: plays AVR Core, to try plugins and to measure.
//!
//! It plays the platform's side of the webhook. It shares only units and client TLS with the
//! server, so that a defect of the server is not repeated here.

#![forbid(unsafe_code)]

mod driver;
mod end;
mod monitor;
mod report;
mod scenario;
mod sender;
mod stats;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::builder::RangedU64ValueParser;
use indicatif::ProgressBar;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::de::{IntoDeserializer, value};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::driver::{LoadProfile, Simulation};
use self::end::SimulationEnd;
use self::monitor::{EventOutput, SimulationMonitor};
use self::report::SimulationReport;
use self::scenario::CallScript;
use self::sender::EventSender;
use plugboard_core::units;

/// The variable with AVR Core's secret, used without `--secret`.
const SECRET_ENV_VAR: &str = "WEBHOOK_SECRET";

/// Simulate AVR Core: send calls and report the answers.
#[derive(clap::Args)]
#[command(after_help = "The exit status is 0 if all calls were played and every event was \
                        acknowledged (2xx), 1 if not, and 2 if the command line is invalid.")]
pub struct SimulateCommand {
    /// URL to which events are posted
    #[arg(default_value = "http://127.0.0.1:9000/events", value_parser = address)]
    url: Url,
    /// Shared secret [default: the variable WEBHOOK_SECRET, if it is set]
    #[arg(long, value_parser = HeaderValue::from_str)]
    secret: Option<HeaderValue>,
    /// Number of calls
    #[arg(long, value_name = "N", default_value = "1", value_parser = between(1, 1_000_000))]
    calls: u64,
    /// Calls that start per second [default: as many as --concurrency allows]
    #[arg(long, value_name = "CALLS_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Concurrent calls, at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = concurrency)]
    concurrency: NonZeroU32,
    /// Events of each call between call_started and call_ended
    #[arg(long, value_name = "N", default_value = "8", value_parser = between(0, 1_000_000))]
    events: u64,
    /// Time between the events of a call, such as 100ms
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration_or_zero)]
    event_interval: Duration,
    /// Number of the caller
    #[arg(long, value_name = "NUMBER", default_value = "2000")]
    from: String,
    /// Called number; if given several times, calls use them in turn
    #[arg(long, value_name = "NUMBER", default_value = "5001")]
    to: Vec<String>,
    /// Time limit for an answer (AVR Core's WEBHOOK_TIMEOUT)
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,
    /// Immediate retries of a failed event (AVR Core's WEBHOOK_RETRY)
    #[arg(long, value_name = "N", default_value = "0", value_parser = between(0, 100))]
    retries: u64,
    /// Stop after this time, also if calls remain
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    max_duration: Duration,
    /// Write every acknowledged event to this file, one line of JSON for each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Seed of the simulated speech, for the same events in every run [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Show every event with its answer [default: with one call and without --json]
    #[arg(long)]
    show: bool,
    /// Print the report as JSON; --show then writes to standard error
    #[arg(long)]
    json: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// The reason why a run could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The command line or the environment is invalid.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// The calls could not be played, or the report could not be written.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl SimulateCommand {
    /// Plays the calls and prints the report. Returns whether every call was played and
    /// every event acknowledged.
    ///
    /// # Errors
    ///
    /// Fails if the secret in the environment cannot be used, or the calls cannot be played.
    pub fn run(mut self) -> Result<bool, SimulateError> {
        if self.secret.is_none() {
            self.secret = read_secret_from_environment().map_err(SimulateError::Usage)?;
        }
        let json = self.json;
        runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start threads")
            .and_then(|runtime| {
                runtime.block_on(async {
                    let stop = stop_signal()?;
                    self.play(stop).await
                })
            })
            .and_then(|(report, record_error)| {
                print_report(&report, json).context("cannot print the report")?;
                record_error.map_or(Ok(report.is_success()), Err)
            })
            .map_err(SimulateError::Failed)
    }

    /// Plays all calls, unless the run is stopped. Returns the report, and an error that
    /// occurred besides.
    async fn play(
        self,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<(SimulationReport, Option<anyhow::Error>)> {
        let retries = u32::try_from(self.retries)?;
        let events = u32::try_from(self.events)?;
        let event_output = match (self.show, self.json) {
            (true, true) => Some(EventOutput::Stderr),
            (true, false) => Some(EventOutput::Stdout),
            (false, json) => (self.calls == 1 && !json).then_some(EventOutput::Stdout),
        };
        let bar = match (event_output, self.quiet) {
            (None, false) => monitor::progress_bar(self.calls),
            _ => ProgressBar::hidden(),
        };
        let record_path = self.record.as_deref();
        let record_name = record_path.unwrap_or("the record".as_ref()).display();
        let monitor = SimulationMonitor::new(record_path, event_output, bar)
            .with_context(|| format!("cannot write {record_name}"))?;
        let sender = EventSender::new(self.url, self.secret, self.timeout, retries)?;
        let url = sender.redacted_url();
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let script = CallScript { from: self.from, to: self.to, event_count: events, seed };
        let (calls, rate, concurrency) = (self.calls, self.rate, self.concurrency);
        let load_profile = LoadProfile {
            calls,
            rate,
            concurrency,
            event_interval: self.event_interval,
            max_duration: self.max_duration,
        };
        let simulation = Arc::new(Simulation::new(script, load_profile, sender, monitor));

        let start = Instant::now();
        let ending = simulation.play(stop).await;
        let elapsed = start.elapsed();
        simulation.monitor.finish();
        let (stopped, record_error) = match ending {
            SimulationEnd::Complete => (None, None),
            SimulationEnd::Interrupted => (Some("interrupted"), None),
            SimulationEnd::TimeLimitReached => (Some("time limit reached"), None),
            SimulationEnd::RecordFailed(error) => {
                let error = anyhow!(error).context(format!("cannot write {record_name}"));
                (Some("cannot record"), Some(error))
            }
            SimulationEnd::Unreachable(cause) => anyhow::bail!(
                "cannot connect to {url}: {cause}; start the server with `plugboard serve`, or \
                 give the URL of its webhook listener"
            ),
        };
        Ok((
            SimulationReport::new(&simulation.monitor.stats(), url, calls, elapsed, stopped),
            record_error,
        ))
    }
}

fn print_report(report: &SimulationReport, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(out.flush()?)
}

/// Resolves on SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Reads the secret. clap does not read it, because it would show the value in its help.
fn read_secret_from_environment() -> anyhow::Result<Option<HeaderValue>> {
    std::env::var_os(SECRET_ENV_VAR)
        .filter(|secret| !secret.is_empty())
        .map(|secret| HeaderValue::from_bytes(secret.as_bytes()))
        .transpose()
        .with_context(|| format!("the secret in {SECRET_ENV_VAR} cannot be sent in a header"))
}

fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("expected an address that begins with http:// or https://".to_owned()),
    }
}

fn between(least: u64, most: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(least..=most)
}

/// Each concurrent call may need a connection, which is a file.
const MAX_CONCURRENCY: u32 = 10_000;

fn concurrency(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|number: &NonZeroU32| number.get() <= MAX_CONCURRENCY)
        .ok_or_else(|| format!("expected a number from 1 to {MAX_CONCURRENCY}"))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=1_000_000.0).contains(rate))
        .ok_or_else(|| "expected a number from 0.001 to 1000000".to_owned())
}

fn duration(text: &str) -> Result<Duration, value::Error> {
    units::duration::deserialize(text.into_deserializer())
}

fn duration_or_zero(text: &str) -> Result<Duration, value::Error> {
    units::duration_or_none::deserialize(text.into_deserializer()).map(Option::unwrap_or_default)
}

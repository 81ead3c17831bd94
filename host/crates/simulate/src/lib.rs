//! `plugboard simulate`: plays AVR Core, to try plugins and to measure.
//!
//! It plays the platform's side of the webhook and shares no code with the server but units and
//! TLS for clients, so that a mistake of the server is not repeated here.

#![forbid(unsafe_code)]

mod driver;
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

use self::driver::{LoadProfile, Simulation, SimulationEnd};
use self::monitor::{EventOutput, SimulationMonitor};
use self::report::SimulationReport;
use self::scenario::CallScript;
use self::sender::EventSender;
use plugboard_core::units;

/// The variable with AVR Core's secret, used without `--secret`.
const SECRET_ENV_VAR: &str = "WEBHOOK_SECRET";

/// Play AVR Core: send whole calls and report how they were answered.
#[derive(clap::Args)]
#[command(after_help = "The exit status is 0 if all calls were played and every event was \
                        acknowledged (2xx), 1 if not, and 2 if the command line makes no sense.")]
pub struct SimulateCommand {
    /// Where events are posted
    #[arg(default_value = "http://127.0.0.1:9000/events", value_parser = address)]
    url: Url,
    /// The shared secret [default: the variable WEBHOOK_SECRET, if it is set]
    #[arg(long, value_parser = HeaderValue::from_str)]
    secret: Option<HeaderValue>,
    /// Calls to play
    #[arg(long, value_name = "N", default_value = "1", value_parser = between(1, 1_000_000))]
    calls: u64,
    /// Calls to begin per second [default: as many as --concurrency allows]
    #[arg(long, value_name = "CALLS_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Calls at the same time, at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = concurrency)]
    concurrency: NonZeroU32,
    /// Events of a call between call_started and call_ended
    #[arg(long, value_name = "N", default_value = "8", value_parser = between(0, 1_000_000))]
    events: u64,
    /// Pause between the events of a call, such as 100ms
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = pause)]
    pace: Duration,
    /// Who calls
    #[arg(long, value_name = "NUMBER", default_value = "2000")]
    from: String,
    /// Who is called; given several times, each in turn
    #[arg(long, value_name = "NUMBER", default_value = "5001")]
    to: Vec<String>,
    /// How long an answer is waited for (AVR Core's WEBHOOK_TIMEOUT)
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,
    /// Further attempts for an event that failed, at once (AVR Core's WEBHOOK_RETRY)
    #[arg(long, value_name = "N", default_value = "0", value_parser = between(0, 100))]
    retries: u64,
    /// Stop after this time, whatever is left to do
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    time: Duration,
    /// Write every acknowledged event to this file, as a line of JSON each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Say the same in every run [default: by chance]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Show every event with its answer [default: if there is one call, and no --json]
    #[arg(long)]
    show: bool,
    /// Report as JSON; what --show shows is on standard error then
    #[arg(long)]
    json: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// Why a run could not be completed.
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
    /// When the secret in the environment cannot be used, or the calls cannot be played.
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

    /// Plays all calls, unless it is stopped. Returns the report, and an error that
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
            event_interval: self.pace,
            max_duration: self.time,
        };
        let simulation = Arc::new(Simulation::new(script, load_profile, sender, monitor));

        let start = Instant::now();
        let ending = simulation.play(stop).await;
        let elapsed = start.elapsed();
        simulation.monitor.finish();
        let (stopped, record_error) = match ending {
            SimulationEnd::Complete => (None, None),
            SimulationEnd::Interrupted => (Some("interrupted"), None),
            SimulationEnd::TimeLimitReached => (Some("time is up"), None),
            SimulationEnd::RecordFailed(error) => {
                let error = anyhow!(error).context(format!("cannot write {record_name}"));
                (Some("cannot record"), Some(error))
            }
            SimulationEnd::Unreachable(cause) => anyhow::bail!(
                "cannot connect to {url}: {cause}; is Plugboard there? Start it with \
                 `plugboard serve`, or give the address where it takes webhooks"
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

/// Not read by clap, which would show the value in its help.
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

fn pause(text: &str) -> Result<Duration, value::Error> {
    units::duration_or_none::deserialize(text.into_deserializer()).map(Option::unwrap_or_default)
}

//! Events: acceptance rate beside a handler that only parses and acknowledges them,
//! delivery latency, and the cost of a large backlog.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::folder::{Data, PluginFolder};
use crate::load::{Rate, Workload};
use crate::server::Server;
use crate::stats::{Ratio, median};
use crate::{Bench, FIXED_RATE};

/// Concurrent senders. Their events share transactions (group commit).
pub(crate) const SENDERS: u32 = 256;

/// Longest wait for the backlog to be posted or delivered.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Interval between requests for the state of a plugin.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Plugboard with one observer.
pub(crate) struct Observed {
    pub(crate) server: Server,
    folder: PluginFolder,
    data: Data,
}

impl Observed {
    /// Starts a `plugboard` executable. `env` receives the environment variables of
    /// the bench and returns those of the server.
    pub(crate) fn start<'a>(
        bench: &Bench,
        program: &Path,
        name: &'static str,
        sync: &str,
        env: impl FnOnce(Vec<(&'static str, String)>) -> Vec<(&'a str, String)>,
    ) -> anyhow::Result<Self> {
        let (folder, data) = (PluginFolder::observer(&bench.guests)?, Data::new()?);
        let env = env(vec![data.env(), ("PLUGBOARD_JOURNAL_SYNC", sync.to_owned())]);
        let server = Server::plugboard(name, program, folder.path(), &env, bench.pinned)?;
        Ok(Self { server, folder, data })
    }

    /// Enables or disables the observer, and waits until that is in effect. A disabled
    /// observer leaves its events in the journal.
    pub(crate) fn enable_observer(&self, enabled: bool) -> anyhow::Result<()> {
        self.folder.enable_observer(enabled)?;
        let state = if enabled { "active" } else { "disabled" };
        let begin = Instant::now();
        while self.server.plugin("/state")? != state {
            ensure!(begin.elapsed() < TIMEOUT, "the observer is not {state}");
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Waits until this number of events was delivered. Calls `meanwhile` between two
    /// requests for the state.
    fn wait_for_delivery(
        &self,
        events: u64,
        mut meanwhile: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let delivered = self.server.plugin("/events/delivered")?.as_u64();
            if delivered >= Some(events) {
                return Ok(());
            }
            ensure!(begin.elapsed() < TIMEOUT, "{delivered:?} of {events} events were delivered");
            meanwhile()?;
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn start(bench: &Bench, name: &'static str, sync: &str) -> anyhow::Result<Observed> {
    Observed::start(bench, &bench.program(), name, sync, |env| env)
}

/// Measures events, and returns a table and some lines.
pub(crate) fn measure(bench: &Bench) -> anyhow::Result<String> {
    let accepted = acceptance(bench)?;
    let latency = delivery_latency(bench)?;
    let backlog = backlog(bench)?;
    Ok(format!("{accepted}{latency}\n{backlog}"))
}

/// One server with its measurements, a round each.
struct Row {
    name: &'static str,
    /// Accepted events per second.
    rates: Vec<f64>,
    /// CPU time per event in microseconds.
    cpu: Vec<f64>,
}

/// Measures acceptance with a durable journal, beside the bare handler.
fn acceptance(bench: &Bench) -> anyhow::Result<String> {
    let bare = bench.bare()?;
    let full = start(bench, "sync = full", "full")?;
    let normal = start(bench, "sync = normal", "normal")?;
    let delivered = start(bench, "sync = full, delivered", "full")?;
    // The first two accept events for an observer, but do not deliver them.
    full.enable_observer(false)?;
    normal.enable_observer(false)?;
    let servers = [&bare, &full.server, &normal.server, &delivered.server];
    let mut rows =
        servers.map(|server| Row { name: server.name, rates: Vec::new(), cpu: Vec::new() });
    let mut posted = 0;
    for round in 1..=bench.rounds {
        for (row, server) in rows.iter_mut().zip(servers) {
            eprintln!("events, round {round} of {}: {}", bench.rounds, server.name);
            let before = server.cpu_time()?;
            let load = bench.load.run(&server.url, Workload::Events, Rate::FullOver(SENDERS))?;
            let cpu = server.cpu_time()?.since(&before);
            row.rates.push(load.per_second);
            row.cpu.push(cpu.as_secs_f64() * 1e6 / load.requests as f64);
            if server.name == delivered.server.name {
                posted += load.requests;
                delivered.wait_for_delivery(posted, || Ok(()))?;
            }
        }
    }
    let base = rows.first().context("no server was measured")?;
    let mut text = format!(
        "{:<24} {:>10} {:>20} {:>10} {:>22}\n",
        "accepted events", "events/s", "/ bare (range)", "CPU µs", "x bare (range)"
    );
    for row in &rows {
        writeln!(
            text,
            "{:<24} {:>10.0} {:>20} {:>10.1} {:>22}",
            row.name,
            median(row.rates.iter().copied()),
            Ratio::of(&row.rates, &base.rates)?,
            median(row.cpu.iter().copied()),
            Ratio::of(&row.cpu, &base.cpu)?,
        )?;
    }
    writeln!(
        text,
        "{SENDERS} senders. CPU is that of the process while events are accepted. Medians over {} \
         rounds.",
        bench.rounds
    )?;
    Ok(text)
}

/// Measures the time from acceptance to delivery, far below saturation.
fn delivery_latency(bench: &Bench) -> anyhow::Result<String> {
    let observed = start(bench, "delivery latency", "full")?;
    eprintln!("events: delivery latency");
    let load = bench.load.run(&observed.server.url, Workload::Events, Rate::Fixed(FIXED_RATE))?;
    observed.wait_for_delivery(load.requests, || Ok(()))?;
    let latency = observed.server.plugin("/events/delivery_latency_us")?;
    Ok(format!(
        "at {FIXED_RATE} events/s: acknowledged after {} µs (p50), {} µs (p99); from acceptance to \
         delivery in µs (resolution 1 ms): {latency}",
        load.p50.as_micros(),
        load.p99.as_micros(),
    ))
}

/// Measures memory and disk while a backlog grows for a disabled observer, and while it is
/// delivered.
fn backlog(bench: &Bench) -> anyhow::Result<String> {
    const MIB: f64 = 1024.0 * 1024.0;
    let observed = start(bench, "backlog", "normal")?;
    let server = &observed.server;
    observed.enable_observer(false)?;
    let wanted = bench.sizes.backlog;
    eprintln!("events: backlog of {wanted}");
    let post = || {
        let load = bench.load.run(&server.url, Workload::Events, Rate::FullOver(SENDERS))?;
        anyhow::Ok(load.requests)
    };
    // The first load opens connections and fills caches.
    let mut posted = post()?;
    let before = server.resident()?;
    let begin = Instant::now();
    while posted < wanted {
        ensure!(begin.elapsed() < TIMEOUT, "only {posted} of {wanted} events were posted");
        posted += post()?;
    }
    let after = server.resident()?;
    let disk: u64 = std::fs::read_dir(observed.data.path())?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|file| file.len())
        .sum();
    observed.enable_observer(true)?;
    let (begin, mut peak) = (Instant::now(), after);
    observed.wait_for_delivery(posted, || {
        peak = peak.max(server.resident()?);
        Ok(())
    })?;
    Ok(format!(
        "backlog of {posted} events: resident memory {:.0} MiB before, {:.0} MiB with the backlog, \
         at most {:.0} MiB during delivery; {:.0} events/s delivered; {:.0} MiB on disk",
        before as f64 / MIB,
        after as f64 / MIB,
        peak as f64 / MIB,
        posted as f64 / begin.elapsed().as_secs_f64(),
        disk as f64 / MIB
    ))
}
